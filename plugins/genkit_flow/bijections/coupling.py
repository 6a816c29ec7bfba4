"""Coupling layers: one part of the input stays and decides how the other is mapped."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from genkit import Backbone, Factory, Shape, use
from genkit_flow.bijection import Bijection
from genkit_flow.conditioner import Conditioner, LogScale
from genkit_flow.partition import Mask, partition

CONDITIONER = use("mlp", hidden_dims=[64, 64], activation="gelu")


class Coupling(Bijection):
    r"""Abstract coupling layer: :math:`z_1 = x_1`, and :math:`z_2 = g(x_2; \theta(x_1, c))` element by element.

    Implementing a coupling: say in the constructor how many parameters :math:`g` has for each element, and map in
    :meth:`map` and :meth:`map_back`.

    Args:
        shape: The shape of one example.
        context_shape: The shape of the context :math:`c`, if there is one.
        num_parameters: Parameters of :math:`g` for each element.
        mask: How the input is parted.
        flip: Whether the parts swap their roles.
        conditioner: The network that gives :math:`\theta`.
        zero_start: Whether :math:`\theta` starts at zero for every input.
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        num_parameters: int,
        mask: Mask,
        conditioner: Factory[Backbone],
        *,
        flip: bool,
        zero_start: bool,
    ) -> None:
        super().__init__(shape, context_shape)
        self.partition = partition(mask, shape, flip=flip)
        self.conditioner = Conditioner(
            conditioner,
            self.partition.kept_shape,
            context_shape,
            self.partition.changed_shape,
            num_parameters,
            zero_start=zero_start,
        )

    @abstractmethod
    def map(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`g(x)` and its log-slopes in nats, each with shape :math:`(B, *changed)`.

        Args:
            x: What changes, with shape :math:`(B, *changed)`.
            parameters: With shape :math:`(B, P, *changed)`.
        """

    @abstractmethod
    def map_back(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`g^{-1}(z)` and its log-slopes."""

    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Shows the conditioner its first input."""
        self.conditioner.start(self.partition.part(x)[0], context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps the part that changes."""
        kept, changed = self.partition.part(x)
        changed, log_slopes = self.map(changed, self._theta(kept, context))
        return self.partition.join(x, kept, changed), self._log_det(log_slopes)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps it back: the part that stayed gives the same parameters."""
        kept, changed = self.partition.part(z)
        changed, log_slopes = self.map_back(changed, self._theta(kept, context))
        return self.partition.join(z, kept, changed), self._log_det(log_slopes)

    def _theta(self, kept: Tensor, context: Tensor | None) -> Tensor:
        return self.partition.of_changed(self.conditioner(kept, context))

    def _log_det(self, log_slopes: Tensor) -> Tensor:
        return self.partition.of_changed(log_slopes).flatten(1).sum(1)


class AffineCoupling(Coupling):
    r"""A coupling that shifts and scales: :math:`z_2 = (x_2 + t(x_1))\, e^{s(x_1)}`.

    The paper scales first. With the shift first, a change of the scale does not move what has been centred, which data
    far from 0 needs, such as the logits of images.

    Args:
        mask: How the input is parted: "alternating" elements of anything read as a vector, the halves of the
            channels ("channel", also of a vector's elements), or the pixels of a "checkerboard".
        flip: Whether the parts swap their roles; layers one after the other take turns.
        conditioner: The network that gives :math:`s` and :math:`t`.
        bounded: Whether :math:`s` is kept within learned bounds, :math:`f \tanh(s / f)`.
        zero_start: Whether the layer starts as the identity.

    References:
        Dinh, Sohl-Dickstein and Bengio: Density estimation using Real NVP, ICLR 2017, arXiv 1605.08803, equations 4, 5.
    """

    examples = (
        {},
        {"mask": "channel", "flip": True, "bounded": False, "conditioner": {"use": "mlp", "hidden_dims": [8]}},
        {"mask": "checkerboard", "conditioner": {"use": "cnn", "channels": 8}, "zero_start": False},
    )

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        mask: Mask = "alternating",
        flip: bool = False,
        conditioner: Factory[Backbone] = CONDITIONER,
        bounded: bool = True,
        zero_start: bool = True,
    ) -> None:
        super().__init__(shape, context_shape, 2, mask, conditioner, flip=flip, zero_start=zero_start)
        self.log_scale = LogScale(self.partition.changed_shape, bounded=bounded)

    def map(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Shifts, then scales."""
        log_scale, shift = self.log_scale(parameters[:, 0]), parameters[:, 1]
        return (x + shift) * log_scale.exp(), log_scale

    def map_back(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Undoes the scale, then the shift."""
        log_scale, shift = self.log_scale(parameters[:, 0]), parameters[:, 1]
        return z * (-log_scale).exp() - shift, -log_scale


class AdditiveCoupling(Coupling):
    r"""A coupling that shifts, and keeps volumes: :math:`z_2 = x_2 + t(x_1)`.

    Args:
        mask: How the input is parted: "alternating" elements of anything read as a vector, the halves of the
            channels ("channel", also of a vector's elements), or the pixels of a "checkerboard".
        flip: Whether the parts swap their roles; layers one after the other take turns.
        conditioner: The network that gives :math:`t`.
        zero_start: Whether the layer starts as the identity.

    References:
        Dinh, Krueger and Bengio: NICE: Non-linear Independent Components Estimation, ICLR 2015 workshop, arXiv
        1410.8516, section 3.2.
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        mask: Mask = "alternating",
        flip: bool = False,
        conditioner: Factory[Backbone] = CONDITIONER,
        zero_start: bool = True,
    ) -> None:
        super().__init__(shape, context_shape, 1, mask, conditioner, flip=flip, zero_start=zero_start)

    def map(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Shifts."""
        return x + parameters[:, 0], x.new_zeros(x.shape)

    def map_back(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Undoes the shift."""
        return z - parameters[:, 0], z.new_zeros(z.shape)
