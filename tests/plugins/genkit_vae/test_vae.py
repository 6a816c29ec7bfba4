"""The model and its bound, against a model whose marginal is known."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import genkit
from genkit.engine.feed import Feed
from genkit.testing.common import data_like

SCALE = 0.5
LINEAR = {
    "use": "vae",
    "latent_dim": 2,
    "encoder": {"use": "mlp", "hidden_dims": []},
    "decoder": {"use": "mlp", "hidden_dims": []},
    "likelihood": {"use": "gaussian", "scale": SCALE},
}


@pytest.fixture
def linear():
    """A linear-Gaussian model with its exact posterior, which is diagonal since W has orthogonal columns."""
    vae = genkit.build("model", LINEAR, genkit.DataSpec((3,))).double()
    w = torch.tensor([[1.0, 0.35], [1.0, -0.35], [0.0, 0.7]], dtype=torch.float64)
    b = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    precision = torch.eye(2, dtype=torch.float64) + w.T @ w / SCALE**2
    assert torch.allclose(precision, torch.diag(precision.diag()))
    gain = torch.linalg.solve(precision, w.T) / SCALE**2
    decoder, encoder = vae.decoder.layers[0], vae.encoder.layers[0]
    with torch.no_grad():
        decoder.weight.copy_(w)
        decoder.bias.copy_(b)
        encoder.weight.zero_()
        encoder.weight[:2] = gain
        encoder.bias[:2] = -gain @ b
        encoder.bias[2:] = -0.5 * precision.diag().log()
    vae.marginal = MultivariateNormal(b, w @ w.T + SCALE**2 * torch.eye(3, dtype=torch.float64))
    return vae


def mean_and_error(vae, x, draws, num_samples=1):
    values = torch.stack([vae.log_prob(x, num_samples=num_samples).nats for _ in range(draws)])
    return values.mean(0), values.std(0) / draws**0.5


def test_bound_is_the_marginal_at_the_exact_posterior(linear):
    torch.manual_seed(0)
    x = linear.marginal.sample((6,))
    with torch.no_grad():
        bound, error = mean_and_error(linear, x, 4000)
    assert ((bound - linear.marginal.log_prob(x)).abs() <= 5 * error).all()
    assert error.max() < 0.05


def test_bound_lies_below_the_marginal_by_the_posteriors_divergence(linear):
    torch.manual_seed(0)
    x = linear.marginal.sample((6,))
    shift = 0.4
    with torch.no_grad():
        linear.encoder.layers[0].bias[0] += shift
        bound, error = mean_and_error(linear, x, 4000)
        std = linear.posterior(x).stddev[0, 0].item()
    gap = linear.marginal.log_prob(x) - bound
    assert ((gap - shift**2 / (2 * std**2)).abs() <= 5 * error).all()
    assert (gap > 0).all()


def test_importance_weighting_tightens_the_bound(linear):
    torch.manual_seed(0)
    x = linear.marginal.sample((6,))
    with torch.no_grad():
        linear.encoder.layers[0].bias[0] += 0.4
        means = [mean_and_error(linear, x, 2000, k)[0] for k in (1, 2, 8)]
        tight, error = mean_and_error(linear, x, 200, 200)
    exact = linear.marginal.log_prob(x)
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    assert (means[2] < exact).all()
    assert ((tight - exact).abs() <= 5 * error + 0.01).all()


def test_importance_weights_vanish_at_the_exact_posterior(linear):
    x = torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        for k in (2, 7):
            assert torch.allclose(linear.log_prob(x, num_samples=k).nats, linear.marginal.log_prob(x), rtol=1e-6)


def test_figures_say_what_they_are(linear):
    x = torch.randn(2, 3, dtype=torch.float64)
    assert linear.log_prob(x).tag(linear.spec) == "lower bound; density of continuous"
    assert linear.log_prob(x, num_samples=5).tag(linear.spec) == "estimate (5 samples); density of continuous"


def test_untrained_model_starts_slightly_above_one_bit_per_dimension():
    data = genkit.build("dataset", {"use": "mnist", "binarize": "threshold"})
    x = next(Feed(data.split("validation"), torch.device("cpu")).batches(256)).x
    bits = []
    for seed in range(8):
        torch.manual_seed(seed)
        vae = genkit.build("model", {"use": "vae", "latent_dim": 20}, data.spec)
        bits.append(genkit.bits_per_dim(-vae.log_prob(x).nats.mean().item(), 784))
    assert 1.0 < sum(bits) / 8 < 1.005


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "discretized_logistic"])
def test_distributions_are_full_precision_under_bf16(likelihood):
    spec = genkit.DataSpec((1, 4, 4), levels=2 if likelihood == "bernoulli" else 256)
    vae = genkit.build("model", {"use": "vae", "latent_dim": 3, "likelihood": likelihood}, spec)
    x = data_like(spec, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q = vae.posterior(x)
        nats = vae.likelihood(q.rsample()).log_prob(x)
    assert nats.dtype == q.mean.dtype == torch.float32
    torch.manual_seed(0)
    exact = vae.log_prob(x).nats
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(vae.log_prob(x).nats, exact, rtol=5e-3)


def test_practicals_parameter_counts():
    spec = genkit.DataSpec((1, 28, 28), levels=2)
    mlp = {"use": "mlp", "hidden_dims": [512]}
    for backbone, count in ((mlp, 835_384), ({"use": "cnn", "channels": 32}, 266_281)):
        vae = genkit.build("model", {"use": "vae", "latent_dim": 20, "encoder": backbone, "decoder": backbone}, spec)
        assert sum(p.numel() for p in vae.parameters()) == count


def test_temperature_scales_the_prior():
    vae = genkit.build("model", {"use": "vae", "latent_dim": 3}, genkit.DataSpec((4,), levels=2))
    torch.manual_seed(0)
    wide = vae.sample_latent(5)
    torch.manual_seed(0)
    assert torch.equal(vae.sample_latent(5, temperature=0.5), 0.5 * wide)


def test_prior_density_is_the_normals():
    p = genkit.build("prior", "standard_normal", (3,)).distribution()
    assert p.log_prob(torch.zeros(3)).item() == pytest.approx(-1.5 * math.log(2 * math.pi), rel=1e-6)
