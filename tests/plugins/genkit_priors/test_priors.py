"""Priors against scipy's distributions."""

import math

import pytest
import scipy.stats
import torch

import genkit
from genkit.registry import installed

SCIPY = {"standard_normal": scipy.stats.norm(), "uniform": scipy.stats.uniform(-1, 2), "normal": scipy.stats.norm()}


def test_every_prior_has_its_twin():
    assert set(SCIPY) <= set(installed().names("prior"))


@pytest.mark.parametrize("name", SCIPY)
def test_density_is_scipys_summed_over_dimensions(name):
    z = 2 * torch.rand(6, 3, 2) - 1
    distribution = genkit.build("prior", name, (3, 2)).distribution()
    assert distribution.batch_shape == ()
    assert distribution.event_shape == (3, 2)
    expected = SCIPY[name].logpdf(z.numpy()).sum((1, 2))
    assert distribution.log_prob(z).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("name", SCIPY)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_scipys_distribution_that_the_temperature_narrows(name, temperature):
    z = genkit.build("prior", name, (2,)).sample(3000, temperature=temperature)
    assert z.shape == (3000, 2)
    assert scipy.stats.kstest((z / temperature).flatten().numpy(), SCIPY[name].cdf).pvalue > 0.01
    assert abs(torch.corrcoef(z.T)[0, 1].item()) < 0.08


@pytest.mark.parametrize("name", SCIPY)
def test_temperature_0_is_the_centre(name):
    assert not genkit.build("prior", name, (4,)).sample(3, temperature=0.0).any()


def test_uniform_fills_its_interval_and_nothing_else():
    prior = genkit.build("prior", "uniform", (1,))
    z = prior.sample(5000)
    assert z.abs().max() <= 1
    assert z.min() < -0.99
    assert z.max() > 0.99
    assert prior.distribution().log_prob(torch.tensor([1.5])).item() == -math.inf


@pytest.mark.parametrize("name", SCIPY)
def test_has_nothing_to_train_or_to_keep(name):
    prior = genkit.build("prior", name, (4,))
    assert not list(prior.parameters())
    assert not prior.state_dict()
