"""Sums of weights that come in parts: means, errors and effective samples against torch, in few digits too."""

import math

import pytest
import torch

from genkit_latents.estimator import Estimate, RunningMean, joined
from genkit_vae.weights import effective_samples


def course_of(*parts):
    mean = RunningMean(torch.zeros_like(parts[0][0]))
    for part in parts:
        mean.add(part)
    return mean.course()


@pytest.fixture
def log_weights():
    return 3 * torch.randn(57, 4, dtype=torch.float64) - 200


def test_figures_are_those_that_torch_gives_for_all_weights_at_once(log_weights):
    last = course_of(log_weights)[-1]
    weights = (log_weights + 200).exp()
    mean = weights.mean(0)
    assert last.draws == 57
    assert torch.allclose(last.nats, mean.log() - 200)
    assert torch.allclose(last.errors, weights.std(0) / math.sqrt(57) / mean)
    assert torch.allclose(last.effective, weights.sum(0).square() / weights.square().sum(0))
    assert torch.allclose(last.effective, effective_samples(log_weights))


@pytest.mark.parametrize("size", [1, 7, 10, 56, 100])
def test_parts_give_what_all_weights_at_once_give(log_weights, size):
    for part, whole in zip(course_of(*log_weights.split(size)), course_of(log_weights), strict=True):
        assert part.draws == whole.draws
        for name in ("nats", "errors", "effective"):
            assert torch.allclose(getattr(part, name), getattr(whole, name), rtol=1e-10, equal_nan=True)


def test_a_course_is_of_the_first_weights_by_powers_of_ten_and_of_all(log_weights):
    course = course_of(*log_weights.split(4))
    assert [estimate.draws for estimate in course] == [1, 10, 57]
    for estimate in course:
        first = log_weights[: estimate.draws]
        assert torch.allclose(estimate.nats, first.logsumexp(0) - math.log(estimate.draws))
    assert [estimate.draws for estimate in course_of(log_weights[:10])] == [1, 10]


def test_one_weight_has_no_error_and_is_one_sample(log_weights):
    (only,) = course_of(log_weights[:1])
    assert torch.equal(only.nats, log_weights[0])
    assert only.errors.isnan().all()
    assert (only.effective == 1).all()


def test_equal_weights_are_worth_as_many_as_they_are():
    last = course_of(torch.full((30, 2), -500.0))[-1]
    assert last.effective.tolist() == [30, 30]
    assert last.errors.tolist() == [0, 0]


def test_five_thousand_weights_of_thousands_of_nats_lose_nothing_in_float32():
    """A running sum of logarithms is off by a quarter of a nat here: it no longer sees the later weights."""
    log_weights = torch.randn(5000, 3) - 40_000
    exact = log_weights.double().logsumexp(0) - math.log(5000)
    last = course_of(*log_weights.split(1))[-1]
    assert last.nats.dtype == torch.float32
    assert (last.nats - exact).abs().max() < 4e-3  # what float32 has between two numbers of this size
    assert torch.allclose(last.effective.double(), effective_samples(log_weights.double()), rtol=1e-4)
    naive = torch.full((3,), -math.inf)
    for weight in log_weights:
        naive = torch.logaddexp(naive, weight)
    assert (naive - math.log(5000) - exact).abs().min() > 0.05


def test_weights_of_zero_count_as_draws():
    log_weights = torch.tensor([[-math.inf], [0.0], [-math.inf], [0.0]])
    for parts in ([log_weights], log_weights.split(1)):
        last = course_of(*parts)[-1]
        assert last.nats.item() == pytest.approx(math.log(0.5))
        assert last.effective.item() == pytest.approx(2)
        assert last.errors.item() == pytest.approx(torch.tensor([0.0, 1.0, 0.0, 1.0]).std().item() / 2 / 0.5)


def test_where_no_draw_has_any_weight_the_likelihood_is_zero_and_not_nan():
    course = course_of(*torch.full((20, 2), -math.inf).split(3))
    for estimate in course:
        assert estimate.nats.tolist() == [-math.inf, -math.inf]
        assert estimate.effective.tolist() == [0, 0]
    assert course[0].errors.isnan().all()
    assert course[-1].errors.tolist() == [math.inf, math.inf]


def test_estimates_of_batches_are_joined_in_order():
    one, other = (
        Estimate(7, torch.tensor([start]), torch.tensor([start + 1]), torch.tensor([start + 2])) for start in (0.0, 10)
    )
    both = joined([one, other])
    assert both.draws == 7
    assert (both.nats.tolist(), both.errors.tolist(), both.effective.tolist()) == ([0, 10], [1, 11], [2, 12])
