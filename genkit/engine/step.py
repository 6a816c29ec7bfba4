"""One training step: every turn of every player."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from genkit.dataset import Batch
from genkit.engine.device import Precision, autocast
from genkit.engine.player import Player, moves_all
from genkit.engine.shared import SharedLoss
from genkit.engine.world import World
from genkit.errors import GenkitError
from genkit.model import KeepsWatch
from genkit.objective import Loss, Progress, Turn

if TYPE_CHECKING:
    from genkit.engine.sharded import ShardedLoss

Clip = float | Mapping[str, float] | None
T = TypeVar("T")


def compiled(loss: Callable[[Batch, Progress], Loss]) -> Callable[[Batch, Progress], Loss]:
    """A loss through ``torch.compile``, with the random numbers that it draws without."""
    return torch.compile(loss, options={"fallback_random": True})


class TrainStep:
    """Takes the turns of one step in their order.

    Args:
        turns: The objective's turns.
        players: The players by name.
        device: Where training happens.
        accumulate: Batches whose gradients are averaged into one optimizer step.
        clip_norm: Largest gradient norm, for all turns or by turn.
        precision: Arithmetic of the losses.
        after: Called when the step is over, for moving averages, with whether no move of it was skipped; ``None`` where
            none ever is.
        watchers: Who is told whether a step's figures were finite.
        owners: The modules that the parameters belong to: the model and the objective.
        skips: Whether a move that is not finite is skipped, what it left in the owners' buffers taken back.
        compiles: Whether losses go through ``torch.compile``.
        world: The processes that train together.
        share: Makes of a turn and its player's parameters the loss that several processes compute together.

    Attributes:
        names: The names of a step's figures.
        finite: Whether the last step's figures were, as far as that can be known without waiting for a device.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        players: Mapping[str, Player],
        device: torch.device,
        *,
        accumulate: int = 1,
        clip_norm: Clip = None,
        precision: Precision = "fp32",
        after: Callable[[Tensor | None], None] | None = None,
        watchers: Sequence[KeepsWatch] = (),
        owners: Sequence[nn.Module] = (),
        skips: bool = False,
        compiles: bool = False,
        world: World | None = None,
        share: Callable[[Turn, Sequence[nn.Parameter]], SharedLoss | ShardedLoss] = SharedLoss,
    ) -> None:
        self.turns = [replace(turn, loss=compiled(turn.loss)) for turn in turns] if compiles else list(turns)
        self.players = players
        self.device = device
        self.accumulate = accumulate
        self.precision: Precision = precision
        self.after = after
        self.watchers = tuple(watchers)
        self.names: tuple[str, ...] = ()
        self.finite = True
        self.world = World(device) if world is None else world
        self._shared = (
            {turn.name: share(turn, players[turn.player].parameters) for turn in self.turns}
            if self.world.size > 1
            else {}
        )
        self._alone = moves_all([player.parameters for player in players.values()], owners)
        self._skips = skips
        self._buffers = [buffer for owner in owners for buffer in owner.buffers()] if skips else []
        self._clip = {
            turn.name: clip_norm.get(turn.name) if isinstance(clip_norm, Mapping) else clip_norm for turn in turns
        }

    def __call__(self, batches: Sequence[Batch], progress: Progress) -> Tensor:
        """Steps every player.

        Args:
            batches: The step's batches; the last step of an epoch may have fewer.
            progress: How far training has come.

        Returns:
            The figures of the step, in the order of :attr:`names`, with shape :math:`(k,)`.
        """
        figures: dict[str, Tensor] = {}
        for turn in self.turns:
            repeats = [batches[i : i + self.accumulate] for i in range(0, len(batches), self.accumulate)]
            moves = [self._move(turn, micro, progress) for micro in repeats[: turn.repeats]]
            for name in moves[0]:
                values = [move[name] for move in moves]
                figures[f"{turn.name}/{name}"] = values[0] if len(values) == 1 else torch.stack(values).mean()
        self.names = tuple(figures)
        row = torch.stack([value.float() for value in figures.values()])
        if self.after is not None:
            self.after(self.world.every(torch.isfinite(row).all()) if self._skips else None)
        self.finite = not row.is_cpu or all(map(math.isfinite, row.tolist()))  # elsewhere one would have to wait for it
        if self.watchers:
            sound = torch.tensor(self.finite) if row.is_cpu else torch.isfinite(row).all()
            for watcher in self.watchers:
                watcher.close(sound)
        return row

    def _move(self, turn: Turn, micro_batches: Sequence[Batch], progress: Progress) -> dict[str, Tensor]:
        """One move: gradients of every micro-batch, clipped, and the optimizer's step."""
        player = self.players[turn.player]
        player.optimizer.zero_grad(set_to_none=True)
        share = 1 / len(micro_batches)
        buffers = [buffer.clone() for buffer in self._buffers]
        logged: dict[str, Tensor] = {}
        for batch in micro_batches:
            loss = self._descend(turn, batch, progress, share, last=batch is micro_batches[-1])
            for name, value in {"loss": loss.total, **loss.terms}.items():
                scale = share * batch.weight
                value = value.detach() if scale == 1 else value.detach() * scale
                logged[name] = logged[name] + value if name in logged else value
        clip = self._clip[turn.name]
        if clip is not None:
            logged["grad_norm"] = player.clip(clip)
        elif turn.log_grad_norm or self._skips:
            logged["grad_norm"] = player.grad_norm()
        if self._skips:
            self._step_if_finite(player, torch.stack([value.float() for value in logged.values()]), buffers)
        else:
            player.step()
        return logged

    def _descend(self, turn: Turn, batch: Batch, progress: Progress, share: float, *, last: bool) -> Loss:
        """Adds one micro-batch's gradients to those of the turn's player; nobody else's are touched."""
        if turn.name not in self._shared:
            loss = self._loss(turn, turn.loss, batch, progress)
            total = loss.total if share == 1 else loss.total * share
            total.backward(inputs=None if self._alone else self.players[turn.player].parameters)
            return loss
        shared = self._shared[turn.name]
        with nullcontext() if last else shared.alone():
            total, loss = self._loss(turn, shared, batch, progress)
            (total * share).backward(inputs=shared.inputs)
        return loss

    def _step_if_finite(self, player: Player, figures: Tensor, buffers: Sequence[Tensor]) -> None:
        """Takes back what a move left in the modules' buffers if it is not finite, instead of making it."""
        sound = self.world.every(torch.isfinite(figures).all())
        player.step_if(sound)
        for buffer, before in zip(self._buffers, buffers, strict=True):
            buffer.copy_(torch.where(sound, buffer, before))

    def _loss(self, turn: Turn, loss: Callable[[Batch, Progress], T], batch: Batch, progress: Progress) -> T:
        try:
            with autocast(self.device, self.precision):
                return loss(batch, progress)
        except ValueError as error:  # such as batch normalization of a single example
            raise GenkitError(f"turn {turn.name!r} on a batch of {len(batch.x)}: {error}") from error
