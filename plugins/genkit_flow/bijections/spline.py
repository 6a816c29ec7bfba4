"""Couplings with monotone rational-quadratic splines."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from genkit import Backbone, Factory, GenkitError, Shape
from genkit_flow.bijections.coupling import CONDITIONER, Coupling
from genkit_flow.partition import Mask

MIN_BIN = 1e-3  # of the box, so that no bin vanishes
MIN_SLOPE = 1e-3
UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))  # what softplus turns into a slope of 1


class SplineCoupling(Coupling):
    r"""A coupling with a monotone spline of rational-quadratic pieces on the box :math:`[-b, b]`.

    Args:
        bins: Pieces of the spline, :math:`K`.
        bound: Half the width of the box, :math:`b`.
        tails: What is outside the box: the identity ("linear"), or nothing ("none"): then a value outside it is an
            error, and the slopes at the box's ends are learned. That check makes a device wait for the host. Samples
            stay in the box only if the base does, as a scaled uniform one.
        mask: How the input is parted: "alternating" elements of anything read as a vector, the halves of the
            channels ("channel", also of a vector's elements), or the pixels of a "checkerboard".
        flip: Whether the parts swap their roles; layers one after the other take turns.
        conditioner: The network that gives widths, heights and slopes.
        zero_start: Whether the layer starts as the identity.

    References:
        Durkan et al.: Neural Spline Flows, NeurIPS 2019, arXiv 1906.04032, section 3.1, equations 4 to 8.
    """

    examples = ({}, {"bins": 4, "tails": "none", "bound": 10.0}, {"mask": "checkerboard", "conditioner": "cnn"})

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        bins: Annotated[int, Field(ge=2, le=500)] = 8,
        bound: Annotated[float, Field(gt=0, le=1e6)] = 3.0,
        tails: Literal["linear", "none"] = "linear",
        mask: Mask = "alternating",
        flip: bool = False,
        conditioner: Factory[Backbone] = CONDITIONER,
        zero_start: bool = True,
    ) -> None:
        slopes = bins - 1 if tails == "linear" else bins + 1
        super().__init__(shape, context_shape, 2 * bins + slopes, mask, conditioner, flip=flip, zero_start=zero_start)
        self.bins = bins
        self.bound = bound
        self.tails: Literal["linear", "none"] = tails

    def map(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Through the spline.

        Raises:
            GenkitError: A value lies outside the box, and there are no tails.
        """
        return self._within_box(x, parameters, inverse=False)

    def map_back(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Back through the spline.

        Raises:
            GenkitError: A value lies outside the box, and there are no tails.
        """
        return self._within_box(z, parameters, inverse=True)

    def _within_box(self, x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        inside = self.partition.of_changed(x).abs() <= self.bound
        if self.tails == "none":
            self._refuse_outside(self.partition.of_changed(x))
        spline = rational_quadratic_inverse if inverse else rational_quadratic
        # outside, any point of the box keeps gradients finite; the result is not used there
        y, log_slopes = spline(x.clamp(-self.bound, self.bound), *self._knots(parameters))
        return torch.where(inside, y, x), torch.where(inside, log_slopes, 0)

    def _refuse_outside(self, x: Tensor) -> None:
        worst = x.detach().abs().nan_to_num(0, posinf=0).max().item()  # what is not finite is the watch's business
        if worst > self.bound * (1 + 1e-5):  # the other way may have left the box by rounding
            raise GenkitError(
                f"a value {worst:.4g} away from 0 lies outside the spline's box [-{self.bound:g}, {self.bound:g}]; "
                "use tails: linear, or a larger bound"
            )

    def _knots(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the knots lie, and the slopes there, each with shape :math:`(B, *changed, K + 1)`."""
        widths, heights, slopes = parameters.movedim(1, -1).tensor_split([self.bins, 2 * self.bins], dim=-1)
        slopes = MIN_SLOPE + functional.softplus(slopes + UNIT_SLOPE)
        if self.tails == "linear":
            slopes = functional.pad(slopes, (1, 1), value=1.0)
        return knots(widths, self.bound), knots(heights, self.bound), slopes


def knots(sizes: Tensor, bound: float) -> Tensor:
    r"""Increasing places from :math:`-b` to :math:`b`, from the logits of the distances between them.

    Example:
        >>> knots(torch.zeros(4), 2.0).tolist()
        [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    count = sizes.shape[-1]
    shares = MIN_BIN + (1 - MIN_BIN * count) * torch.softmax(sizes, dim=-1)
    inner = 2 * bound * shares.cumsum(-1)[..., :-1] - bound
    return functional.pad(functional.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _bin(place: Tensor, values: Tensor) -> Tensor:
    """The bin of each value, with shape :math:`(..., 1)`."""
    inner = place[..., 1:-1].detach().contiguous()
    return torch.searchsorted(inner, values.detach().unsqueeze(-1).contiguous(), right=True)


def _piece(x: Tensor, y: Tensor, slopes: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Left end, width, lower end, height, and both slopes of each value's bin."""
    left, low, first = (t.gather(-1, index).squeeze(-1) for t in (x, y, slopes))
    right, high, second = (t.gather(-1, index + 1).squeeze(-1) for t in (x, y, slopes))
    return left, right - left, low, high - low, first, second


def rational_quadratic(values: Tensor, x: Tensor, y: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    r"""A monotone rational-quadratic spline.

    Args:
        values: Where to take it, between the first and the last knot, with shape :math:`S`.
        x: The knots, increasing, with shape :math:`(*S, K + 1)`.
        y: The spline at the knots, increasing.
        slopes: Its slopes there, positive.

    Returns:
        The spline and its log-slopes in nats, each with shape :math:`S`.

    References:
        Durkan et al.: Neural Spline Flows, NeurIPS 2019, arXiv 1906.04032, equations 4 and 5.
    """
    left, width, low, height, first, second = _piece(x, y, slopes, _bin(x, values))
    xi = (values - left) / width
    return _rational(xi, width, low, height, first, second)


def rational_quadratic_inverse(values: Tensor, x: Tensor, y: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`rational_quadratic`, with its own log-slopes; equations 6 to 8 of the paper."""
    left, width, low, height, first, second = _piece(x, y, slopes, _bin(y, values))
    s, rise = height / width, values - low
    bend = first + second - 2 * s
    a, b, c = height * (s - first) + rise * bend, height * first - rise * bend, -s * rise
    xi = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
    return left + xi * width, -_rational(xi, width, low, height, first, second)[1]


def _rational(
    xi: Tensor, width: Tensor, low: Tensor, height: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    """One piece and its log-slope, at the share ``xi`` of its width."""
    s, mixed = height / width, xi * (1 - xi)
    below = s + (first + second - 2 * s) * mixed
    y = low + height * (s * xi.square() + first * mixed) / below
    above = second * xi.square() + 2 * s * mixed + first * (1 - xi).square()
    return y, 2 * s.log() + above.log() - 2 * below.log()
