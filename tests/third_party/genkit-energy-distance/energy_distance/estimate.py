"""The estimate of a squared distance between two distributions from examples of both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from energy_distance.kernel import Kernel


@dataclass(frozen=True)
class Estimate:
    r"""What a kernel says of examples :math:`x` and samples :math:`y`, each part a mean with shape :math:`()`.

    Attributes:
        data: Over pairs of different examples, :math:`\mathbb{E}\, k(x, x')`.
        samples: Over pairs of different samples, :math:`\mathbb{E}\, k(y, y')`.
        across: Over pairs of an example and a sample, :math:`\mathbb{E}\, k(x, y)`.
    """

    data: Tensor
    samples: Tensor
    across: Tensor

    @property
    def squared_distance(self) -> Tensor:
        """The squared distance. Unbiased, so that it can be a little below 0 for distributions that are close."""
        return self.data + self.samples - 2 * self.across


def estimate(kernel: Kernel, x: Tensor, y: Tensor) -> Estimate:
    r"""The U-statistic of the squared maximum mean discrepancy.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
        - \frac{2}{nm} \sum_{i, j} k(x_i, y_j)

    With minus the Euclidean distance for a kernel, it is the energy distance
    :math:`2\,\mathbb{E}\lVert x - y\rVert - \mathbb{E}\lVert x - x'\rVert - \mathbb{E}\lVert y - y'\rVert`.

    Args:
        kernel: The kernel.
        x: Examples with shape :math:`(n, *S)`.
        y: Samples with shape :math:`(m, *S)`.

    References:
        Gretton et al.: A Kernel Two-Sample Test, JMLR 13 (2012), lemma 6.
    """
    x, y = x.flatten(1), y.flatten(1)
    return Estimate(among(kernel, x), among(kernel, y), kernel(x, y).mean())


def among(kernel: Kernel, x: Tensor) -> Tensor:
    """The mean over pairs of different rows of one matrix; 0 where there is a single row, and so no pair."""
    values = kernel(x, x)
    pairs = max(len(x) * (len(x) - 1), 1)
    return (values.sum() - values.diagonal().sum()) / pairs
