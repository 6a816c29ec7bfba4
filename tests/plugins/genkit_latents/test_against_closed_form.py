"""Every estimator against likelihoods that are known exactly, of one level and of two; neither too high nor too low."""

import itertools
import math

import pytest
import torch
from linear_gaussian import one_level, two_levels
from torch.distributions import MultivariateNormal, Normal

import genkit
from genkit_latents.annealed import Annealed
from genkit_latents.importance import Importance
from genkit_latents.monte_carlo import MonteCarlo

MODELS = {"one level": one_level, "two levels": two_levels}
ESTIMATORS = {
    "importance": Importance(k=400, chunk=100_000),
    "monte_carlo": MonteCarlo(k=2000, chunk=100_000),
    "annealed": Annealed(k=32, temperatures=50, leapfrog=3, chunk=100_000),
}
REPEATS = 300


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]


def drawn(model, count=REPEATS):
    """Data of the model's own, and their likelihoods."""
    x = model.marginal.sample((count,))
    return x, model.marginal.log_prob(x)


def ratios(estimator, model, x, exact):
    """Estimated over exact likelihoods."""
    return (estimator.estimate(model, x)[-1].nats - exact).exp()


def variance_of_a_weight(model, x):
    r"""Of :math:`p(x \mid z) / p(x)` with z from the prior: the squared normal is a normal of half the covariance."""
    decoder, dims = model.decoders[0], x.shape[-1]
    noise = decoder.covariance
    spread = model.marginal.covariance_matrix - noise  # of the mean
    log_constant = -0.5 * (dims * math.log(4 * math.pi) + noise.logdet())
    second = log_constant + MultivariateNormal(decoder.bias.detach(), spread + noise / 2).log_prob(x)
    return (second - 2 * model.marginal.log_prob(x)).expm1()


# ---- what holds of all -------------------------------------------------------------------------------------------


def test_estimates_are_within_their_errors_of_the_likelihood(model, estimator):
    """Their mean over many examples; the logarithm's bias, minus half the squared error, is taken off."""
    x, exact = drawn(model)
    last = estimator.estimate(model, x)[-1]
    off = (last.nats + last.errors.square() / 2 - exact).mean()
    assert abs(off) < 4 * last.errors.norm() / REPEATS + 0.01
    assert 0.005 < last.errors.square().mean().sqrt() < 0.3  # else this says nothing


def test_likelihoods_are_right_in_expectation(model, estimator):
    x, exact = drawn(model)
    ratio = ratios(estimator, model, x, exact)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / REPEATS**0.5


def test_errors_are_honest(model, estimator):
    """Over repeated runs on one example, how far estimates are off in units of their errors has a deviation of 1."""
    x = (model.marginal.mean + 0.5 * model.marginal.stddev).expand(REPEATS, -1)
    last = estimator.estimate(model, x)[-1]
    ratio = (last.nats - model.marginal.log_prob(x)).exp()
    scores = (ratio - 1) / (last.errors * ratio)
    assert 0.85 < scores.std() < 1.2
    assert abs(scores.mean()) < 0.3


@pytest.mark.parametrize("name", ["importance", "monte_carlo"])
@pytest.mark.parametrize(("k", "chunk"), [(12, 1), (12, 3), (12, 7), (12, 36), (12, 10**6), (1, 1), (1, 10**6)])
def test_however_draws_are_split_the_formula_is_the_same(name, k, chunk, monkeypatch):
    model = one_level()
    x, _ = drawn(model, 3)
    z = torch.randn(k, 2, dtype=torch.float64)  # what is drawn for each example in turn
    q, p = model.posterior(x), model.prior()
    source = MonteCarlo(k=k, chunk=chunk) if name == "monte_carlo" else Importance(k=k, chunk=chunk)
    serve_in_turn(monkeypatch, z)
    last = source.estimate(model, x)[-1]
    at = z[:, None].expand(k, 3, 2)
    log_weights = model.likelihood(at).log_prob(x)
    if name == "importance":
        log_weights = log_weights + p.log_prob(at) - q.log_prob(at)
    weights = log_weights.exp()
    assert last.draws == k
    assert torch.allclose(last.nats, weights.mean(0).log())
    if k > 1:
        assert torch.allclose(last.errors, weights.std(0) / k**0.5 / weights.mean(0))


def serve_in_turn(monkeypatch, z):
    """Has normals of any batch draw the same latents for each example, one after the other, once for each batch."""
    places = {}

    def sample(self, shape=()):
        count, start = shape[0], places.get(id(self), (self, 0))[1]
        places[id(self)] = (self, start + count)  # kept, so that no other takes its place
        batch = shape[1:] or self.batch_shape
        return z[start : start + count, None].expand(count, *batch, 2)

    monkeypatch.setattr(torch.distributions.Independent, "rsample", sample)
    monkeypatch.setattr(torch.distributions.Independent, "sample", sample)


@pytest.mark.parametrize("chunk", [1, 10, 10**6])
def test_examples_and_chains_in_parts_are_estimated_as_well(chunk):
    model = one_level()
    x, exact = drawn(model, 20 if chunk == 1 else 200)
    ratio = ratios(Annealed(k=4, temperatures=5, leapfrog=2, chunk=chunk), model, x, exact)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(x) ** 0.5


class Rows:
    """A model that notes how many latents its likelihood is shown at a time."""

    def __init__(self, model):
        self.model, self.rows = model, []
        self.prior, self.posterior = model.prior, model.posterior

    def likelihood(self, z, context=None):
        self.rows.append(len(z))
        return self.model.likelihood(z)


@pytest.mark.parametrize("cls", [Importance, MonteCarlo])
@pytest.mark.parametrize(("count", "k"), [(20, 5000), (250, 30)])
def test_memory_is_that_of_a_chunk_whatever_the_draws_and_the_examples(cls, count, k):
    rows = Rows(one_level())
    cls(k=k, chunk=100).estimate(rows, drawn(rows.model, count)[0])
    assert max(rows.rows) == 100
    assert sum(rows.rows) == count * k


def test_memory_of_chains_is_that_of_a_chunk():
    rows = Rows(one_level())
    Annealed(k=30, temperatures=3, leapfrog=1, chunk=100).estimate(rows, drawn(rows.model, 130)[0])
    assert max(rows.rows) == 100


@pytest.mark.parametrize("name", MODELS)
def test_more_draws_are_closer_from_below(name, estimator):
    model = MODELS[name](error=0.8)
    x, exact = drawn(model)
    below = [(exact - each.nats).mean().item() for each in estimator.estimate(model, x)]
    assert all(fewer > more - 0.02 for fewer, more in itertools.pairwise(below))  # chance moves them by less
    assert below[0] > below[1] + 0.02
    assert below[1] > -0.02


# ---- importance sampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 13])
def test_importance_sampling_from_the_true_posterior_is_exact_with_any_number_of_draws(model, k):
    x, exact = drawn(model, 20)
    last = Importance(k=k).estimate(model.to_truth(), x)[-1]
    assert torch.allclose(last.nats, exact, atol=1e-9)
    assert torch.allclose(last.effective, torch.full_like(exact, k))
    assert last.errors.isnan().all() if k == 1 else (last.errors < 1e-6).all()


def test_one_draw_of_importance_sampling_is_the_evidence_lower_bound_on_average(model):
    x = model.marginal.sample().expand(20_000, -1)
    nats = Importance(k=1, chunk=20_000).estimate(model, x)[-1].nats
    assert abs(nats.mean() - model.elbo(x[:1])) < 4 * nats.std() / len(nats) ** 0.5


# ---- plain Monte Carlo -------------------------------------------------------------------------------------------


def test_plain_monte_carlo_varies_as_theory_says():
    model, k, repeats = one_level(), 4, 40_000
    x = model.marginal.mean.expand(repeats, -1)
    ratio = ratios(MonteCarlo(k=k, chunk=40_000), model, x, model.marginal.log_prob(x))
    assert ratio.var() == pytest.approx(variance_of_a_weight(model, x[0]).item() / k, rel=0.1)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / repeats**0.5


def test_plain_monte_carlo_is_low_by_half_the_variance_over_the_draws():
    model, k, repeats = one_level(), 20, 40_000
    x = (model.marginal.mean + model.marginal.stddev).expand(repeats, -1)
    below = model.marginal.log_prob(x) - MonteCarlo(k=k, chunk=100_000).estimate(model, x)[-1].nats
    expected = variance_of_a_weight(model, x[0]).item() / (2 * k)
    assert below.mean() == pytest.approx(expected, rel=0.15)
    assert expected > 15 * below.std() / repeats**0.5  # chance does not decide


# ---- annealed importance sampling --------------------------------------------------------------------------------


def misled(model):
    """The model with posteriors that are narrow and beside the truth, as those of a decoder that moved on."""
    with torch.no_grad():
        for encoder in model.encoders:
            encoder.bias += 5 * encoder.tril.diagonal()
            encoder.tril *= 0.3
    return model


def test_chains_find_what_a_bad_posterior_hides(model):
    """Importance sampling is nats below and its errors do not say so; chains are right, since they do not ask it."""
    model = misled(model)
    x, exact = drawn(model, 200)
    hidden = Importance(k=1000).estimate(model, x)[-1]
    assert (hidden.nats - exact).mean() < -5
    assert hidden.errors.mean() < 1
    found = Annealed(k=16, temperatures=60, leapfrog=4).estimate(model, x)[-1]
    off = (found.nats + found.errors.square() / 2 - exact).mean()
    assert abs(off) < 4 * found.errors.norm() / len(x) + 0.01


@pytest.mark.parametrize("options", [{"temperatures": 3, "leapfrog": 1}, {"temperatures": 8, "schedule": "linear"}])
def test_one_chain_of_few_temperatures_is_right_in_expectation(model, options):
    x, exact = drawn(model, 4000)
    ratio = ratios(Annealed(k=1, chunk=4000, pilot=1, **options), model, x, exact)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(x) ** 0.5
    assert ratio.std() > 0.1


def test_with_one_temperature_chains_are_plain_draws_from_the_prior():
    model = one_level()
    x = model.marginal.mean.expand(20_000, -1)
    ratio = ratios(Annealed(k=4, temperatures=1, chunk=80_000), model, x, model.marginal.log_prob(x))
    assert ratio.var() == pytest.approx(variance_of_a_weight(model, x[0]).item() / 4, rel=0.15)


def test_more_temperatures_vary_less(model):
    x, exact = drawn(model)
    few, many = (ratios(Annealed(k=4, temperatures=count, leapfrog=3), model, x, exact).std() for count in (4, 64))
    assert many < 0.5 * few


class Within(genkit.GenerativeModel, genkit.LatentVariable):
    """A normal around a latent that is uniform in [-1, 1]; its likelihood is a difference of two normal integrals."""

    scale = 0.3

    def __init__(self):
        super().__init__(genkit.DataSpec((1,)))

    def prior(self, context=None):
        bound = torch.ones(1, dtype=torch.float64)
        return torch.distributions.Independent(torch.distributions.Uniform(-bound, bound, validate_args=False), 1)

    def posterior(self, x, context=None):
        return torch.distributions.Independent(Normal(x, 2 * self.scale), 1)

    def likelihood(self, z, context=None):
        return torch.distributions.Independent(Normal(z, self.scale), 1)

    def log_prob(self, x):
        unit = Normal(torch.zeros((), dtype=torch.float64), self.scale)
        return ((unit.cdf(x[:, 0] + 1) - unit.cdf(x[:, 0] - 1)) / 2).log()


def test_a_prior_that_is_flat_and_ends_is_served(estimator):
    """In its middle, at its edge and outside, where moves across the edge are refused."""
    model = Within()
    x = torch.tensor([[0.1], [0.95], [-1.2]], dtype=torch.float64).repeat(200, 1)
    last = estimator.estimate(model, x)[-1]
    ratio = (last.nats - model.log_prob(x)).exp().view(200, 3)
    assert torch.isfinite(last.nats).all()
    assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / 200**0.5).all()
