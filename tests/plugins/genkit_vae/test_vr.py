"""The Renyi bound: its limits, its formula, and what it is between normals, in closed form."""

import math

import pytest
import torch
from linear_gaussian import gradient, loss_of, mean_and_error, one_level, two_levels

import genkit
from genkit import GenkitError
from genkit_vae.vr import renyi_bound

MODELS = pytest.mark.parametrize("make", [one_level, two_levels])


@MODELS
@pytest.mark.parametrize(
    ("alpha", "use", "options"), [(1.0, "elbo", {"closed_form": False}), (0.0, "iwae", {})], ids=["elbo", "iwae"]
)
def test_at_one_it_is_the_evidence_lower_bound_and_at_zero_the_importance_weighted_one(make, alpha, use, options):
    model = make()
    x = model.marginal.sample((4,))
    ours = loss_of(model, x, "vr", seed=3, alpha=alpha, k=6)
    theirs = loss_of(model, x, use, seed=3, k=6, **options)
    assert ours.total.item() == pytest.approx(theirs.total.item(), rel=1e-12)
    assert ours.terms["negative_renyi"].item() == ours.total.item()
    found = gradient(model, model, x, "vr", seed=3, alpha=alpha, k=6)
    assert torch.allclose(found, gradient(model, model, x, use, seed=3, k=6, **options), rtol=1e-8)


@MODELS
def test_logs_the_bounds_of_its_latents_whatever_alpha(make):
    model = make()
    x = model.marginal.sample((4,))
    ours = loss_of(model, x, "vr", seed=3, alpha=0.3, k=6)
    theirs = loss_of(model, x, "iwae", seed=3, k=6)
    assert ours.terms["negative_elbo"] > ours.terms["negative_renyi"] > ours.terms["negative_bound"]
    for name, value in theirs.terms.items():
        assert ours.terms[name].item() == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 0.999, -1.0, -3.0])
def test_is_the_papers_formula(alpha):
    weights = torch.rand(5, 3, dtype=torch.float64) + 0.01
    expected = (weights ** (1 - alpha)).mean(0).log() / (1 - alpha)
    assert torch.allclose(renyi_bound(weights.log(), alpha), expected, rtol=1e-12)


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-15])
@pytest.mark.parametrize("sign", [-1, 1])
def test_near_one_nothing_is_lost_to_rounding(distance, sign):
    nats = (-100 + 3 * torch.randn(5, 4)).requires_grad_()  # float32, as far from 0 as those of images
    alpha = 1 + sign * distance
    found = renyi_bound(nats, alpha)
    exact = nats.double()
    expected = exact.mean(0) + (1 - alpha) / 2 * exact.var(0, unbiased=False)  # the first two orders
    assert torch.allclose(found.double(), expected, atol=5e-5)
    found.sum().backward()
    assert torch.allclose(nats.grad, torch.full((5, 4), 0.2), atol=2 * distance + 1e-6, rtol=3 * distance)


def test_a_very_negative_alpha_takes_the_largest_weight_alone():
    nats = (-100 + 3 * torch.randn(50, 4)).requires_grad_()
    found = renyi_bound(nats, -1e6)
    assert torch.allclose(found, nats.amax(0), atol=math.log(50) / 1e6 + 1e-5)
    found.sum().backward()
    assert torch.allclose(nats.grad, (nats == nats.amax(0)).float(), atol=1e-5)


def test_falls_as_alpha_rises_from_the_largest_weight_to_the_smallest():
    nats = torch.randn(7, 3, dtype=torch.float64)
    values = torch.stack([renyi_bound(nats, alpha) for alpha in (-1e9, -50, -1, 0, 0.5, 1, 1.5, 2, 50, 1e9)])
    assert (values.diff(dim=0) < 0).all()
    assert torch.allclose(values[0], nats.amax(0), atol=1e-8)
    assert torch.allclose(values[-1], nats.amin(0), atol=1e-8)


@pytest.mark.parametrize("alpha", [-50.0, -1.0, 0.0, 0.5, 1.0, 3.0, 50.0])
def test_weights_far_apart_neither_overflow_nor_lose_their_gradient(alpha):
    nats = torch.tensor([[-3000.0], [-10.0], [-800.0]], requires_grad=True)
    found = renyi_bound(nats, alpha)
    assert -3000 <= found.item() <= -10
    found.sum().backward()
    assert nats.grad.sum().item() == pytest.approx(1, rel=1e-5)
    assert (nats.grad >= 0).all()


@MODELS
@pytest.mark.parametrize("alpha", [-2.0, 0.5, 1.0, 2.0])
def test_with_the_true_posterior_it_is_the_marginal_whatever_alpha(make, alpha):
    model = make().to_truth()
    x = model.marginal.sample((4,))
    loss = loss_of(model, x, "vr", alpha=alpha, k=3)
    assert loss.total.item() == pytest.approx(-model.marginal.log_prob(x).mean().item(), rel=1e-10)


def renyi_divergence(q, p, alpha):
    """Between normals (Gil, Alajaji and Linder 2013, table 2)."""
    mixed = alpha * p.covariance_matrix + (1 - alpha) * q.covariance_matrix
    apart = (q.mean - p.mean).unsqueeze(-1)
    square = (apart.mT @ torch.linalg.inv(mixed) @ apart).squeeze((-2, -1))
    logs = mixed.logdet() - (1 - alpha) * q.covariance_matrix.logdet() - alpha * p.covariance_matrix.logdet()
    return alpha / 2 * square - logs / (2 * (alpha - 1))


@MODELS
@pytest.mark.parametrize("alpha", [-0.5, 0.3, 0.7])
def test_many_latents_give_the_marginal_less_the_renyi_divergence(make, alpha):
    model = make()
    x = model.marginal.sample((3,))
    exact = model.marginal.log_prob(x) - renyi_divergence(model.joint_posterior(x), model.true_posterior(x), alpha)
    with torch.no_grad():
        runs = torch.stack([-loss_of(model, x, "vr", alpha=alpha, k=20_000).total for _ in range(20)])
    mean, error = mean_and_error(runs)
    assert error < 0.005
    assert (mean - exact.mean()).abs() < 4 * error + 1e-3  # and the bias of 20,000 latents
    assert (exact - model.elbo(x)).min() > 0.02


@MODELS
def test_between_zero_and_one_it_bounds_the_marginal_tighter_than_the_evidence_lower_bound(make):
    model = make(error=0.5)
    x = model.marginal.sample((4,)).repeat(200, 1)
    with torch.no_grad():
        runs = torch.stack([-loss_of(model, x, "vr", alpha=0.5, k=5).total for _ in range(40)])
    mean, error = mean_and_error(runs)
    assert model.elbo(x).mean() + 4 * error < mean < model.marginal.log_prob(x).mean() - 4 * error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: should be greater than 0, 0 given"),
        ({"alpha": math.inf}, "alpha: should be a finite number, inf given"),
        ({"alpha": math.nan}, "alpha: should be a finite number, nan given"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(GenkitError, match=message):
        genkit.build("objective", {"use": "vr", **options}, one_level())
