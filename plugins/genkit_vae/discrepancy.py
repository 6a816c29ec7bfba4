"""The maximum mean discrepancy: how far apart two distributions are that are known by draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genkit import Decodes, LatentVariable

Kernel = Literal["gaussian", "inverse_multiquadratics"]


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    r"""The Gaussian kernel of all pairs, with a bandwidth :math:`\sigma^2 = D`.

    .. math:: k(x, y) = \exp(-\lVert x - y \rVert^2 / 2 D)

    :math:`2 D` is the mean squared distance of two draws from a standard normal.

    Args:
        x: Vectors with shape :math:`(N, D)`.
        y: Vectors with shape :math:`(M, D)`.

    Returns:
        Numbers up to 1, with shape :math:`(N, M)`.

    References:
        Zhao, Song and Ermon: InfoVAE, AAAI 2019, arXiv 1706.02262, which leaves the bandwidth open.

    Example:
        >>> gaussian(torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])).log().tolist()
        [[-1.0]]
    """
    return torch.exp(-_squared_distances(x, y) / (2 * x.shape[1]))


def inverse_multiquadratics(x: Tensor, y: Tensor) -> Tensor:
    r"""The inverse multiquadratic kernel of all pairs, whose tails are heavy: latents far out are still drawn in.

    .. math:: k(x, y) = \frac{C}{C + \lVert x - y \rVert^2}, \qquad C = 2 D

    :math:`C` is the mean squared distance of two draws from a standard normal.

    Args:
        x: Vectors with shape :math:`(N, D)`.
        y: Vectors with shape :math:`(M, D)`.

    Returns:
        Numbers up to 1, with shape :math:`(N, M)`.

    References:
        Tolstikhin et al.: Wasserstein Auto-Encoders, ICLR 2018, arXiv 1711.01558, section 4.

    Example:
        >>> inverse_multiquadratics(torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])).tolist()
        [[0.5]]
    """
    scale = 2 * x.shape[1]
    return scale / (scale + _squared_distances(x, y))


KERNELS: dict[Kernel, Callable[[Tensor, Tensor], Tensor]] = {
    "gaussian": gaussian,
    "inverse_multiquadratics": inverse_multiquadratics,
}


def mmd(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    r"""The unbiased estimate of the squared maximum mean discrepancy, from draws of two distributions.

    .. math:: \frac{1}{N (N - 1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{M (M - 1)} \sum_{i \ne j} k(y_i, y_j)
        - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

    Being unbiased it is negative about as often as not where both distributions are the same. A single draw has no
    pairs: their mean then counts as 0.

    Args:
        x: Draws with shape :math:`(N, *Z)`.
        y: Draws with shape :math:`(M, *Z)`.
        kernel: Of all pairs of vectors; 1 for two that are the same.

    Returns:
        With shape :math:`()`.

    References:
        Gretton et al.: A Kernel Two-Sample Test, JMLR 13, 2012, equation 3. Tolstikhin et al.: Wasserstein
        Auto-Encoders, ICLR 2018, arXiv 1711.01558, algorithm 2.

    Example:
        >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]])
        >>> round(mmd(x, y, inverse_multiquadratics).item(), 4)  # 1/3 + 1/3 - (1 + 1/3)
        -0.6667
    """
    x, y = x.flatten(1), y.flatten(1)
    return _mean_of_pairs(x, kernel) + _mean_of_pairs(y, kernel) - 2 * kernel(x, y).mean()


def mmd_from_prior(z: Tensor, model: LatentVariable, kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The same of latents and as many draws from a model's prior, with gradients to what of the prior is learned."""
    assert isinstance(model, Decodes)
    return mmd(z, model.sample_latent(len(z)), kernel)


def _mean_of_pairs(x: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    values = kernel(x, x)
    return (values.sum() - values.diagonal().sum()) / max(len(x) * (len(x) - 1), 1)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Of all pairs; from differences, since the expanded square loses near ones to rounding."""
    return (x.unsqueeze(1) - y).square().sum(-1)
