"""Independent normals against scipy's and against their gradients by hand."""

import math

import pytest
import scipy.stats
import torch
from torch.distributions import Normal, kl_divergence

import genkit

LOC, SCALE = [1.0, -2.0, 0.0], [0.5, 3.0, 1.0]


def built(shape=(3,), **options):
    return genkit.build("prior", {"use": "normal", **options}, shape)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    ("shape", "loc", "scale"), [((3,), LOC, SCALE), ((3,), LOC, 2.0), ((2, 3, 4), 1.5, 0.25), ((1,), 2, [3])]
)
def test_density_is_scipys_summed_over_dimensions(shape, loc, scale, learned):
    p = built(shape, loc=loc, scale=scale, learned=learned).distribution()
    assert (p.batch_shape, p.event_shape) == ((), shape)
    z = 3 * torch.randn(6, *shape)
    expected = scipy.stats.norm(loc, scale).logpdf(z.numpy()).reshape(6, -1).sum(1)
    assert p.log_prob(z).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_draws_are_normal_around_loc_with_the_scale_that_the_temperature_narrows(temperature):
    z = built(loc=LOC, scale=SCALE).sample(3000, temperature=temperature)
    assert z.shape == (3000, 3)
    for column, loc, scale in zip(z.T, LOC, SCALE, strict=True):
        assert scipy.stats.kstest(column.numpy(), scipy.stats.norm(loc, temperature * scale).cdf).pvalue > 0.01
    assert torch.corrcoef(z.T).triu(1).abs().max() < 0.08


def test_temperature_0_is_loc():
    assert built(loc=LOC, scale=SCALE).sample(2, temperature=0.0).tolist() == [LOC, LOC]


def test_divergences_from_it_have_a_closed_form():
    p = built((2,), loc=1.0, scale=2.0, learned=True).distribution()
    nats = kl_divergence(Normal(torch.zeros(4, 2), torch.ones(4, 2)), p.base_dist)
    assert nats.tolist() == [[pytest.approx(math.log(2) + (1 + 1) / 8 - 0.5)] * 2] * 4


def test_gradients_of_densities_reach_both_parameters():
    prior, z = built(loc=LOC, scale=SCALE, learned=True), torch.randn(5, 3)
    assert set(dict(prior.named_parameters())) == {"loc", "log_scale"}
    prior.distribution().log_prob(z).sum().backward()
    away = (z - torch.tensor(LOC)) / torch.tensor(SCALE)
    assert torch.allclose(prior.loc.grad, (away / torch.tensor(SCALE)).sum(0), atol=1e-5)
    assert torch.allclose(prior.log_scale.grad, (away.square() - 1).sum(0), rtol=1e-5, atol=1e-4)


def test_gradients_of_draws_reach_both_parameters():
    prior = built(loc=LOC, scale=SCALE, learned=True)
    z = prior.sample(5, temperature=0.5)
    z.sum().backward()
    assert prior.loc.grad.tolist() == [5.0] * 3
    assert torch.allclose(prior.log_scale.grad, (z - torch.tensor(LOC)).sum(0), atol=1e-5)


def test_what_is_learned_survives_a_state_dict_and_what_is_fixed_is_not_in_it():
    prior = built(learned=True)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor(LOC))
        prior.log_scale.copy_(torch.tensor(SCALE).log())
    other = built(learned=True)
    other.load_state_dict(prior.state_dict())
    z = torch.randn(4, 3)
    assert torch.equal(other.distribution().log_prob(z), prior.distribution().log_prob(z))
    assert not built(loc=LOC).state_dict()


def test_follows_the_arithmetic_of_its_model():
    prior = built(loc=LOC, learned=True).double()
    assert prior.sample(2).dtype == prior.distribution().sample().dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {"loc": [1.0, 2.0]}, r"loc has length 2, but the latent has shape \(3,\); length 3, or one number for"),
        ((3,), {"scale": [1.0]}, r"scale has length 1, but the latent has shape \(3,\); length 3"),
        ((3, 2, 2), {"loc": [1.0] * 3}, r"loc has length 3, but the latent has shape \(3, 2, 2\); one number for all"),
        ((3,), {"scale": [1.0, 0.0, 1.0]}, "scale"),
        ((3,), {"scale": -1.0}, "scale"),
        ((3,), {"loc": []}, "loc has length 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(shape, options, message):
    with pytest.raises(genkit.RecipeError, match=message):
        built(shape, **options)
