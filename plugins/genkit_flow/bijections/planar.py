"""Planar flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from genkit import Shape
from genkit_flow.bijection import Bijection, Way
from genkit_flow.conditioner import Numbers

ZERO = math.log(math.e - 1)  # where softplus is 1
BISECTIONS = 20
NEWTON_STEPS = 8
STEPS_WITH_GRADIENT = 2


class Planar(Bijection):
    r"""Stretches latents along one direction, across parallel planes.

    .. math:: x = z + \hat u \tanh(w^\top z + b), \qquad w^\top \hat u > -1

    This way, from latents to data, it is in closed form, as in a posterior. Back it takes one scalar equation for each
    example, :math:`a + w^\top \hat u \tanh(a + b) = w^\top x`, whose left side grows with :math:`a`: bisection within a
    bracket that must hold the root, then Newton steps that may not leave it. Gradients are those of the implicit
    function, up to the third order.

    The constraint is kept as the paper keeps it, :math:`\hat u = u + (m(w^\top u) - w^\top u)\, w / \lVert w \rVert^2`,
    but with :math:`m(v) = \mathrm{softplus}(v + \ln(e - 1)) - 1`, for which :math:`u = 0`, the start, is the identity.
    Where there is a context, :math:`u`, :math:`w` and :math:`b` are linear in it.

    Args:
        solve: Whether the way back is found by solving that equation; if not, it goes only from latents to data.

    References:
        Rezende and Mohamed: Variational Inference with Normalizing Flows, ICML 2015, arXiv 1505.05770, equations 10 to
        12 and appendix A.1.
    """

    examples = ({}, {"solve": False})

    def __init__(self, shape: Shape, context_shape: Shape | None, /, *, solve: bool = True) -> None:
        super().__init__(shape, context_shape)
        self.size = math.prod(shape)
        direction = torch.randn(self.size) / math.sqrt(self.size)
        self.numbers = Numbers(torch.cat([direction, torch.zeros(self.size + 1)]), context_shape)
        self.solve = solve

    @property
    def one_way(self) -> Way | None:
        """From latents to data, if nothing is to be solved."""
        return None if self.solve else "inverse"

    def _theta(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        r""":math:`w`, :math:`\hat u`, :math:`b` and :math:`1 + w^\top \hat u`, the last two with shape (B,)."""
        w, u, b = self.numbers(x, context).tensor_split([self.size, 2 * self.size], dim=1)
        product = (w * u).sum(1, keepdim=True)
        slope = softplus(product + ZERO)
        u = u + (slope - 1 - product) * w / w.square().sum(1, keepdim=True)
        return w, u, b.squeeze(1), slope.squeeze(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The closed form."""
        w, u, b, slope = self._theta(z, context)
        bent = torch.tanh((w * z.flatten(1)).sum(1) + b)
        x = z.flatten(1) + u * bent.unsqueeze(1)
        return x.view_as(z), _stretch(bent, slope).log()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back.

        Raises:
            NotImplementedError: Nothing is to be solved.
        """
        if not self.solve:
            raise NotImplementedError("planar with solve: false goes only from latents to data")
        w, u, b, slope = self._theta(x, context)
        bent = torch.tanh(solve((w * x.flatten(1)).sum(1), b, slope) + b)
        z = x.flatten(1) - u * bent.unsqueeze(1)
        return z.view_as(x), -_stretch(bent, slope).log()


def _stretch(bent: Tensor, slope: Tensor) -> Tensor:
    r""":math:`1 + (1 - \tanh^2)\, w^\top \hat u` without a difference, so that it is never 0 or below."""
    return bent.square() + (1 - bent.square()) * slope


def solve(target: Tensor, b: Tensor, slope: Tensor) -> Tensor:
    r"""The root :math:`a` of :math:`a + (s - 1) \tanh(a + b) = y`, differentiable up to three times.

    A Newton step from a root that knows no derivatives is right in the first; each further step doubles the order of
    the error, 2 after one, 4 after two.

    Args:
        target: :math:`y`, with shape :math:`(B,)`.
        b: :math:`b`.
        slope: :math:`s > 0`.

    Example:
        >>> a = solve(torch.tensor([0.7]), torch.tensor([0.1]), torch.tensor([2.0]))
        >>> round((a + torch.tanh(a + 0.1)).item(), 6)
        0.7
    """

    def left(a: Tensor) -> Tensor:
        return a + (slope - 1) * torch.tanh(a + b)

    def rise(a: Tensor) -> Tensor:
        return _stretch(torch.tanh(a + b), slope)

    with torch.no_grad():
        low, high = target - (slope - 1).abs(), target + (slope - 1).abs()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = left(middle) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        a = (low + high) / 2
        for _ in range(NEWTON_STEPS):
            a = torch.clamp(a - (left(a) - target) / rise(a), low, high)
    for _ in range(STEPS_WITH_GRADIENT):
        a = a - (left(a) - target) / rise(a)
    return a
