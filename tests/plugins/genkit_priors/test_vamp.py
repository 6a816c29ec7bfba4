"""The mixture of a model's own posteriors against mixtures by hand."""

import copy
import math

import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import genkit
from genkit import Progress
from genkit.engine.ema import MovingAverage
from genkit.testing import check_model, factory
from genkit.testing.common import data_like
from genkit_priors import vamp

IMAGES, VECTORS = genkit.DataSpec((1, 4, 5), levels=2), genkit.DataSpec((3,))
WEIGHTS = [0.5, 0.3, 0.15, 0.05]
FLOW = {"use": "flow_posterior", "bijections": ["planar", "affine_coupling"], "context_dim": 3}
POSTERIORS = ["diagonal", "full_covariance", FLOW]


def built(spec=IMAGES, posterior="diagonal", **options):
    """A small model in float64 a little way from its start, with pseudo-inputs on both sides of each bound."""
    network = {"use": "mlp", "hidden_dims": [8], "activation": "tanh"}
    prior = {"use": "vamp", "pseudo_inputs": 4, **options}
    node = {"use": "vae", "latent_dim": 2, "encoder": network, "decoder": network, "prior": prior}
    likelihood = "bernoulli" if spec.levels else "gaussian"
    vae = genkit.build("model", {**node, "posterior": posterior, "likelihood": likelihood}, spec).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return vae


def pseudo_inputs(vae):
    u = vae.latent_prior.inputs.detach()
    return u.clamp(0, 1) if vae.spec.is_image else u


@pytest.mark.parametrize("spec", [IMAGES, VECTORS], ids=["images", "vectors"])
def test_with_one_pseudo_input_it_is_the_posterior_there(spec):
    vae, x = built(spec, pseudo_inputs=1), data_like(spec, 1).double()
    with torch.no_grad():
        vae.latent_prior.inputs.copy_(x)
    z = torch.randn(7, 2, dtype=torch.float64)
    assert torch.allclose(vae.prior().log_prob(z), vae.posterior(x).log_prob(z), rtol=1e-12)
    assert vae.sample_latent(3, temperature=0.0).allclose(vae.encode(x).expand(3, 2))


@torch.no_grad()
def test_density_is_the_weighted_sum_of_scipys_normals():
    vae = built(learned_weights=True)
    vae.latent_prior.logits.copy_(torch.tensor(WEIGHTS).log() + 3)  # a constant changes nothing
    inputs = vae.latent_prior.inputs.numpy()
    assert inputs.min() < 0 < inputs.max()
    parameters = vae.encoder(torch.as_tensor(inputs.clip(0, 1))).numpy()
    z = torch.randn(9, 2, dtype=torch.float64)
    parts = [
        scipy.stats.norm(row[:2], math.e ** row[2:]).logpdf(z.numpy()).sum(1) + math.log(weight)
        for row, weight in zip(parameters, WEIGHTS, strict=True)
    ]
    expected = scipy.special.logsumexp(parts, axis=0)
    assert vae.prior().log_prob(z).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("spec", [IMAGES, VECTORS], ids=["images", "vectors"])
@pytest.mark.parametrize("posterior", POSTERIORS, ids=["diagonal", "full", "flow"])
def test_density_is_that_of_the_posteriors_one_by_one(posterior, spec):
    vae = built(spec, posterior)
    u, z = pseudo_inputs(vae), torch.randn(3, 5, 2, dtype=torch.float64)
    apart = torch.stack([vae.posterior(u[k : k + 1].expand(5, *u.shape[1:])).log_prob(z) for k in range(4)])
    p = vae.prior()
    assert (p.batch_shape, p.event_shape) == ((), (2,))
    assert torch.allclose(p.log_prob(z), apart.logsumexp(0) - math.log(4), rtol=1e-8)
    torchs = MixtureSameFamily(Categorical(torch.ones(4).double()), vae.posterior(u), validate_args=False)
    assert torch.allclose(p.log_prob(z[0]), torchs.log_prob(z[0]), rtol=1e-12)


def test_density_is_the_same_some_values_at_a_time(monkeypatch):
    vae, z = built(IMAGES, "full_covariance"), torch.randn(3, 7, 2, dtype=torch.float64)
    whole = vae.prior().log_prob(z)
    sizes = []
    plain = MixtureSameFamily.log_prob
    monkeypatch.setattr(MixtureSameFamily, "log_prob", lambda self, x: (sizes.append(len(x)), plain(self, x))[1])
    monkeypatch.setattr(vamp, "ELEMENTS", 4 * 2 * 4 + 1)  # four values in four components of two dimensions
    assert torch.equal(vae.prior().log_prob(z), whole)
    assert sizes == [4] * 5 + [1]
    assert torch.equal(vae.prior().log_prob(z[0, 0]), whole[0, 0])


def test_density_of_single_precision_does_not_suffer_from_narrow_posteriors_far_away():
    weights = Categorical(torch.tensor([0.3, 0.7]))
    normals = Independent(Normal(torch.tensor([[30.0, -5.0], [0.1, 2.0]]), torch.tensor([[1e-3, 0.2], [0.3, 1e-2]])), 1)
    z = torch.tensor([[30.001, -5.1], [0.2, 2.02], [3.0, 3.0]])
    exact = MixtureSameFamily(
        Categorical(weights.probs.double()),
        Independent(Normal(normals.mean.double(), normals.stddev.double()), 1),
    )
    assert torch.allclose(
        vamp.PosteriorMixture(weights, normals).log_prob(z).double(), exact.log_prob(z.double()), rtol=1e-5
    )


def test_bound_is_that_of_the_mixture_by_hand():
    vae, x = built(), data_like(IMAGES, 6).double()
    torch.manual_seed(3)
    q = vae.posterior(x)
    z = q.rsample()
    apart = torch.stack([vae.posterior(u[None]).log_prob(z) for u in pseudo_inputs(vae)])
    log_p = apart.exp().mean(0).log()
    logits = vae.decoder(z)
    reconstruction = -(x * logits - (1 + logits.exp()).log()).flatten(1).sum(1)
    kl = q.log_prob(z) - log_p
    torch.manual_seed(3)
    elbo = genkit.build("objective", {"use": "elbo", "beta": 0.5}, vae)
    loss = elbo.loss(vae, genkit.Batch(x), Progress(torch.zeros(()), torch.zeros(())))
    assert loss.total.item() == pytest.approx((reconstruction + 0.5 * kl).mean().item(), rel=1e-9)
    assert loss.terms["kl"].item() == pytest.approx(kl.mean().item(), rel=1e-9)
    torch.manual_seed(3)
    assert torch.allclose(vae.log_prob(x).nats, -(reconstruction + kl), rtol=1e-9)


def test_gradients_of_a_density_are_those_of_the_mixture_by_hand():
    vae, z = built(), torch.randn(6, 2, dtype=torch.float64)
    moved = [vae.latent_prior.inputs, *vae.encoder.parameters()]
    found = torch.autograd.grad(vae.prior().log_prob(z).sum(), moved)
    apart = torch.stack([vae.posterior(u[None].clamp(0, 1)).log_prob(z) for u in vae.latent_prior.inputs])
    expected = torch.autograd.grad(apart.exp().mean(0).log().sum(), moved)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-12)
        assert one.any()
    u = vae.latent_prior.inputs
    outside = (u < 0) | (u > 1)
    assert not found[0][outside].any()
    assert found[0][~outside].all()


@torch.no_grad()
def test_draws_come_from_the_mixture():
    vae = built(learned_weights=True)
    vae.latent_prior.logits.copy_(torch.tensor(WEIGHTS).log())
    q, z = vae.posterior(pseudo_inputs(vae)), vae.sample_latent(20_000)
    for dim in range(2):
        normals = [
            scipy.stats.norm(loc, scale)
            for loc, scale in zip(q.mean[:, dim].tolist(), q.stddev[:, dim].tolist(), strict=True)
        ]

        def cdf(values, normals=normals):
            return sum(weight * normal.cdf(values) for weight, normal in zip(WEIGHTS, normals, strict=True))

        assert scipy.stats.kstest(z[:, dim].numpy(), cdf).pvalue > 0.01


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.0, 0.3, 2.0])
def test_temperature_scales_all_around_the_mean(temperature):
    vae = built(learned_weights=True)
    vae.latent_prior.logits.copy_(torch.tensor(WEIGHTS).log())
    torch.manual_seed(1)
    plain = vae.sample_latent(50)
    torch.manual_seed(1)
    z = vae.sample_latent(50, temperature=temperature)
    mean = (torch.tensor(WEIGHTS)[:, None] * vae.encode(pseudo_inputs(vae))).sum(0)
    assert torch.allclose(z, mean + temperature * (plain - mean), atol=1e-6)


def test_samples_move_all_that_latents_come_from():
    vae = built(posterior=FLOW)
    moved = list(vae.sampling_parameters())
    vae.rsample(5).square().sum().backward()
    assert {id(p) for p in moved} == {id(p) for p in vae.parameters() if p.grad is not None}
    parts = (vae.latent_prior, vae.encoder, vae.posterior_family, vae.decoder)
    assert len(moved) == sum(len(list(part.parameters())) for part in parts)


def test_with_another_prior_samples_do_not_move_the_encoder():
    vae = genkit.build("model", {"use": "vae", "prior": "mixture"}, IMAGES)
    assert not {id(p) for p in vae.encoder.parameters()} & {id(p) for p in vae.sampling_parameters()}


# ---- where pseudo-inputs start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "options", "mean", "std"),
    [
        (IMAGES, {}, 0.05, 0.01),
        (VECTORS, {}, 0.0, 1.0),
        (genkit.DataSpec((6,), levels=2), {}, 0.05, 0.01),
        (IMAGES, {"mean": 0.4, "std": 0.05}, 0.4, 0.05),
        (VECTORS, {"mean": 3.0}, 3.0, 1.0),
    ],
)
def test_random_pseudo_inputs_are_normal(spec, options, mean, std):
    likelihood = "bernoulli" if spec.levels else "gaussian"
    node = {"use": "vae", "likelihood": likelihood, "prior": {"use": "vamp", **options}}
    prior = genkit.build("model", node, spec).latent_prior
    assert prior.inputs.shape == (500, *spec.shape)
    found = prior.inputs.detach()
    prior.start(data_like(spec, 3))
    assert torch.equal(prior.inputs, found)
    assert scipy.stats.kstest(found.flatten().numpy(), scipy.stats.norm(mean, std).cdf).pvalue > 0.01


@pytest.mark.parametrize("spec", [IMAGES, VECTORS], ids=["images", "vectors"])
def test_data_are_taken_from_the_first_batch_and_again_with_noise(spec):
    x = data_like(spec, 100).double()
    vae = built(spec, pseudo_inputs=250, start="data", std=0.002)
    vae.start(x)
    u = vae.latent_prior.inputs.detach()
    expected = x.clamp(0.01, 0.99) if spec.is_image else x
    assert torch.equal(u[:100], expected)
    away = u[100:] - x.repeat(2, *[1] * len(spec.shape))[:150]
    if spec.is_image:  # noise does not leave what clamping leaves, so that all have gradients
        assert away.abs().max() < 0.015
        assert u.min() == 0.01
        assert u.max() == 0.99
    else:
        assert scipy.stats.kstest(away.flatten().numpy(), scipy.stats.norm(0, 0.002).cdf).pvalue > 0.01
    assert (torch.autograd.grad(vae.prior().log_prob(vae.encode(x)).sum(), vae.latent_prior.inputs)[0] != 0).all()


def test_more_data_than_pseudo_inputs_leaves_the_rest():
    vae, x = built(VECTORS, start="data"), data_like(VECTORS, 9).double()
    vae.start(x)
    assert torch.equal(vae.latent_prior.inputs, x[:4])


# ---- whose posterior it is ---------------------------------------------------------------------------------------


def test_the_encoder_is_kept_once():
    vae = built(learned_weights=True)
    own = {name for name in vae.state_dict() if name.startswith("latent_prior")}
    assert own == {"latent_prior.inputs", "latent_prior.logits"}
    assert set(built().latent_prior.state_dict()) == {"inputs"}


def test_a_copy_asks_its_own_encoder():
    vae, z = built(), torch.randn(5, 2, dtype=torch.float64)
    before = vae.prior().log_prob(z)
    twin = copy.deepcopy(vae)
    assert torch.equal(twin.prior().log_prob(z), before)
    with torch.no_grad():
        twin.encoder.layers[-1].bias.add_(1)
    assert not torch.allclose(twin.prior().log_prob(z), before)
    assert torch.equal(vae.prior().log_prob(z), before)
    with torch.no_grad():
        vae.encoder.layers[-1].bias.add_(1)
    assert torch.equal(twin.prior().log_prob(z), vae.prior().log_prob(z))


def test_a_moving_average_has_the_prior_of_its_own_weights():
    vae, z = built(), torch.randn(5, 2, dtype=torch.float64)
    average = MovingAverage(vae, 0.5)
    average.update()
    start = copy.deepcopy(vae)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(torch.randn_like(parameter))
    average.update()
    middle = copy.deepcopy(start)
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), vae.parameters(), strict=True):
            parameter.lerp_(other, 0.5)
    assert torch.allclose(average.model.prior().log_prob(z), middle.prior().log_prob(z), rtol=1e-9)
    assert not torch.allclose(average.model.prior().log_prob(z), vae.prior().log_prob(z))


def test_survives_a_state_dict_and_moves_with_its_model():
    vae, other = built(learned_weights=True), built(learned_weights=True)
    z = torch.randn(5, 2, dtype=torch.float64)
    assert not torch.allclose(other.prior().log_prob(z), vae.prior().log_prob(z))
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other.prior().log_prob(z), vae.prior().log_prob(z))
    assert vae.float().prior().log_prob(z.float()).dtype == torch.float32
    assert vae.to("meta").prior().log_prob(z.to("meta")).device.type == "meta"


@pytest.mark.parametrize("posterior", POSTERIORS, ids=["diagonal", "full", "flow"])
def test_a_variational_autoencoder_with_it_keeps_the_contract_of_models(posterior):
    prior = {"use": "vamp", "pseudo_inputs": 5, "start": "data"}
    check_model(factory("model", {"use": "vae", "latent_dim": 2, "prior": prior, "posterior": posterior}))


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"use": "vae", "prior": {"use": "vamp", "pseudo_inputs": 0}}, "pseudo_inputs"),
        ({"use": "vae", "prior": {"use": "vamp", "std": 0.0}}, "std"),
        ({"use": "vae", "prior": {"use": "vamp", "start": "data", "mean": 0.1}}, "mean is of a random start"),
        (
            {"use": "flow", "bijections": ["actnorm"], "base": "vamp"},
            "vamp needs a posterior, and a flow has none; priors that would do: .*mixture, .*standard_normal",
        ),
        ({"use": "generator", "prior": "vamp"}, "vamp needs a posterior, and a generator has none; priors that would"),
        (
            {"use": "vae", "prior": {"use": "flow_prior", "bijections": ["actnorm"], "base": "vamp"}},
            "vamp needs a posterior, and what lies behind a flow has none; priors that would do",
        ),
        (
            {
                "use": "vae",
                "prior": "vamp",
                "posterior": {"use": "flow_posterior", "bijections": [{"use": "planar", "solve": False}]},
            },
            "knows that of its own draws alone; diagonal, full_covariance or bijections that go both ways would do",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(node, message):
    with pytest.raises(genkit.RecipeError, match=message) as caught:
        genkit.build("model", node, IMAGES)
    assert "vamp" not in str(caught.value).partition("would do: ")[2]


def test_an_owner_that_never_introduces_its_posterior_is_told():
    prior = genkit.build("prior", "vamp", (2,))
    for ask in (prior.distribution, lambda: prior.sample(1)):
        with pytest.raises(RuntimeError, match="has met no posterior: its owner calls meet"):
            ask()
