"""Kernels: how alike two examples are."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from genkit import Component


class Kernel(Component, kind="kernel", check="energy_distance.testing:check_kernel"):
    r"""Abstract kernel :math:`k(x, y)`: how alike two examples are, higher for what is more alike.

    It must be symmetric, and conditionally positive definite: :math:`\sum_{ij} c_i c_j\, k(x_i, x_j) \ge 0` for all
    numbers :math:`c` whose sum is 0. Then

    .. math:: \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y) \ge 0

    for independent :math:`x, x'` of one distribution and :math:`y, y'` of another, with 0 where they are the same. It
    should be 0 nowhere else: a kernel that sees only means, as the inner product does, leaves a model free to put
    all its samples on one.

    Implementing a kernel:

    1. ``def __init__(self, *, ...)``: the recipe supplies every option; none is positional.
    2. Return :math:`k` for all pairs in :meth:`__call__`. A pair's value depends on that pair alone.
    3. Keep the gradient finite where :math:`x = y`: a sample can fall onto an example. :func:`torch.cdist` does,
       a root of a sum of squares does not.
    4. Keep no numbers of one call for the next: what a batch has taught would bias the estimate.

    Example:
        >>> import torch
        >>> class Cauchy(Kernel):
        ...     def __call__(self, x, y):
        ...         return 1 / (1 + torch.cdist(x, y).square())
        >>> Cauchy()(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The kernel of all pairs.

        Args:
            x: Flat examples in the data's range, with shape :math:`(N, D)`.
            y: More of them, with shape :math:`(M, D)`.

        Returns:
            Values with shape :math:`(N, M)`, differentiable in both.
        """
