"""The importance-weighted bound and its gradients, where the marginal, the posterior and the bound are known."""

import pytest
import torch
from linear_gaussian import gradient, loss_of, mean_and_error, one_level, two_levels

import genkit
from genkit import GenkitError

MODELS = pytest.mark.parametrize("make", [one_level, two_levels])


def bound(model, x, k):
    """The bound's mean over many draws, averaged over examples, and its standard error."""
    many = x.repeat(200, 1)
    with torch.no_grad():
        return mean_and_error(torch.stack([-loss_of(model, many, "iwae", k=k).total for _ in range(50)]))


@MODELS
def test_bounds_lie_between_the_evidence_lower_bound_and_the_marginal_and_rise_with_k(make):
    model = make(error=0.5)
    x = model.marginal.sample((4,))
    found = [bound(model, x, k) for k in (1, 2, 5, 50)]
    exact, elbo = model.marginal.log_prob(x).mean(), model.elbo(x).mean()
    means, errors = torch.stack([mean for mean, _ in found]), torch.stack([error for _, error in found])
    assert exact - elbo > 0.5
    assert (errors < 0.02).all()
    assert (means[0] - elbo).abs() < 4 * errors[0]  # at k = 1 it is the evidence lower bound, on both sides
    assert (means.diff() > 4 * (errors[1:] + errors[:-1])).all()
    assert means[-1] < exact + 4 * errors[-1]
    assert means[-1] > exact - 0.1 * (exact - elbo)


@MODELS
@pytest.mark.parametrize("k", [1, 2, 5, 50])
def test_with_the_true_posterior_it_is_the_marginal_whatever_k(make, k):
    model = make().to_truth()
    x = model.marginal.sample((4,))
    loss = loss_of(model, x, "iwae", k=k)
    exact = pytest.approx(-model.marginal.log_prob(x).mean().item(), rel=1e-10)
    assert loss.total.item() == exact
    assert loss.terms["negative_bound"].item() == exact
    assert loss.terms["negative_elbo"].item() == exact
    assert loss.terms["effective_samples"].item() == pytest.approx(k, rel=1e-10)


@MODELS
@pytest.mark.parametrize("estimator", ["standard", "dreg", "stl"])
def test_is_the_papers_formula_of_its_latents(make, estimator):
    model = make()
    x = model.marginal.sample((4,))
    loss = loss_of(model, x, "iwae", seed=5, k=3, estimator=estimator)
    torch.manual_seed(5)
    z = model.posterior(x).rsample((3,)).detach()
    decoder = model.decoders[0]
    nats = torch.zeros(4, 3, dtype=torch.float64)
    for example in range(4):
        for draw in range(3):
            own = z[draw, example]
            mean = decoder.weight @ own[:2] + decoder.bias
            given = torch.distributions.MultivariateNormal(mean, decoder.covariance).log_prob(x[example])
            prior, posterior = model.joint_prior.log_prob(own), model.joint_posterior(x[example]).log_prob(own)
            nats[example, draw] = given + prior - posterior
    weights = nats.exp()
    assert loss.total.item() == pytest.approx(-weights.mean(1).log().mean().item(), rel=1e-10)
    assert loss.terms["negative_bound"].item() == pytest.approx(loss.total.item(), rel=1e-12)
    assert loss.terms["negative_elbo"].item() == pytest.approx(-nats.mean().item(), rel=1e-10)
    effective = weights.sum(1) ** 2 / (weights**2).sum(1)
    assert loss.terms["effective_samples"].item() == pytest.approx(effective.mean().item(), rel=1e-10)


def gradients(parts, model, x, times, **options):
    return torch.stack([gradient(parts, model, x, "iwae", **options) for _ in range(times)])


@MODELS
def test_doubly_reparameterized_gradient_is_the_standard_one_in_expectation(make):
    model = make(error=0.5)
    many = model.marginal.sample((4,)).repeat(250, 1)
    ours = sum(parameter.numel() for parameter in model.decoders.parameters())
    found = {name: gradients(model, model, many, 80, k=4, estimator=name) for name in ("standard", "dreg", "stl")}
    (standard, error), dreg, stl = (mean_and_error(values) for values in found.values())
    assert standard[:ours].abs().max() > 0.1
    assert standard[ours:].abs().max() > 0.1
    assert ((dreg[0] - standard).abs() <= 4 * (error**2 + dreg[1] ** 2).sqrt()).all()
    # the weight in the place of its square is another gradient, for the encoder alone
    apart = ((stl[0] - standard).abs() / (error**2 + stl[1] ** 2).sqrt()).nan_to_num()
    assert apart[:ours].max() < 4
    assert apart[ours:].max() > 20


@MODELS
def test_at_the_true_posterior_only_the_standard_gradient_of_the_encoder_is_noisy(make):
    model = make().to_truth()
    x = model.marginal.sample((4,))
    for estimator in ("dreg", "stl"):
        assert gradients(model.encoders, model, x, 3, k=4, estimator=estimator).abs().max() < 1e-10
    assert gradients(model.encoders, model, x, 3, k=4).abs().max() > 0.1
    for estimator in ("standard", "dreg", "stl"):
        assert gradients(model.decoders, model, x, 3, k=4, estimator=estimator).abs().max() > 0.1


@MODELS
def test_reparameterized_gradients_are_less_noisy_than_the_standard_one(make):
    model = make(error=0.1)
    x = model.marginal.sample((4,))
    spread = {
        estimator: gradients(model.encoders, model, x, 100, k=8, estimator=estimator).var(0).sum()
        for estimator in ("standard", "dreg", "stl")
    }
    assert spread["dreg"] < 0.5 * spread["standard"]
    assert spread["stl"] < 0.5 * spread["standard"]


@MODELS
def test_with_one_latent_both_reparameterized_gradients_are_the_same(make):
    model = make()
    x = model.marginal.sample((4,))
    standard, stl, dreg = (
        gradient(model, model, x, "iwae", seed=3, k=1, estimator=estimator) for estimator in ("standard", "stl", "dreg")
    )
    assert torch.allclose(stl, dreg, rtol=1e-10)
    assert not torch.allclose(stl, standard, rtol=1e-2)


@pytest.mark.parametrize("estimator", ["standard", "dreg", "stl"])
def test_a_posterior_that_is_not_trained_leaves_the_decoder_its_gradient(estimator):
    model = one_level()
    x = model.marginal.sample((4,))
    expected = gradient(model.decoders, model, x, "iwae", seed=3, k=4, estimator=estimator)
    model.encoders.requires_grad_(False)
    found = gradient(model.decoders, model, x, "iwae", seed=3, k=4, estimator=estimator)
    assert torch.allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["standard", "dreg", "stl"])
def test_the_loss_is_the_same_where_nothing_is_recorded(estimator):
    model = two_levels()
    x = model.marginal.sample((4,))
    expected = loss_of(model, x, "iwae", seed=3, estimator=estimator).total
    with torch.no_grad():
        found = loss_of(model, x, "iwae", seed=3, estimator=estimator).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def flow_model():
    """A model whose posterior knows the density of its own draws alone."""
    pytest.importorskip("genkit_flow")
    posterior = {"use": "flow_posterior", "bijections": [{"use": "planar", "solve": False}], "context_dim": 0}
    return genkit.build("model", {"use": "vae", "latent_dim": 2, "posterior": posterior}, genkit.DataSpec((4,), 2))


@pytest.mark.parametrize("estimator", ["dreg", "stl"])
def test_a_density_that_is_known_of_draws_alone_is_refused_at_the_start(estimator):
    model = flow_model()
    objective = genkit.build("objective", {"use": "iwae", "estimator": estimator}, model)
    with pytest.raises(GenkitError, match=f"estimator '{estimator}' needs a posterior whose density is known every"):
        objective.start(model, torch.zeros(3, 4))


@MODELS
@pytest.mark.parametrize("estimator", ["standard", "dreg", "stl"])
def test_a_density_that_is_known_everywhere_is_taken_as_the_engine_starts(make, estimator):
    model = make()
    objective = genkit.build("objective", {"use": "iwae", "estimator": estimator}, model)
    with torch.no_grad():  # as the engine does
        objective.start(model, model.marginal.sample((2,)))


def test_the_standard_estimator_serves_a_density_that_is_known_of_draws_alone():
    model = flow_model()
    objective = genkit.build("objective", "iwae", model)
    objective.start(model, torch.zeros(3, 4))
    loss = loss_of(model, torch.zeros(3, 4), "iwae")
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("k", [0, -3, 1.5])
def test_k_below_one_is_refused(k):
    with pytest.raises(GenkitError, match=r"k: .*(greater than 0|valid integer)"):
        genkit.build("objective", {"use": "iwae", "k": k}, one_level())
