"""Linear maps that mix channels, or the elements of a vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from genkit import Shape
from genkit_flow.bijection import Bijection


class InvertibleLinear(Bijection):
    r"""A learned invertible matrix: a 1 x 1 convolution of an image, or a linear map of a vector.

    .. math:: z = W x, \qquad W = P L (U + \mathrm{diag}(s)), \qquad \log |\det| = h\, w \sum_i \log |s_i|

    :math:`P` is a fixed permutation, :math:`L` is unit lower triangular, :math:`U` strictly upper triangular; the signs
    of :math:`s` are fixed. It starts as a random rotation.

    References:
        Kingma and Dhariwal: Glow, NeurIPS 2018, arXiv 1807.03039, sections 3.2 and 3.3.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__(shape, context_shape)
        size = shape[0]
        if size < 2:
            raise ValueError("mixes at least two channels or elements, and there is one; a squeeze gives an image four")
        rotation = torch.linalg.qr(torch.randn(size, size))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.positions = 1 if len(shape) == 1 else shape[1] * shape[2]

    def _factors(self) -> tuple[Tensor, Tensor]:
        eye = torch.eye(len(self.sign), dtype=self.sign.dtype, device=self.sign.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return self.lower.tril(-1) + eye, upper

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.positions * self.log_diagonal.sum()).expand(len(x))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiplies by the matrix."""
        with torch.autocast(x.device.type, enabled=False):  # data must not lose bits that its log-density counts
            lower, upper = self._factors()
            matrix = self.permutation @ lower @ upper
            if x.dim() == 2:
                return functional.linear(x, matrix), self._log_det(x)
            return functional.conv2d(x, matrix[:, :, None, None]), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solves for the input, triangle by triangle; no inverse matrix is made."""
        with torch.autocast(z.device.type, enabled=False):
            lower, upper = self._factors()
            columns = self.permutation.T @ z.transpose(0, 1).flatten(1)  # (C, B * positions)
            columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
            columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.unflatten(1, (len(z), *z.shape[2:])).transpose(0, 1)
        return x, -self._log_det(z)


class Permutation(Bijection):
    """A fixed order of the channels of an image, or of the elements of a vector.

    Args:
        order: "reversed", or "random": any other than the given one, drawn with the model's start.
    """

    examples = ({}, {"order": "random"})
    places: Tensor

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        order: Literal["reversed", "random"] = "reversed",
    ) -> None:
        super().__init__(shape, context_shape)
        given = torch.arange(shape[0], device="cpu")
        places = given.flip(0) if order == "reversed" else torch.randperm(shape[0], device="cpu")
        while order == "random" and shape[0] > 1 and torch.equal(places, given):
            places = torch.randperm(shape[0], device="cpu")
        self.register_buffer("places", places)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Takes the elements in the new order."""
        return x[:, self.places], x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Puts them back."""
        return z[:, self.places.argsort()], z.new_zeros(len(z))
