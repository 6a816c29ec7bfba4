"""The kernels: the contract of the kind, kernels that break it, and values by hand."""

import doctest
import math

import pytest
import torch
from energy_distance import kernel
from energy_distance.kernel import Kernel
from energy_distance.kernels import Euclidean, Gaussian, Laplacian
from energy_distance.testing import check_kernel
from torch import Tensor

import genkit
from genkit.testing import factory

EXAMPLES = [
    {"use": name, **options}
    for name, cls in (("euclidean", Euclidean), ("gaussian", Gaussian), ("laplacian", Laplacian))
    for options in cls.examples
]


@pytest.mark.parametrize("node", EXAMPLES, ids=str)
def test_a_kernel_keeps_the_contract(node: dict) -> None:
    check_kernel(factory("kernel", node))


def test_the_kind_names_its_check() -> None:
    assert Euclidean.check == "energy_distance.testing:check_kernel"


class Distance(Kernel):
    """Higher for what is less alike."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(x, y)


class Inner(Kernel):
    """Sees nothing but means."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y.T


class Square(Kernel):
    """Sees nothing but means and spreads."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T + 1).square()


class Rows(Kernel):
    """One value for each example."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.cdist(x, y).mean(1)


class OneSided(Kernel):
    """Counts one side more."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.cdist(x, 1.5 * y)


class Median(Kernel):
    """As wide as the batch is."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        distances = torch.cdist(x, y)
        return -distances / distances.mean().detach()


class Root(Kernel):
    """Has no gradient where points coincide."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -(x[:, None] - y).square().sum(2).sqrt()


class Noisy(Kernel):
    """Draws random numbers."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.cdist(x, y) + 1e-9 * torch.rand(len(x), len(y), dtype=x.dtype)


class Widening(Kernel):
    """Grows with what it has seen."""

    def __init__(self) -> None:
        self.widest = torch.tensor(1.0, dtype=torch.float64)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        self.widest = torch.maximum(self.widest, x.max().detach())
        return (-torch.cdist(x, y) / self.widest).to(x.dtype)


class InPlace(Kernel):
    """Centres its caller's points."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            x -= 1.0
            y -= 1.0
        return -torch.cdist(x, y)


class Rough(Kernel):
    """Always answers in float32."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.cdist(x.float(), y.float())


class Detached(Kernel):
    """Teaches nothing."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.cdist(x, y.detach())


class Endless(Kernel):
    """Is infinite somewhere."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        values = -torch.cdist(x, y)
        return values.masked_fill(values == values.max(), math.inf)


BROKEN = [
    (Rows, "values of 12 and 7 points have shape"),
    (Endless, "values are not finite"),
    (Rough, "the points' precision is not kept"),
    (InPlace, "the caller's points were changed"),
    (Widening, "two calls differ"),
    (Noisy, "float32 and float64 disagree|two calls differ|it draws random numbers"),
    (OneSided, "differ"),
    (Median, "a pair's value depends on the other pairs"),
    (Distance, "not conditionally positive definite"),
    (Inner, "distributions apart that have the same mean$"),
    (Square, "distributions apart that have the same mean and spread"),
    (Root, "the gradient of x is not finite where points coincide"),
    (Detached, "no gradient reaches y"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_kernel_is_caught(broken: type[Kernel], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_kernel(genkit.Factory(broken.__name__, component=broken))


def test_values_by_hand() -> None:
    x, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert Euclidean()(x, y).tolist() == [[-5.0, 0.0]]
    assert Euclidean(exponent=1.5)(x, y)[0, 0].item() == pytest.approx(-(5**1.5))
    gaussian = (math.exp(-25 / 4 / 1) + math.exp(-25 / 4 / 16)) / 2  # squares over 2 dimensions, over 2 s^2
    assert Gaussian(scales=[1, 4])(x, y)[0].tolist() == pytest.approx([gaussian, 1.0])
    laplacian = (math.exp(-5 / math.sqrt(2)) + math.exp(-5 / math.sqrt(2) / 4)) / 2
    assert Laplacian(scales=[1, 4])(x, y)[0].tolist() == pytest.approx([laplacian, 1.0])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"use": "euclidean", "exponent": 2.0}, "exponent.*less than 2"),
        ({"use": "gaussian", "scales": []}, "scales"),
        ({"use": "laplacian", "scales": [0.0]}, "scales.*greater than 0"),
        ({"use": "gaussian", "scale": 1.0}, "scale.*scales"),
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(node: dict, message: str) -> None:
    with pytest.raises(genkit.RecipeError, match=message):
        factory("kernel", node)


def test_the_docstrings_example_is_right() -> None:
    found = doctest.testmod(kernel)
    assert found.failed == 0
    assert found.attempted == 3
