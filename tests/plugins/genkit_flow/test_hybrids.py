"""Flows as priors and posteriors: their draws have the density that they are said to have."""

import pytest
import torch

import genkit
from genkit.testing import factory

MADE = {"hidden_dims": [16]}
CHAINS = {
    "planar": ["planar", "planar"],
    "radial": ["radial", "radial"],
    "inverse_autoregressive": [{"use": "inverse_autoregressive", **MADE}, {"use": "inverse_autoregressive", **MADE}],
    "affine_coupling": ["affine_coupling", {"use": "affine_coupling", "flip": True}],
}


def shaken(module):
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def posterior(bijections, **options):
    return shaken(factory("posterior", {"use": "flow_posterior", "bijections": bijections, **options})((2,)))


def encoded(build, count=5):
    return 0.5 * torch.randn(count, *build.parameter_shape, dtype=torch.float64)


@pytest.mark.parametrize("context_dim", [0, 4])
@pytest.mark.parametrize("name", CHAINS)
def test_values_broadcast_against_the_batch(name, context_dim):
    """Each value in each example's flow, against flows of one example."""
    family = posterior(CHAINS[name], context_dim=context_dim)
    parameters, values = encoded(family), torch.randn(2, 3, 2, dtype=torch.float64)
    found = family.distribution(parameters).log_prob(values.unsqueeze(2))
    assert found.shape == (2, 3, 5)
    for example in range(5):
        alone = family.distribution(parameters[example : example + 1].expand(3, -1))
        assert torch.allclose(found[..., example], alone.log_prob(values), atol=1e-8)
    assert torch.allclose(family.distribution(parameters).log_prob(values[0, 0]), found[0, 0], atol=1e-8)


@pytest.mark.parametrize("context_dim", [0, 4])
@pytest.mark.parametrize("name", CHAINS)
def test_a_draw_has_the_density_that_the_way_back_gives_it(name, context_dim):
    """The density that is known from drawing, against that of an equal tensor, which must be sent back."""
    family = posterior(CHAINS[name], context_dim=context_dim)
    q = family.distribution(encoded(family))
    for shape in ((), (7,), (2, 3)):
        z = q.rsample(shape)
        assert z.shape == (*shape, 5, 2)
        known = q.log_prob(z)
        assert known.shape == (*shape, 5)
        assert torch.allclose(known, q.log_prob(z.clone()), atol=1e-8)


@pytest.mark.parametrize("name", CHAINS)
def test_a_posterior_integrates_to_one_for_each_example(name):
    family = posterior(CHAINS[name], context_dim=4)
    q = family.distribution(encoded(family, 2))
    axis = torch.arange(-15, 15, 0.05, dtype=torch.float64) + 0.025
    points = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 2, -1)
    with torch.no_grad():
        mass = q.log_prob(points).exp().sum(0) * 0.05**2
    assert mass.tolist() == pytest.approx([1, 1], abs=1e-3)


def test_a_one_way_posterior_gives_its_draws_the_density_of_the_other():
    both, one = (posterior([{"use": "planar", "solve": solve}] * 2, context_dim=4) for solve in (True, False))
    one.load_state_dict(both.state_dict())
    parameters = encoded(both)
    q, p = both.distribution(parameters), one.distribution(parameters)
    z = p.rsample()
    assert torch.allclose(p.log_prob(z), q.log_prob(z), atol=1e-8)
    with pytest.raises(NotImplementedError, match="goes only from latents to data"):
        p.log_prob(z.clone())


def test_a_prior_has_one_density_for_draws_and_for_others():
    node = {"use": "flow_prior", "bijections": ["actnorm", {"use": "masked_autoregressive", **MADE}]}
    prior = shaken(factory("prior", node)((3,)))
    p = prior.distribution()
    z = p.rsample((50,))
    assert z.shape == (50, 3)
    assert torch.allclose(p.log_prob(z), p.log_prob(z.clone()), atol=1e-8)
    assert prior.sample(4, temperature=0.0).std(0).max() < 1e-9
    wide, narrow = (prior.sample(4000, temperature=t).std(0) for t in (1.0, 0.3))
    assert (narrow < 0.6 * wide).all()


@pytest.mark.parametrize(
    ("kind", "bijections", "reason"),
    [
        ("prior", [{"use": "planar", "solve": False}], "a prior needs both ways, but bijection 0 .planar. goes only"),
        ("posterior", ["squeeze"], "squeezes images"),
    ],
)
def test_what_cannot_be_a_prior_or_a_posterior_is_refused(kind, bijections, reason):
    with pytest.raises(genkit.RecipeError, match=reason):
        factory(kind, {"use": f"flow_{kind}", "bijections": bijections})((4,))
