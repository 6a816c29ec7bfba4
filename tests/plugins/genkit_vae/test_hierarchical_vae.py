"""Several stochastic layers, against linear-Gaussian ones whose marginal is known."""

import pytest
import torch
from torch.distributions import MultivariateNormal
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit_vae.divergence import kl_per_group
from genkit_vae.weights import draw, effective_samples, log_mean_exp

SPEC = genkit.DataSpec((1, 4, 4), levels=2)
NARROW = {"use": "mlp", "hidden_dims": [8]}
LEVELS = [{"latent_dim": size, "encoder": NARROW, "decoder": NARROW} for size in (4, 3, 2)]
LINEAR = {"use": "mlp", "hidden_dims": []}
SCALE = 0.5


def build(levels=LEVELS, spec=SPEC, **options):
    torch.manual_seed(0)
    return genkit.build("model", {"use": "hierarchical_vae", "levels": levels, **options}, spec)


@pytest.fixture
def linear():
    """Two linear layers: z2 ~ N(0, I), z1 ~ N(a z2 + c, s^2), x ~ N(w z1 + b, SCALE^2)."""
    levels = [{"latent_dim": size, "encoder": LINEAR, "decoder": LINEAR} for size in (2, 1)]
    model = build(levels, genkit.DataSpec((3,)), likelihood={"use": "gaussian", "scale": SCALE}).double()
    w, b = (p.detach() for p in model.decoders[0].parameters())
    down, offset = (p.detach() for p in model.decoders[1].parameters())
    down[2:] = 0  # the spread of the lower layer does not depend on the upper one
    for encoder in model.encoders:  # wide, and the same for all data: it misses nothing
        weight, bias = (p.detach() for p in encoder.parameters())
        weight.zero_()
        bias.copy_(torch.tensor([0.0, 0.8], dtype=torch.float64).repeat_interleave(len(bias) // 2))
    a, c, s = down[:2], offset[:2], offset[2:].exp()
    covariance = w @ (a @ a.T + torch.diag(s**2)) @ w.T + SCALE**2 * torch.eye(3, dtype=torch.float64)
    return model, MultivariateNormal(w @ c + b, covariance)


def test_levels_lie_side_by_side_the_lowest_first():
    model = build()
    assert model.latent_shape == (9,)
    assert list(model.levels) == [4, 3, 2]
    x = torch.bernoulli(torch.full((5, 1, 4, 4), 0.4))
    z = model.posterior(x).rsample()
    lowest = model.encoders[0](x).chunk(2, dim=1)[0]
    assert torch.equal(model.posterior(x).mean[:, :4], lowest)
    other = torch.cat([z[:, :4], torch.zeros(5, 5)], dim=1)
    assert torch.equal(model.decode(z), model.decode(other))  # data depend on the lowest layer alone


def test_the_prior_leads_from_the_top_down():
    model = build()
    z = torch.randn(6, 9)
    below, middle, top = z.split([4, 3, 2], dim=1)
    normal = torch.distributions.Normal
    expected = normal(0.0, 1.0).log_prob(top).sum(1)
    for decoder, given, drawn in ((model.decoders[2], top, middle), (model.decoders[1], middle, below)):
        mean, log_std = decoder(given).chunk(2, dim=1)
        expected = expected + normal(mean, log_std.exp()).log_prob(drawn).sum(1)
    assert torch.allclose(model.prior().log_prob(z), expected, atol=1e-5)


def test_the_posterior_leads_from_the_bottom_up():
    model = build()
    x, z = torch.bernoulli(torch.full((6, 1, 4, 4), 0.4)), torch.randn(6, 9)
    below, middle, top = z.split([4, 3, 2], dim=1)
    normal, expected = torch.distributions.Normal, torch.zeros(6)
    for encoder, given, drawn in zip(model.encoders, (x, below, middle), (below, middle, top), strict=True):
        mean, log_std = encoder(given).chunk(2, dim=1)
        expected = expected + normal(mean, log_std.exp()).log_prob(drawn).sum(1)
    assert torch.allclose(model.posterior(x).log_prob(z), expected, atol=1e-5)


def test_many_latents_approach_the_marginal_from_below(linear):
    model, marginal = linear
    torch.manual_seed(1)
    x = marginal.sample((8,))
    exact = marginal.log_prob(x)
    with torch.no_grad():
        bounds = {k: torch.stack([model.log_prob(x, num_samples=k).nats for _ in range(60)]) for k in (1, 20)}
        many = draw(model, x, 100_000).log_weights
    means = {k: values.mean(0) for k, values in bounds.items()}
    errors = {k: values.std(0) / 60**0.5 for k, values in bounds.items()}
    assert (means[1] < means[20] + 3 * (errors[1] + errors[20])).all()
    assert (means[20] < exact + 3 * errors[20]).all()
    assert (log_mean_exp(many) - exact).abs().max() < 4 / effective_samples(many).min() ** 0.5 < 0.3
    assert (means[1] - exact).mean() < -0.1  # or there would be nothing to see


def test_samples_have_the_marginals_moments(linear):
    model, marginal = linear
    torch.manual_seed(2)
    with torch.no_grad():
        x = model.likelihood(model.sample_latent(200_000)).sample()
    assert torch.allclose(x.mean(0), marginal.mean, atol=0.01)
    assert torch.allclose(torch.cov(x.T), marginal.covariance_matrix, atol=0.01)


def test_a_temperature_narrows_every_layer():
    model = build()
    torch.manual_seed(3)
    with torch.no_grad():
        wide, narrow, point = (model.sample_latent(4000, temperature=t) for t in (1.0, 0.5, 0.0))
    assert (narrow.std(0) < 0.8 * wide.std(0)).all()
    assert point.std(0).max() < 1e-6


def test_a_level_that_does_not_factorize_shares_its_divergence_out():
    model = build(prior={"use": "mixture", "components": 3})
    x = torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    q, p = model.posterior(x), model.prior()
    z = q.rsample((2,))
    groups = kl_per_group(q, p, z)
    assert groups.shape == (2, 6, 9)
    assert torch.allclose(groups.sum(-1), q.log_prob(z) - p.log_prob(z), atol=1e-4)
    assert torch.equal(groups[..., 7], groups[..., 8])  # the topmost level's two dimensions
    assert not torch.equal(groups[..., 0], groups[..., 1])


@pytest.mark.parametrize("start", ["random", "data"])
def test_pseudo_inputs_are_of_what_the_topmost_encoder_reads(start):
    model = build(prior={"use": "vamp", "pseudo_inputs": 5, "start": start})
    model.start(torch.bernoulli(torch.full((6, 1, 4, 4), 0.4)))
    assert model.latent_prior.inputs.shape == (5, 3)
    top = torch.randn(4, 2)
    parts = [model.top_posterior(u[None]).log_prob(top) for u in model.latent_prior.inputs]
    expected = torch.stack(parts).logsumexp(0) - torch.tensor(5.0).log()
    assert torch.allclose(model.latent_prior.distribution().log_prob(top), expected, atol=1e-5)


def test_each_part_starts_on_what_those_before_it_make_once_they_have_started():
    seen = []

    class Watched(torch.nn.Module):
        """A network that notes what it is shown first, and puts out means of 1,000 from then on."""

        def __init__(self, name, network):
            super().__init__()
            self.name, self.network, self.mean = name, network, 0.0

        def start(self, x):
            seen.append((self.name, x))
            self.mean = 1000.0

        def forward(self, x):
            mean, log_std = torch.zeros_like(self.network(x)).chunk(2, dim=1)
            return torch.cat([mean + self.mean, log_std], dim=1)

    model = build(prior={"use": "vamp", "pseudo_inputs": 4, "start": "data"})
    for group in ("encoders", "decoders"):
        watched = [Watched(f"{group}.{i}", network) for i, network in enumerate(getattr(model, group))]
        setattr(model, group, torch.nn.ModuleList(watched))
    x = torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    with torch.no_grad():
        model.start(x)
    assert [name for name, _ in seen] == [*(f"encoders.{i}" for i in range(3)), *(f"decoders.{i}" for i in (2, 1, 0))]
    shown = dict(seen)
    assert torch.equal(shown["encoders.0"], x)
    assert torch.equal(model.latent_prior.inputs, shown["encoders.2"][:4])  # what the topmost encoder reads
    for name in ("encoders.1", "encoders.2", "decoders.1", "decoders.0"):
        assert shown[name].min() > 900, f"{name} was shown what a part made before it started"


def test_samples_move_what_draws_from_the_prior_go_through():
    for prior in ("standard_normal", {"use": "vamp", "pseudo_inputs": 5}):
        model = build(prior=prior)
        model.rsample(7).square().sum().backward()
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        moved = {id(parameter) for parameter in model.sampling_parameters()}
        assert reached == {name for name, parameter in model.named_parameters() if id(parameter) in moved}
        assert any(name.startswith("encoders.2.") for name in reached) is (prior != "standard_normal")


def test_an_objective_says_what_a_level_lacks(tmp_path):
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        "data: {use: mnist, binarize: threshold}\n"
        "model: {use: hierarchical_vae, levels: [{latent_dim: 0}, {latent_dims: 3}]}\n"
        "objective: {use: elbo}\n"
    )
    said = CliRunner().invoke(app, ["validate", str(recipe)]).stderr
    assert "model.levels.0.latent_dim" in said
    assert "did you mean 'latent_dim'?" in said


def test_a_model_without_levels_is_refused(tmp_path):
    recipe = tmp_path / "none.yaml"
    recipe.write_text(
        "data: {use: mnist, binarize: threshold}\nmodel: {use: hierarchical_vae, levels: []}\nobjective: {use: elbo}\n"
    )
    result = CliRunner().invoke(app, ["validate", str(recipe)])
    assert result.exit_code != 0
    assert "model.levels" in result.stderr
