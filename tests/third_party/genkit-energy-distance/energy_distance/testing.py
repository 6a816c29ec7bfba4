"""The contract of kernels: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from energy_distance.testing import check_kernel
        from genkit.testing import factory

        def test_my_kernel_keeps_the_contract():
            check_kernel(factory("kernel", {"use": "my_kernel", "scale": 2.0}))
"""

from __future__ import annotations

import torch
from torch import Tensor

from energy_distance.kernel import Kernel
from genkit import Factory

DIMS = (1, 2, 40)  # numbers, points in the plane, and something the size of a small image
NUM, MORE = 12, 7
ALIKE = {  # differences of the weights that two distributions give four points on a line
    "different means": (1.0, -1.0, 0.0, 0.0),
    "the same mean": (1.0, -2.0, 1.0, 0.0),
    "the same mean and spread": (1.0, -3.0, 3.0, -1.0),
}


def check_kernel(build: Factory[Kernel]) -> None:
    """Checks a kernel on points of several dimensions.

    Shapes, finite values, symmetry, conditional positive definiteness, distributions told apart, pairs that do not
    touch each other, gradients that are finite even where points coincide, precision, nothing kept from call to call,
    the caller's tensors and the global random state untouched.

    Raises:
        AssertionError: It breaks the contract; the message says where.
    """
    for dims in DIMS:
        generator = torch.Generator().manual_seed(dims)
        x = torch.rand(NUM, dims, generator=generator, dtype=torch.float64)
        y = torch.rand(MORE, dims, generator=generator, dtype=torch.float64)
        for check in CHECKS:
            check(build(), x, y, f"{build} on points with {dims} dimensions")


def check_values(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """One finite value for every pair, in the points' precision; the same in float32 as in float64."""
    values = kernel(x, y)
    assert values.shape == (NUM, MORE), f"{what}: values of 12 and 7 points have shape {tuple(values.shape)}"
    assert torch.isfinite(values).all(), f"{what}: values are not finite"
    rough = kernel(x.float(), y.float())
    assert (values.dtype, rough.dtype) == (torch.float64, torch.float32), f"{what}: the points' precision is not kept"
    assert torch.allclose(rough.double(), values, rtol=1e-3, atol=1e-4), f"{what}: float32 and float64 disagree"


def check_purity(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """The points stay as they are, no random number is drawn, and no call leaves anything behind for the next."""
    before, state = (x.clone(), y.clone()), torch.get_rng_state()
    values = kernel(x, y)
    kernel(10 * y, 10 * x)
    untouched = torch.equal(x, before[0]), torch.equal(y, before[1])
    assert all(untouched), f"{what}: the caller's points were changed"
    assert torch.equal(kernel(x, y), values), f"{what}: two calls differ"
    assert torch.equal(torch.get_rng_state(), state), f"{what}: it draws random numbers"


def check_pairs(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """A pair's value is that of the pair alone, in whichever order."""
    values = kernel(x, y)
    turned = kernel(y, x).T
    assert torch.allclose(turned, values, atol=1e-6), f"{what}: k(x, y) and k(y, x) differ"
    alone = kernel(x[2:3], y[5:6])
    assert torch.allclose(alone, values[2:3, 5:6], atol=1e-6), f"{what}: a pair's value depends on the other pairs"


def check_definiteness(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """No weights whose sum is 0 give a negative form."""
    points = torch.cat([x, y])
    values = kernel(points, points)
    centring = torch.eye(len(points), dtype=points.dtype) - 1 / len(points)
    lowest = torch.linalg.eigvalsh(centring @ values @ centring).min().item()
    assert lowest > -1e-9 * values.abs().max(), (
        f"{what}: it is not conditionally positive definite (a form of {lowest:.2g}), so a model could be rewarded for "
        "samples unlike the data"
    )


def check_sharpness(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """Distributions of points on a line are told apart, be their means, also their spreads, alike or not."""
    points = torch.linspace(0, 1, 4, dtype=x.dtype)[:, None].expand(-1, x.shape[1]).contiguous()
    values = kernel(points, points)
    for alike, weights in ALIKE.items():
        difference = torch.tensor(weights, dtype=x.dtype)
        form = (difference @ values @ difference).item()
        assert form > 1e-10 * values.abs().max(), f"{what}: it does not tell distributions apart that have {alike}"


def check_gradients(kernel: Kernel, x: Tensor, y: Tensor, what: str) -> None:
    """Gradients reach both points and are finite, also where a sample falls onto an example."""
    both = x.float().requires_grad_(), torch.cat([x[:1], y]).float().requires_grad_()
    kernel(*both).mean().backward()
    for name, points in zip("xy", both, strict=True):
        assert points.grad is not None, f"{what}: no gradient reaches {name}"
        assert torch.isfinite(points.grad).all(), f"{what}: the gradient of {name} is not finite where points coincide"


CHECKS = (check_values, check_purity, check_pairs, check_definiteness, check_sharpness, check_gradients)
