"""Mixtures of normals against scipy's normals, by hand."""

import math

import pytest
import scipy.stats
import torch

import genkit

LOCS = [[-3.0, 0.0], [2.0, 1.0], [0.0, 9.0]]
WEIGHTS = [0.5, 0.3, 0.2]
MEAN = [-0.9, 2.1]


def built(shape=(2,), **options):
    return genkit.build("prior", {"use": "mixture", **options}, shape)


@pytest.fixture
def prior():
    """Three components, each with another weight and another spread in each dimension."""
    prior = built(locs=LOCS)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor(WEIGHTS).log() + 4)  # a constant changes nothing
        prior.log_scales.copy_(torch.tensor([[0.5, 1.0], [2.0, 0.25], [1.0, 1.0]]).log())
    return prior


def by_hand(z, weights, locs, scales):
    """The density, from scipy's normals."""
    parts = [
        weight * scipy.stats.norm(loc, scale).pdf(z).reshape(len(z), -1).prod(1)
        for weight, loc, scale in zip(weights, locs, scales, strict=True)
    ]
    return sum(parts)


def test_density_is_the_weighted_sum_of_normals(prior):
    p = prior.distribution()
    assert (p.batch_shape, p.event_shape) == ((), (2,))
    z = 4 * torch.randn(20, 2, dtype=torch.float64)
    expected = by_hand(z.numpy(), WEIGHTS, LOCS, prior.log_scales.detach().exp().numpy())
    assert prior.double().distribution().log_prob(z).exp().tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_latents_may_be_images():
    prior = built((2, 3, 4), components=5, scale=0.5)
    assert prior.sample(7).shape == (7, 2, 3, 4)
    assert prior.distribution().event_shape == (2, 3, 4)
    z = torch.randn(6, 2, 3, 4) / 2
    expected = by_hand(z.numpy(), [0.2] * 5, prior.locs.detach().numpy(), [0.5] * 5)
    assert prior.distribution().log_prob(z).tolist() == pytest.approx([math.log(v) for v in expected], rel=1e-4)


def test_starts_with_equal_weights_and_the_given_spread():
    prior = built(locs=LOCS, scale=0.3)
    assert prior.locs.tolist() == LOCS
    assert torch.allclose(prior.log_scales.exp(), torch.full((3, 2), 0.3))
    assert prior.distribution().mixture_distribution.probs.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("options", "spread"), [({}, 1.0), ({"spread": 4.0}, 4.0)])
def test_centres_are_drawn_from_a_normal(options, spread):
    assert len(built().locs) == 10
    centres = built(components=2000, **options).locs.detach()
    assert scipy.stats.kstest(centres.flatten().numpy(), scipy.stats.norm(0, spread).cdf).pvalue > 0.01
    torch.manual_seed(5)
    first = built(**options).locs
    torch.manual_seed(5)
    assert torch.equal(first, built(**options).locs)


@torch.no_grad()
def test_draws_come_from_the_components_by_their_weights(prior):
    z = prior.sample(4000)
    for dim in range(2):
        scales = prior.log_scales[:, dim].exp().tolist()
        normals = [scipy.stats.norm(loc[dim], scale) for loc, scale in zip(LOCS, scales, strict=True)]

        def cdf(x, normals=normals):
            return sum(weight * normal.cdf(x) for weight, normal in zip(WEIGHTS, normals, strict=True))

        assert scipy.stats.kstest(z[:, dim].numpy(), cdf).pvalue > 0.01
    top = z[:, 1] > 6  # of the third component, which lies far from the others
    assert top.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert z[top, 0].mean().item() == pytest.approx(0.0, abs=0.15)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_temperature_scales_all_around_the_mean(prior, temperature):
    torch.manual_seed(1)
    plain = prior.sample(50)
    torch.manual_seed(1)
    z = prior.sample(50, temperature=temperature)
    mean = torch.tensor(MEAN)
    assert torch.allclose(z, mean + temperature * (plain - mean), atol=1e-5)
    assert torch.equal(z, plain) is (temperature == 1.0)
    assert (len(z.unique(dim=0)) == 1) is (temperature == 0.0)


def test_gradients_of_densities_reach_weights_centres_and_scales(prior):
    z = 3 * torch.randn(40, 2)
    prior.distribution().log_prob(z).sum().backward()
    normals = prior.distribution().component_distribution
    joint = normals.log_prob(z[:, None]).exp() * torch.tensor(WEIGHTS)
    share = (joint / joint.sum(1, keepdim=True)).detach()  # p(k | z), (N, K)
    away = ((z[:, None] - prior.locs) / prior.log_scales.exp()).detach()  # (N, K, D)
    assert torch.allclose(prior.logits.grad, (share - torch.tensor(WEIGHTS)).sum(0), atol=1e-3)
    by_loc = (share[..., None] * away / prior.log_scales.exp().detach()).sum(0)
    assert torch.allclose(prior.locs.grad, by_loc, rtol=1e-3, atol=1e-3)
    assert torch.allclose(prior.log_scales.grad, (share[..., None] * (away.square() - 1)).sum(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gradients_of_draws_reach_centres_and_scales_but_no_weights(prior, temperature):
    prior.sample(200, temperature=temperature).sum().backward()
    assert prior.locs.grad.sum(0).tolist() == pytest.approx([200.0, 200.0], rel=1e-5)
    assert (prior.log_scales.grad != 0).all()
    assert prior.logits.grad is None


@pytest.mark.parametrize("learned", [True, False])
def test_survives_a_state_dict_drawn_centres_included(learned):
    prior, other = built(learned=learned, scale=0.5), built(learned=learned)
    assert set(dict(prior.named_parameters())) == ({"locs", "log_scales", "logits"} if learned else set())
    z = torch.randn(8, 2)
    expected = prior.distribution().log_prob(z)
    assert not torch.allclose(other.distribution().log_prob(z), expected)
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.distribution().log_prob(z), expected)


def test_follows_the_arithmetic_of_its_model(prior):
    assert prior.double().sample(2).dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2,), {"locs": [[0.0, 1.0], [2.0]]}, r"locs\[1\] has length 1, but the latent has shape \(2,\); length 2"),
        ((3,), {"locs": LOCS}, r"locs\[0\] has length 2, but the latent has shape \(3,\); length 3 would fit"),
        ((1, 2, 2), {"locs": LOCS}, r"locs are for latents that are vectors, but these have shape \(1, 2, 2\); compon"),
        ((2,), {"locs": LOCS, "components": 4}, "there are 3 locs for 4 components"),
        ((2,), {"locs": LOCS, "spread": 2.0}, "spread is of centres that are drawn"),
        ((2,), {"locs": []}, "locs"),
        ((2,), {"locs": [[]]}, "locs"),
        ((2,), {"components": 0}, "components"),
        ((2,), {"scale": 0.0}, "scale"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(shape, options, message):
    with pytest.raises(genkit.RecipeError, match=message):
        built(shape, **options)
    assert len(built((2,), locs=LOCS, components=3).locs) == 3
