"""Ancestral sampling: temperature, truncation, draws and means."""

import pytest
import scipy.stats
import torch

import genkit
import genkit_samplers.prior

SPEC = genkit.DataSpec((3,))


@pytest.fixture
def model():
    """A model that shows its latents."""
    generator = genkit.build(
        "model", {"use": "generator", "latent_dim": 3, "network": {"use": "mlp", "hidden_dims": []}}, SPEC
    )
    with torch.no_grad():
        generator.network.layers[0].weight.copy_(torch.eye(3))
        generator.network.layers[0].bias.zero_()
    return generator


def drawn(model, count, **options):
    sampler = genkit.build(
        "sampler", {"use": "prior", **options}, model, genkit.build("objective", "adversarial", model)
    )
    torch.manual_seed(5)
    with torch.no_grad():
        return sampler.sample(count)


@pytest.mark.parametrize("truncation", [0.5, 1.0, 2.0])
def test_truncated_latents_follow_scipys_truncated_normal(model, truncation):
    z = drawn(model, 1500, truncation=truncation).x
    assert z.shape == (1500, 3)
    assert z.abs().max() <= truncation
    expected = scipy.stats.truncnorm(-truncation, truncation)
    assert all(scipy.stats.kstest(column.numpy(), expected.cdf).pvalue > 0.01 for column in z.T)
    assert abs(torch.corrcoef(z.T)[0, 1].item()) < 0.1


def test_truncation_is_of_the_latent_that_the_temperature_made(model):
    z = drawn(model, 1500, truncation=1.0, temperature=2.0).x
    assert z.abs().max() <= 1
    expected = scipy.stats.truncnorm(-0.5, 0.5, scale=2)
    assert scipy.stats.kstest(z.flatten().numpy(), expected.cdf).pvalue > 0.01


def test_without_truncation_latents_are_the_priors(model):
    z = drawn(model, 3000).x
    assert z.abs().max() > 2.5
    assert scipy.stats.kstest(z.flatten().numpy(), scipy.stats.norm.cdf).pvalue > 0.01
    torch.manual_seed(5)
    expected = 0.7 * torch.randn(4, 3)
    assert torch.allclose(drawn(model, 4, temperature=0.7).x, expected)


def test_latents_within_the_truncation_are_kept(model):
    before = drawn(model, 200).x
    after = drawn(model, 200, truncation=1.5).x
    within = before.abs() <= 1.5
    assert torch.equal(after[within], before[within])
    assert (after != before)[~within].all()


def test_truncation_that_nothing_meets_is_refused(model, monkeypatch):
    monkeypatch.setattr(genkit_samplers.prior, "ROUNDS", 50)
    with pytest.raises(genkit.GenkitError, match="next to nothing within 1e-09 of 0; use a larger truncation"):
        drawn(model, 2, truncation=1e-9)


@pytest.mark.parametrize("truncation", [0.0, -1.0])
def test_truncation_must_be_positive(model, truncation):
    with pytest.raises(genkit.RecipeError, match="truncation"):
        drawn(model, 2, truncation=truncation)


def test_a_likelihood_is_drawn_from_unless_its_mean_is_asked_for():
    node = {"use": "mlp", "hidden_dims": [4]}
    options = {"use": "vae", "latent_dim": 2, "encoder": node, "decoder": node}
    vae = genkit.build("model", options, genkit.DataSpec((1, 4, 4), levels=2))
    draws = drawn(vae, 6, truncation=1.0)
    means = drawn(vae, 6, truncation=1.0, output="mean")
    assert set(draws.x.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(draws.mean, means.x)
    assert means.mean is None
