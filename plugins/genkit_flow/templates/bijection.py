"""The sinh-arcsinh map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genkit import Shape
from genkit_flow.bijection import Bijection


class Template(Bijection):
    r"""Bends each element by itself: one number of each makes its tails heavier or lighter, another makes it lean.

    .. math:: z = \sinh(\delta\, \mathrm{arcsinh}(x) + \epsilon), \qquad
        \log \left|\frac{\partial z}{\partial x}\right| = \log \delta + \tfrac12 \log \frac{1 + z^2}{1 + x^2}

    with :math:`\delta > 0`, since :math:`\cosh(\mathrm{arcsinh}\, z) = \sqrt{1 + z^2}`. Both numbers are learned for
    each element, and it starts as the identity.

    References:
        Jones and Pewsey: Sinh-arcsinh distributions, Biometrika 96(4), 2009.

    Example:
        >>> bijection = Template((2,), None)
        >>> z, log_det = bijection(torch.tensor([[1.0, -2.0]]))
        >>> [round(value, 4) for value in z[0].tolist()]
        [1.0, -2.0]
    """

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__(shape, context_shape)
        self.log_tails = nn.Parameter(torch.zeros(shape))  # log δ
        self.skew = nn.Parameter(torch.zeros(shape))  # ε

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From data with shape :math:`(B, *S)` to latents."""
        z = torch.sinh(self.log_tails.exp() * torch.asinh(x) + self.skew)
        return z, self._log_det(x, z)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From latents to data."""
        x = torch.sinh((torch.asinh(z) - self.skew) * (-self.log_tails).exp())
        return x, -self._log_det(x, z)

    def _log_det(self, x: Tensor, z: Tensor) -> Tensor:
        """That of the way to latents, in nats, with shape :math:`(B,)`."""
        slopes = self.log_tails + 0.5 * (torch.log1p(z.square()) - torch.log1p(x.square()))
        return slopes.flatten(1).sum(1)
