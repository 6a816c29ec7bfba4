"""Bijections one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genkit import Factory, KeepsWatch, Shape
from genkit_flow.bijection import Bijection, Way


class Chain(nn.Module, KeepsWatch):
    r"""The composition of bijections, :math:`f = f_L \circ \dots \circ f_1`; log-determinants add up.

    It notes, without making the device wait, whose log-determinant was the first in training not to be finite.

    Args:
        bijections: The bijections, from data to latents.
        shape: The shape of one example.
        context_shape: The shape of the context that all of them are given, if there is one.

    Raises:
        ValueError: Two of them go only one way each, and not the same.

    Attributes:
        in_shape: The shape of one example.
        out_shape: The shape of its latent.
    """

    first_bad: Tensor
    open: Tensor

    def __init__(
        self, bijections: Sequence[Factory[Bijection]], shape: Shape, context_shape: Shape | None = None
    ) -> None:
        super().__init__()
        self.names = [factory.name for factory in bijections]
        self.in_shape = self.out_shape = tuple(shape)
        steps: list[Bijection] = []
        for factory in bijections:
            steps.append(factory(self.out_shape, context_shape))
            self.out_shape = steps[-1].out_shape
        self.steps = nn.ModuleList(steps)
        self.register_buffer("first_bad", torch.tensor(-1), persistent=False)
        self.register_buffer("open", torch.tensor(True), persistent=False)
        self._refuse_opposite_ways()

    def each(self) -> list[Bijection]:
        """The bijections, from data to latents."""
        return [step for step in self.steps if isinstance(step, Bijection)]

    @property
    def one_way(self) -> Way | None:
        """The only way that all of them go; ``None`` if they go both."""
        return next((step.one_way for step in self.each() if step.one_way), None)

    def _refuse_opposite_ways(self) -> None:
        ways = {step.one_way: name for name, step in zip(self.names, self.each(), strict=True) if step.one_way}
        if len(ways) > 1:
            raise ValueError(
                f"{ways['forward']} goes only from data to latents, {ways['inverse']} only from latents to data: "
                "there is no way through both"
            )

    def why_one_way(self) -> str:
        """The reason why the other way is closed, for who needs it."""
        goes = "data to latents" if self.one_way == "forward" else "latents to data"
        index, step = next((index, step) for index, step in enumerate(self.each()) if step.one_way)
        place = f"bijection {index} ({self.names[index]})"
        inner = step.why_one_way()
        return f"{inner}, within {place}" if inner else f"{place} goes only from {goes}, not back"

    @torch.no_grad()
    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Shows each bijection the first batch as the ones before it leave it."""
        for step in self.each():
            step.start(x, context)
            x = step(x, context)[0]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From data to latents, with the log-determinant in nats."""
        log_dets: list[Tensor] = []
        for step in self.each():
            x, log_det = step(x, context)
            log_dets.append(log_det)
        return x, self._total(x, log_dets, range(len(log_dets)))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From latents to data, with the log-determinant in nats."""
        log_dets: list[Tensor] = []
        for step in reversed(self.each()):
            z, log_det = step.inverse(z, context)
            log_dets.append(log_det)
        return z, self._total(z, log_dets, range(len(log_dets))[::-1])

    def _total(self, x: Tensor, log_dets: list[Tensor], order: Sequence[int]) -> Tensor:
        if not log_dets:
            return x.new_zeros(len(x))
        every = torch.stack(log_dets)  # (L, B)
        if self.training:
            self._watch(every, order)
        return every.sum(0)

    @torch.no_grad()
    def _watch(self, log_dets: Tensor, order: Sequence[int]) -> None:
        bad = ~torch.isfinite(log_dets).all(1)  # (L,)
        place = bad.int().argmax()
        index = place if order[0] <= order[-1] else len(order) - 1 - place
        first = torch.where(bad.any() & (self.first_bad < 0) & self.open, index, self.first_bad)
        self.first_bad.copy_(first)

    def close(self, sound: Tensor) -> None:
        """Notes nothing any more after a step whose figures were not finite."""
        self.open.logical_and_(sound)

    def complaint(self) -> str:
        """Whose log-determinant was not finite."""
        index = int(self.first_bad)
        return "" if index < 0 else f"the log-determinant of bijection {index} ({self.names[index]}) was not finite"
