"""Latents of several levels as one distribution, against the joint normal that they are where all is linear."""

import math

import pytest
import torch
from linear_gaussian import TwoLevels, one_level, two_levels
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from genkit_vae.ancestral import Ancestral
from genkit_vae.divergence import kl_per_group, sampled_kl_per_group


@pytest.fixture(params=[False, True], ids=["diagonal", "full"])
def model(request) -> TwoLevels:
    return two_levels(full=request.param)


@pytest.fixture
def x(model):
    return model.marginal.sample((4,))


def gradients(model, value):
    """Of a sum with respect to all parameters; 0 where one plays no part."""
    parameters = list(model.parameters())
    return torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)])
def test_density_is_that_of_the_joint_normal(model, x, sample_shape):
    q, p = model.posterior(x), model.prior()
    z = q.rsample(sample_shape)
    assert z.shape == (*sample_shape, 4, 3)
    assert q.log_prob(z).shape == p.log_prob(z).shape == (*sample_shape, 4)
    assert torch.allclose(q.log_prob(z), model.joint_posterior(x).log_prob(z), rtol=1e-12)
    assert torch.allclose(p.log_prob(z), model.joint_prior.log_prob(z), rtol=1e-12)


def test_draws_have_the_moments_of_the_joint_normal(model, x):
    count = 40_000
    with torch.no_grad():
        pairs = [(model.posterior(x[:1]).sample((count,))[:, 0], model.joint_posterior(x[0])),
                 (model.prior().sample((count,)), model.joint_prior)]  # fmt: skip
    for draws, normal in pairs:
        covariance = normal.covariance_matrix
        error = covariance.diagonal().sqrt() / count**0.5
        assert ((draws.mean(0) - normal.mean).abs() < 4 * error).all()
        # Var(c_ij) = (s_ii s_jj + s_ij^2) / n
        spread = ((covariance.diagonal().outer(covariance.diagonal()) + covariance**2) / count).sqrt()
        assert ((draws.T.cov() - covariance).abs() < 4 * spread).all()


def test_a_prior_without_a_batch_draws_one_vector_or_any_number(model):
    p = model.prior()
    for shape in ((), (5,), (2, 5)):
        z = p.rsample(shape)
        assert z.shape == (*shape, 3)
        assert torch.allclose(p.log_prob(z), model.joint_prior.log_prob(z), rtol=1e-12)


def test_a_top_level_that_draws_without_gradients_alone_is_drawn_from():
    """Two peaks, at -3 and 3 with a third and two thirds of the mass; below them is a normal around twice the peak."""
    peaks = Independent(Normal(torch.tensor([[-3.0], [3.0]]), 0.1), 1)
    top = MixtureSameFamily(Categorical(torch.tensor([1.0, 2.0])), peaks)
    p = Ancestral(top, [lambda z: Independent(Normal(2 * z, 0.1), 1)], [1, 1], backward=True)
    z = p.sample((10_000,))
    assert z[:, 1].mean() == pytest.approx(1, abs=0.12)
    assert torch.allclose(z[:, 0], 2 * z[:, 1], atol=0.6)
    assert (z[:, 0] - 2 * z[:, 1]).std() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(p.log_prob(z), p.log_prob(z.clone()))


def test_mean_of_linear_levels_is_the_joint_mean(model, x):
    assert torch.allclose(model.posterior(x).mean, model.joint_posterior(x).mean, rtol=1e-12)
    assert torch.allclose(model.prior().mean, model.joint_prior.mean, rtol=1e-12)


def test_what_was_drawn_last_weighs_the_same_when_it_is_taken_for_any_value(model, x):
    for sample_shape in ((), (3,)):
        q = model.posterior(x)
        z = q.rsample(sample_shape)
        assert torch.equal(q.log_prob(z), q.log_prob(z.clone()))
        of_drawn, of_value = gradients(model, q.log_prob(z)), gradients(model, q.log_prob(z.clone()))
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(of_drawn, of_value, strict=True))
        assert any(gradient.abs().max() > 0.1 for gradient in of_drawn)


def test_a_value_drawn_earlier_is_no_longer_the_last(model, x):
    q = model.posterior(x)
    z = q.rsample((2,))
    expected = model.joint_posterior(x).log_prob(z)
    q.rsample((7,))
    assert torch.allclose(q.log_prob(z), expected, rtol=1e-12)


def test_draws_without_gradients_weigh_with_gradients_to_every_level(model, x):
    for distribution, levels in ((model.posterior(x), model.encoders), (model.prior(), model.decoders[1:])):
        z = distribution.sample((3,))
        assert not z.requires_grad
        drawn = gradients(levels, distribution.log_prob(z))
        value = gradients(levels, distribution.log_prob(z.clone()))
        for one, other in zip(drawn, value, strict=True):
            assert (one != 0).any()
            assert torch.allclose(one, other, atol=1e-12)


def test_values_broadcast_against_the_batch_as_with_any_distribution(model, x):
    q, joint = model.posterior(x), model.joint_posterior(x)
    z = q.rsample()
    for value in (z.unsqueeze(1), z[0], z[:1]):
        assert torch.allclose(q.log_prob(value), joint.log_prob(value), rtol=1e-12)


def test_parts_are_the_levels_in_the_order_of_the_event(model, x):
    q, p = model.posterior(x), model.prior()
    z = q.rsample((2,))
    for value in (z, z.clone()):
        for distribution in (q, p):
            lowest, top = distribution.parts(value)
            assert torch.equal(lowest[1].reshape(2, 4, 2), value[..., :2])
            assert torch.equal(top[1].reshape(2, 4, 1), value[..., 2:])
            low, high = (level.log_prob(own).reshape(2, 4) for level, own in (lowest, top))
            assert torch.allclose(low + high, distribution.log_prob(value), rtol=1e-12)


def test_estimated_divergences_mean_is_the_closed_form():
    count, model = 40_000, two_levels(error=0.5)
    x = model.marginal.sample((3,))
    joint = model.joint_prior
    with torch.no_grad():
        q, p = model.posterior(x), model.prior()
        z = q.rsample((count,))
        groups = sampled_kl_per_group(q, p, z)
    assert groups.shape == (count, 3, 3)
    total = groups.sum(-1)
    exact = kl_divergence(model.joint_posterior(x), MultivariateNormal(joint.mean, joint.covariance_matrix))
    error = total.std(0) / count**0.5
    assert (error < 0.01).all()
    assert ((total.mean(0) - exact).abs() < 4 * error).all()


def test_estimated_divergence_of_the_top_level_is_that_of_its_own_conditional():
    """Of the last dimension log q(z_2 | z_1) - log p(z_2), and of the first two log q(z_1 | x) - log p(z_1 | z_2)."""
    model = two_levels()
    x = model.marginal.sample((4,))
    q, p = model.posterior(x), model.prior()
    z = q.rsample((2,))
    low, top = z.split([2, 1], dim=-1)
    groups = kl_per_group(q, p, z)
    expected = model.encoders[1](low).log_prob(top) - 0.5 * (-(top[..., 0] ** 2) - math.log(2 * math.pi))
    assert torch.allclose(groups[..., 2], expected, rtol=1e-12)
    expected = model.encoders[0](x).base_dist.log_prob(low) - model.decoders[1](top).base_dist.log_prob(low)
    assert torch.allclose(groups[..., :2], expected, rtol=1e-10)


def test_levels_that_do_not_factorize_share_their_divergence_out_among_their_dimensions():
    model = two_levels(full=True)
    x = model.marginal.sample((4,))
    q, p = model.posterior(x), model.prior()
    z = q.rsample((2,))
    low, top = z.split([2, 1], dim=-1)
    groups = kl_per_group(q, p, z)
    lowest = model.encoders[0](x).log_prob(low) - model.decoders[1](top).log_prob(low)
    assert torch.allclose(groups[..., :2], (lowest / 2).unsqueeze(-1).expand(2, 4, 2), rtol=1e-10)
    assert torch.allclose(groups.sum(-1), q.log_prob(z) - p.log_prob(z), rtol=1e-10)


def test_one_level_in_closed_form_is_what_its_draws_estimate():
    count, model = 40_000, one_level(error=0.5)
    x = model.marginal.sample((3,))
    with torch.no_grad():
        q, p = model.posterior(x), model.prior()
        sampled = sampled_kl_per_group(q, p, q.rsample((count,)))
        exact = kl_per_group(q, p, q.rsample())
    error = sampled.std(0) / count**0.5
    assert ((sampled.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.01).all()
