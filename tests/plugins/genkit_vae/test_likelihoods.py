"""Every likelihood is a probability or a density that sums or integrates to 1, and refuses what it does not fit."""

import math

import pytest
import scipy.stats
import torch

import genkit
from genkit.registry import installed
from genkit.testing.common import SPECS, data_like, refused
from genkit_vae.likelihoods.discretized_logistic import LevelLogistic

NAMES = installed().names("likelihood")
PIXEL = {
    "binary": genkit.DataSpec((1, 1, 1), levels=2),
    "five levels": genkit.DataSpec((1, 1, 1), levels=5),
    "8-bit": genkit.DataSpec((1, 1, 1), levels=256),
}


def built(name, spec):
    return genkit.build("likelihood", name, spec)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_ranges_and_samples(name):
    served = [spec for spec in SPECS.values() if not refused(lambda spec=spec: built(name, spec))]
    assert served
    for spec in served:
        likelihood = built(name, spec)
        torch.manual_seed(7)
        parameters = torch.randn(5, *likelihood.parameter_shape, requires_grad=True)
        distribution = likelihood.distribution(parameters)
        nats = distribution.log_prob(data_like(spec, 5))
        assert nats.shape == (5,)
        assert distribution.sample().shape == distribution.mean.shape == (5, *spec.shape)
        assert distribution.sample().requires_grad is False
        nats.sum().backward()
        assert parameters.grad.abs().sum() > 0
        if likelihood.measure == "probability":
            assert (nats <= 0).all()
            steps = distribution.sample() * (spec.levels - 1)
            assert torch.allclose(steps, steps.round(), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pixel", PIXEL)
def test_probabilities_sum_to_one(name, pixel):
    spec = PIXEL[pixel]
    if refused(lambda: built(name, spec)) or built(name, spec).measure == "density":
        pytest.skip("serves no such data")
    likelihood = built(name, spec).double()
    torch.manual_seed(1)
    parameters = 2 * torch.randn(1, *likelihood.parameter_shape, dtype=torch.float64)
    values = torch.linspace(0, 1, spec.levels, dtype=torch.float64)
    parameters = parameters.expand(spec.levels, *parameters.shape[1:])
    total = likelihood.distribution(parameters).log_prob(values.view(-1, 1, 1, 1)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("name", "low", "high"), [("gaussian", -3, 4), ("continuous_bernoulli", 0, 1)])
def test_densities_integrate_to_one(name, low, high):
    likelihood = built(name, PIXEL["8-bit"]).double()
    x = torch.linspace(low, high, 20_001, dtype=torch.float64).view(-1, 1, 1, 1)
    for value in (-2.0, 0.3, 1.7):
        parameters = torch.full_like(x, value)
        density = likelihood.distribution(parameters).log_prob(x).exp()
        assert torch.trapezoid(density, x.flatten()).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_mean_is_the_mean_of_samples(name):
    spec = next(s for s in (PIXEL["binary"], PIXEL["8-bit"]) if not refused(lambda s=s: built(name, s)))
    likelihood = built(name, spec)
    torch.manual_seed(2)
    parameters = 0.3 * torch.randn(1, *likelihood.parameter_shape)
    distribution = likelihood.distribution(parameters.expand(40_000, *parameters.shape[1:]))
    samples = distribution.sample()
    error = 5 * samples.std().item() / 200 + 2e-3
    assert samples.mean().item() == pytest.approx(distribution.mean[0].item(), abs=error)


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
