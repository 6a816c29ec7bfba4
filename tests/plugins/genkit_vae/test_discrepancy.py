"""The maximum mean discrepancy, against sums by hand and against what it is between normals, in closed form."""

import math

import pytest
import torch
from linear_gaussian import mean_and_error
from torch.distributions import MultivariateNormal, Normal

from genkit_vae.discrepancy import KERNELS, gaussian, inverse_multiquadratics, mmd

ALL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))


def by_hand(x, y, kernel):
    """Three sums over pairs, with a kernel of two vectors."""
    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize(
    ("kernel", "formula"),
    [
        (gaussian, lambda a, b: math.exp(-sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) / (2 * len(a)))),
        (inverse_multiquadratics,
         lambda a, b: 2 * len(a) / (2 * len(a) + sum((s - t) ** 2 for s, t in zip(a, b, strict=True)))),
    ],
)  # fmt: skip
def test_is_the_papers_sums_of_its_kernels(kernel, formula):
    x, y = torch.randn(4, 3, dtype=torch.float64), 1 + torch.randn(5, 3, dtype=torch.float64)
    assert mmd(x, y, kernel).item() == pytest.approx(by_hand(x.tolist(), y.tolist(), formula), rel=1e-12)


def test_of_three_numbers_by_hand():
    """C = 2: pairs 0 and 1 of x give 2/3, the single y no pair, and y = 2 against both 2/6 and 2/3."""
    found = mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0]]), inverse_multiquadratics)
    assert found.item() == pytest.approx(2 / 3 - (1 / 3 + 2 / 3))


def expected_gaussian(mean, covariance, other_mean, other_covariance):
    r"""E k(x, y) of independent normals, with sigma^2 = D: |I + S / D|^{-1/2} exp(-m^T (S + D I)^{-1} m / 2)."""
    dims = len(mean)
    spread = covariance + other_covariance + dims * torch.eye(dims, dtype=torch.float64)
    apart = mean - other_mean
    scale = (spread / dims).logdet()
    return torch.exp(-0.5 * scale - 0.5 * apart @ torch.linalg.inv(spread) @ apart)


def estimates(p, q, kernel, size, times):
    return torch.stack([mmd(p.sample((size,)), q.sample((size,)), kernel) for _ in range(times)])


def test_between_normals_its_mean_is_the_closed_form():
    own = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), torch.diag(torch.tensor([0.3, 2.0, 1.0]).double())
    other = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64) + 0.2
    exact = expected_gaussian(*own, *own) + expected_gaussian(*other, *other) - 2 * expected_gaussian(*own, *other)
    mean, error = mean_and_error(estimates(MultivariateNormal(*own), MultivariateNormal(*other), gaussian, 50, 400))
    assert error < 0.05 * exact
    assert (mean - exact).abs() < 4 * error


def test_of_numbers_under_the_heavy_kernel_its_mean_is_the_integral():
    p, q = Normal(torch.tensor([1.5]).double(), 0.7), Normal(torch.tensor([0.0]).double(), 1.0)
    grid = torch.linspace(-40, 40, 400_001, dtype=torch.float64)

    def expected(apart, variance):
        density = Normal(apart, variance**0.5).log_prob(grid).exp()
        return torch.trapezoid(density * 2 / (2 + grid**2), grid)

    exact = expected(0.0, 2 * 0.7**2) + expected(0.0, 2.0) - 2 * expected(1.5, 0.7**2 + 1)
    mean, error = mean_and_error(estimates(p, q, inverse_multiquadratics, 50, 400))
    assert error < 0.05 * exact
    assert (mean - exact).abs() < 4 * error


@ALL
def test_between_draws_of_the_same_distribution_it_is_zero_in_the_mean_even_of_few(kernel):
    p = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    mean, error = mean_and_error(estimates(p, p, kernel, 4, 4000))
    assert mean.abs() < 4 * error
    assert error < 0.01  # sums with the pairs of a draw and itself would have a mean of (1 - E k) 2 / 4 > 0.1


@ALL
def test_draws_that_are_images_count_as_vectors(kernel):
    x, y = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    assert torch.equal(mmd(x, y, kernel), mmd(x.flatten(1), y.flatten(1), kernel))


@ALL
def test_gradients_stay_finite_where_draws_meet_and_where_they_are_far(kernel):
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1e4, 0.0]], requires_grad=True)
    mmd(x, torch.zeros(3, 2), kernel).backward()
    assert torch.isfinite(x.grad).all()


def test_the_heavy_kernel_still_draws_in_what_the_gaussian_has_lost():
    slopes = []
    for kernel in (inverse_multiquadratics, gaussian):
        x = torch.tensor([[40.0, 0.0], [-40.0, 0.0]], requires_grad=True)
        mmd(x, torch.zeros(2, 2), kernel).backward()
        slopes.append(x.grad[0, 0].item())
    assert slopes[0] > 1e-5
    assert slopes[1] == 0
