"""Likelihoods against scipy's; each refuses what it does not fit. What all keep is in their contract."""

import math

import pytest
import scipy.stats
import torch

import genkit
from genkit.registry import installed
from genkit.testing.common import data_like
from genkit_vae.likelihoods.discretized_logistic import LevelLogistic

NAMES = installed().names("likelihood")


def built(name, spec):
    return genkit.build("likelihood", name, spec)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (9,)])
def test_constant_half_is_one_bit_per_dimension(shape):
    spec = genkit.DataSpec(shape, levels=2)
    nats = built("bernoulli", spec).distribution(torch.zeros(4, *shape)).log_prob(data_like(spec, 4))
    bits = [genkit.bits_per_dim(-value, spec.num_dims) for value in nats.tolist()]
    assert bits == pytest.approx([1.0] * 4, abs=1e-6)


def test_bernoulli_is_scipys():
    x = torch.tensor([[0.0, 1.0, 1.0]])
    logits = torch.tensor([[-1.0, 0.5, 3.0]])
    nats = built("bernoulli", genkit.DataSpec((3,), levels=2)).distribution(logits).log_prob(x)
    expected = scipy.stats.bernoulli(torch.sigmoid(logits).numpy()).logpmf(x.numpy()).sum()
    assert nats.item() == pytest.approx(expected, rel=1e-6)


def test_gaussian_is_scipys():
    x, mean = torch.tensor([[0.1, 0.9]]), torch.tensor([[0.0, 1.2]])
    likelihood = genkit.build("likelihood", {"use": "gaussian", "scale": 0.25}, genkit.DataSpec((2,)))
    expected = scipy.stats.norm(mean.numpy(), 0.25).logpdf(x.numpy()).sum()
    assert likelihood.distribution(mean).log_prob(x).item() == pytest.approx(expected, rel=1e-5)


def test_discretized_logistic_is_scipys_cdf_differences():
    levels = torch.arange(256, dtype=torch.float64) / 255
    location, log_scale = torch.tensor(0.4, dtype=torch.float64), torch.tensor(math.log(0.03), dtype=torch.float64)
    distribution = LevelLogistic(location.expand(256, 1), log_scale.expand(256, 1), 256)
    cdf = scipy.stats.logistic(0.4, 0.03).cdf
    upper = torch.tensor(cdf((levels + 0.5 / 255).numpy()))
    lower = torch.tensor(cdf((levels - 0.5 / 255).numpy()))
    upper[-1], lower[0] = 1.0, 0.0
    expected = torch.log(upper - lower)
    likely = expected > -20  # where the difference of two cdfs still has digits
    assert likely.sum() > 100
    assert torch.allclose(distribution.log_prob(levels.view(-1, 1))[likely], expected[likely], rtol=1e-6)


def test_discretized_logistic_stays_finite_far_away():
    far = LevelLogistic(torch.full((2, 1), -40.0), torch.full((2, 1), -7.0), 256)
    assert torch.isfinite(far.log_prob(torch.tensor([[1.0], [0.5]]))).all()


GREY = genkit.DataSpec((1, 2, 2), 256, protocol="8-bit grey")
BITS = genkit.DataSpec((1, 2, 2), 2)
FITTING = {
    GREY: ["categorical", "continuous_bernoulli", "discretized_logistic", "gaussian"],
    BITS: ["bernoulli", "categorical"],
    genkit.DataSpec((2,)): ["gaussian"],
    genkit.DataSpec((1, 2, 2), 1000): ["continuous_bernoulli", "discretized_logistic", "gaussian"],
}


@pytest.mark.parametrize("spec", FITTING, ids=str)
def test_refuses_data_that_it_does_not_fit_and_names_those_that_do(spec):
    for name in NAMES:
        if name in FITTING[spec]:
            assert built(name, spec).spec is spec
            continue
        names = ", ".join(FITTING[spec])
        with pytest.raises(
            genkit.RecipeError, match=f"^{name}: this likelihood needs .*; likelihoods that fit it: {names}$"
        ):
            built(name, spec)
