"""InfoVAE and MMD-VAE: their sums, their limits, and what they refuse."""

import pytest
import torch
from linear_gaussian import gradient, loss_of, one_level, two_levels

import genkit
from genkit import GenkitError
from genkit_vae.discrepancy import gaussian, inverse_multiquadratics, mmd

MODELS = pytest.mark.parametrize("make", [one_level, two_levels])
KERNELS = pytest.mark.parametrize(
    ("name", "kernel"), [("gaussian", gaussian), ("inverse_multiquadratics", inverse_multiquadratics)]
)


def by_hand(model, x, kernel):
    """Reconstruction, divergence and discrepancy with the latents of seed 3."""
    torch.manual_seed(3)
    z = model.posterior(x).rsample()
    draws = model.prior().rsample((len(x),))
    elbo = loss_of(model, x, "elbo", seed=3)
    return -model.likelihood(z).log_prob(x).mean(), elbo.terms["kl"], mmd(z, draws, kernel)


@MODELS
@KERNELS
def test_info_vae_is_the_papers_sum(make, name, kernel):
    model = make()
    x = model.marginal.sample((6,))
    loss = loss_of(model, x, "info_vae", seed=3, alpha=-0.5, lam=4.0, kernel=name)
    reconstruction, kl, discrepancy = (value.item() for value in by_hand(model, x, kernel))
    assert loss.total.item() == pytest.approx(reconstruction + 1.5 * kl + 2.5 * discrepancy, rel=1e-10)
    terms = {"reconstruction": reconstruction, "kl": kl, "mmd": discrepancy, "negative_elbo": reconstruction + kl}
    assert {term: value.item() for term, value in loss.terms.items()} == pytest.approx(terms, rel=1e-10)


@MODELS
@KERNELS
def test_mmd_is_reconstruction_and_the_weighted_discrepancy(make, name, kernel):
    model = make()
    x = model.marginal.sample((6,))
    loss = loss_of(model, x, "mmd", seed=3, weight=7.0, kernel=name)
    reconstruction, _, discrepancy = (value.item() for value in by_hand(model, x, kernel))
    assert loss.total.item() == pytest.approx(reconstruction + 7 * discrepancy, rel=1e-10)
    terms = {"reconstruction": reconstruction, "mmd": discrepancy}
    assert {term: value.item() for term, value in loss.terms.items()} == pytest.approx(terms, rel=1e-10)


@MODELS
@pytest.mark.parametrize(
    ("alpha", "lam", "use", "options"), [(0.0, 1.0, "elbo", {}), (1.0, 30.0, "mmd", {"weight": 30.0})]
)
def test_info_vae_lies_between_the_evidence_lower_bound_and_mmd(make, alpha, lam, use, options):
    model = make()
    x = model.marginal.sample((6,))
    ours = loss_of(model, x, "info_vae", seed=3, alpha=alpha, lam=lam).total
    assert ours.item() == pytest.approx(loss_of(model, x, use, seed=3, **options).total.item(), rel=1e-10)
    found = gradient(model, model, x, "info_vae", seed=3, alpha=alpha, lam=lam)
    assert torch.allclose(found, gradient(model, model, x, use, seed=3, **options), rtol=1e-8, atol=1e-10)


def test_the_prior_between_levels_learns_from_the_discrepancy_alone():
    model = two_levels()
    x = model.marginal.sample((6,))
    none, some, double = (gradient(model.decoders[1], model, x, "mmd", seed=3, weight=w) for w in (0.0, 5.0, 10.0))
    assert none.abs().max() == 0
    assert some.abs().max() > 1e-3
    assert torch.allclose(double, 2 * some, rtol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.25, "lam": 0.5}, r"0\.25 \+ 0\.5 - 1 is below 0; lam: 0\.75 or more would do"),
        ({"alpha": 1.5}, "alpha: should be less than or equal to 1, 1.5 given"),
        ({"lam": -1.0}, "lam: should be greater than or equal to 0, -1.0 given"),
        ({"kernel": "rbf"}, "kernel: should be 'gaussian' or 'inverse_multiquadratics', 'rbf' given"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises((GenkitError, ValueError), match=message):
        genkit.build("objective", {"use": "info_vae", **options}, one_level())


def test_weights_that_sum_to_zero_but_for_rounding_are_taken():
    for tenth in range(1, 10):
        genkit.build("objective", {"use": "info_vae", "alpha": tenth / 10, "lam": 1 - tenth / 10}, one_level())
