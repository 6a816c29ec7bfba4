"""The model: exact where it says so, a bound where it says that, and refused where it would mean nothing."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, TransformedDistribution, transforms

import genkit
from genkit.component import Factory
from genkit.model import HasLogProb, SamplesWithLogProb, lacking
from genkit.testing import factory
from genkit_flow.bijection import Bijection
from genkit_flow.bijections.multiscale import Repeat
from genkit_flow.chain import Chain
from genkit_flow.flow import Flow, Invertible
from genkit_priors.prior import Prior

PLANE = genkit.DataSpec((2,))
LINE = genkit.DataSpec((1,))
GREY = genkit.DataSpec((1, 4, 4), levels=256)
NET = {"conditioner": {"use": "mlp", "hidden_dims": [16], "activation": "gelu"}}
COUPLING = {"use": "affine_coupling", **NET}
MADE = {"hidden_dims": [16]}
SIDE = 0.03
FLOWS = {
    "affine_coupling": [COUPLING, {**COUPLING, "flip": True}, COUPLING],
    "additive_coupling": [{"use": "additive_coupling", **NET}, {"use": "additive_coupling", **NET, "flip": True}],
    "spline_coupling": [{"use": "spline_coupling", **NET}, {"use": "spline_coupling", **NET, "flip": True}],
    "masked_autoregressive": [
        {"use": "masked_autoregressive", **MADE},
        {"use": "masked_autoregressive", **MADE, "flip": True},
    ],
    "inverse_autoregressive": [
        {"use": "inverse_autoregressive", **MADE},
        "permutation",
        {"use": "inverse_autoregressive", **MADE},
    ],
    "planar": ["planar", "planar", "planar"],
    "radial": ["radial", "radial", "radial"],
    "invertible_linear": ["actnorm", "invertible_linear", {"use": "affine", "learned": True}],
}


def flow(bijections, spec=PLANE, *, shake=0.3, **options):
    """A flow with random parameters."""
    model = genkit.build("model", {"use": "flow", "bijections": bijections, **options}, spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(shake * torch.randn_like(parameter))
    return model


# ---- densities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_densities_in_the_plane_integrate_to_one(name):
    """A sum over small squares that hold all but a negligible share of the mass; within 1e-3."""
    model = flow(FLOWS[name], shake=0.2).double()
    axis = torch.arange(-12, 12, SIDE, dtype=torch.float64) + SIDE / 2
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = sum(model.log_prob(part).nats.exp().sum() for part in points.split(200_000)) * SIDE**2
    assert mass.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["planar", "radial", "affine", "masked_autoregressive"])
def test_densities_on_a_line_integrate_to_one(name):
    model = flow([name, {"use": "affine", "scale": 0.7, "shift": 0.2}, name], LINE).double()
    axis = torch.arange(-30, 30, 1e-3, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        mass = model.log_prob(axis).nats.exp().sum() * 1e-3
    assert mass.item() == pytest.approx(1, abs=1e-3)


class Cube(Bijection):
    """x^3."""

    def __init__(self, shape: genkit.Shape, context_shape: genkit.Shape | None, /):
        super().__init__(shape, context_shape)

    def forward(self, x, context=None):
        return x**3, (3 * x.square()).log().flatten(1).sum(1)

    def inverse(self, z, context=None):
        x = z.sign() * z.abs() ** (1 / 3)
        return x, -(3 * x.square()).log().flatten(1).sum(1)


class Interval(Prior):
    """Uniform on [a, b]."""

    ends = (1.0, 8.0)

    def __init__(self, latent_shape: genkit.Shape, /):
        super().__init__()
        self.latent_shape = latent_shape

    def distribution(self, context=None):
        low, high = (torch.full(self.latent_shape, end) for end in self.ends)
        return Independent(torch.distributions.Uniform(low, high, validate_args=False), 1, validate_args=False)

    def sample(self, num_samples, context=None, temperature=1.0):
        return self.distribution().sample((num_samples,))


@pytest.mark.parametrize(("a", "b"), [(1.0, 8.0), (-27.0, -1.0), (0.001, 64.0)])
def test_the_cube_of_a_uniform_variable(a, b, monkeypatch):
    """f(x) = x^3 on a uniform base over [a, b]: p(x) = 3 x^2 / (b - a) on [a^(1/3), b^(1/3)], and no mass elsewhere."""
    monkeypatch.setattr(Interval, "ends", (a, b))
    model = Flow(LINE, bijections=[Factory("cube", {}, Cube)], base=Factory("interval", {}, Interval))
    low, high = (math.copysign(abs(end) ** (1 / 3), end) for end in (a, b))
    width = (high - low) / 20_000
    x = (torch.arange(20_000) + 0.5) * width + low
    density = model.log_prob(x.unsqueeze(1)).nats.exp()
    assert torch.allclose(density, 3 * x.square() / (b - a), rtol=1e-4)
    assert (density.double().sum() * width).item() == pytest.approx(1, abs=1e-3)
    outside = torch.tensor([[low - 0.01], [high + 0.01]])
    assert model.log_prob(outside).nats.tolist() == [-math.inf, -math.inf]


def test_an_affine_flow_is_the_normal_of_torch():
    """z = W (x + b) e^s: a normal with covariance (W e^s)^-1 (W e^s)^-T."""
    model = flow(["actnorm", "invertible_linear"], genkit.DataSpec((3,))).double()
    eye = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        back = (model.decode(eye) - model.decode(torch.zeros_like(eye))).T  # columns: where the axes go
        mean = model.decode(torch.zeros(1, 3, dtype=torch.float64))[0]
        expected = MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(back @ back.T))
        x = 2 * torch.randn(20, 3, dtype=torch.float64)
        assert torch.allclose(model.log_prob(x).nats, expected.log_prob(x), atol=1e-8)


def test_logit_and_affine_are_those_of_torch():
    """Without alpha's ends the flow is a logistic-normal distribution."""
    model = flow(
        [{"use": "logit", "alpha": 1e-7}, {"use": "affine", "scale": 2.0, "shift": 0.5}], LINE, shake=0
    ).double()
    steps = [transforms.AffineTransform(-0.25, 0.5), transforms.SigmoidTransform()]
    expected = TransformedDistribution(Normal(torch.zeros(1).double(), torch.ones(1).double()), steps)
    x = torch.linspace(0.02, 0.98, 25, dtype=torch.float64).unsqueeze(1)
    assert torch.allclose(model.log_prob(x).nats, expected.log_prob(x).squeeze(1), atol=1e-4)


# ---- likelihoods say what they are ------------------------------------------------------------------------------


def test_continuous_data_has_an_exact_density():
    result = flow(FLOWS["affine_coupling"]).log_prob(torch.randn(3, 2), num_samples=5)
    assert result.tag(PLANE) == "exact; density of continuous"


def test_discrete_data_has_a_bound_that_more_draws_tighten():
    torch.manual_seed(1)
    model = flow(["logit", {"use": "affine_coupling", "mask": "checkerboard", "conditioner": "cnn"}], GREY, shake=0.05)
    x = torch.randint(0, 256, (64, 1, 4, 4)).float() / 255
    with torch.no_grad():
        one, many = model.log_prob(x), model.log_prob(x, num_samples=64)
    assert one.tag(GREY) == "lower bound; 256 levels; uniform dequantization"
    assert many.tag(GREY) == "estimate (64 samples); 256 levels; uniform dequantization"
    assert many.nats.mean() > one.nats.mean() + 0.05


def test_dequantized_bits_are_pinned():
    """An affine flow with a standard normal base on two levels: the bound by hand, and the estimate by quadrature."""
    spec = genkit.DataSpec((1,), levels=2)
    model = flow([{"use": "affine", "scale": 2.0, "shift": -1.0}], spec, shake=0)
    x = torch.tensor([[0.0], [1.0]]).repeat(200_000, 1)
    with torch.no_grad():
        bound = model.log_prob(x).nats.mean().item()
        estimate = model.log_prob(x[:2000], num_samples=2000).nats
    # y = (i + u) / 2, z = 2 y - 1 lies uniformly in [-1, 0] or [0, 1]: E[log N(z)] = -log(2 pi)/2 - 1/6
    expected = -0.5 * math.log(2 * math.pi) - 1 / 6 + math.log(2) - math.log(2)
    assert bound == pytest.approx(expected, abs=2e-3)
    exact = math.log(Normal(0, 1).cdf(torch.tensor(1.0)).item() - 0.5)
    assert estimate.mean().item() == pytest.approx(exact, abs=2e-3)


def test_variational_noise_starts_uniform_and_is_a_density():
    """q(u | x) of a shaken dequantizer integrates to 1: E_q[1 / q(u | x)] is the volume of the cube, 1."""
    spec = genkit.DataSpec((1, 1, 2), levels=4)
    node = {"use": "variational", "bijections": [COUPLING, {**COUPLING, "flip": True}]}
    dequantizer = genkit.build("dequantizer", node, spec)
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).repeat(200_000, 1, 1, 1)
    with torch.no_grad():
        y, log_weight = dequantizer.dequantize(x)
        assert torch.allclose(log_weight, torch.tensor(-2 * math.log(4)), atol=1e-4)
        u = y * 4 - dequantizer.index(x)
        assert u.min() >= 0
        assert u.max() < 1
        assert u.mean((0, 1, 2)).tolist() == pytest.approx([0.5, 0.5], abs=5e-3)
        for parameter in dequantizer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        y, log_weight = dequantizer.dequantize(x)
        assert (log_weight + 2 * math.log(4)).std() > 0.1
        assert (log_weight + 2 * math.log(4)).exp().mean().item() == pytest.approx(1, abs=0.02)
        assert torch.equal(dequantizer.quantize(y), x)


def test_levels_come_back_from_their_cells():
    for levels in (2, 5, 256):
        spec = genkit.DataSpec((1, 2, 2), levels=levels)
        dequantizer = genkit.build("dequantizer", "uniform", spec)
        x = torch.arange(levels).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / (levels - 1)
        for y in (dequantizer.dequantize(x)[0], dequantizer.centre(x)):
            assert torch.allclose(dequantizer.quantize(y), x, atol=1e-6)
        assert dequantizer.quantize(torch.tensor([-0.3, 1.0, 1.7])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", FLOWS)
def test_mixed_precision_touches_networks_only(name):
    """Data goes through a flow in its own precision: what bfloat16 changes is what the networks say."""
    model = flow(FLOWS[name], shake=0.05)
    x = torch.randn(500, 2)
    with torch.no_grad():
        exact = model.log_prob(x).nats
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result, z = model.log_prob(x).nats, model.encode(x)
            back = model.decode(z)
    assert result.dtype == z.dtype == back.dtype == torch.float32
    assert (back - x).abs().max() < 2e-2
    assert (result - exact).abs().max() < (1e-4 if name in ("radial", "planar", "invertible_linear") else 0.2)


# ---- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_samples_have_the_density_they_are_said_to_have(name):
    model = flow(FLOWS[name]).double()
    model.base.double()
    with torch.no_grad():
        x, log_prob = model.rsample_with_log_prob(200)
        assert torch.allclose(model.log_prob(x).nats, log_prob, atol=1e-6)
        assert torch.allclose(model.decode(model.encode(x)), x, atol=1e-7)


def test_discrete_samples_lie_on_the_levels_and_carry_gradients():
    model = flow(["logit", {"use": "affine_coupling", "mask": "checkerboard", "conditioner": "cnn"}], GREY)
    x = model.rsample(8)
    assert torch.allclose(x * 255, (x * 255).round(), atol=1e-3)
    assert 0 <= x.min() <= x.max() <= 1
    x.sum().backward()
    assert all(parameter.grad is not None for parameter in model.sampling_parameters())
    with torch.no_grad():
        data = torch.randint(0, 256, (5, 1, 4, 4)).float() / 255
        assert torch.allclose(model.decode(model.encode(data)), data, atol=1e-6)


def test_temperature_narrows_the_base():
    model = flow(["affine"], base={"use": "standard_normal"}, shake=0)
    torch.manual_seed(0)
    assert model.sample_latent(5000, temperature=0.5).std().item() == pytest.approx(0.5, abs=0.02)


# ---- the start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FLOWS if name != "invertible_linear"])
@pytest.mark.parametrize("context_shape", [None, (3,)])
def test_flows_start_as_the_identity(name, context_shape):
    chain = Chain([factory("bijection", node) for node in FLOWS[name] if node != "permutation"], (2,), context_shape)
    z, context = 2 * torch.randn(50, 2), None if context_shape is None else torch.randn(50, *context_shape)
    x, log_det = chain.inverse(z, context)
    assert torch.allclose(x, z, atol=1e-5)
    assert log_det.abs().max() < 1e-5


def test_actnorm_starts_from_the_first_batch():
    model = flow(["actnorm", COUPLING, "actnorm"], shake=0)
    x = 3 * torch.randn(500, 2) + torch.tensor([5.0, -7.0])
    model.start(x)
    z = model.encode(x)
    assert z.mean(0).tolist() == pytest.approx([0, 0], abs=1e-4)
    assert z.std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-4)


HALVES = {"use": "affine_coupling", "mask": "channel"}


@pytest.mark.parametrize("name", ["masked_autoregressive", "inverse_autoregressive"])
@pytest.mark.parametrize(("dims", "hidden_dims"), [(1, [16]), (2, [16]), (5, [16]), (5, []), (12, [4]), (40, [16, 16])])
def test_every_element_sees_the_context_and_those_far_before_it(name, dims, hidden_dims):
    node = {"use": name, "hidden_dims": hidden_dims, "zero_start": False}
    bijection = factory("bijection", node)((dims,), (3,)).double()
    x, context = torch.randn(1, dims, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    at_once = bijection if name == "masked_autoregressive" else bijection.inverse
    moved = at_once(x, context)[0] - at_once(x, context + 1)[0]
    assert (moved.abs() > 1e-6).all()
    jacobian = torch.autograd.functional.jacobian(lambda v: at_once(v, context)[0], x)[0, :, 0]
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian))
    if dims > 1:
        assert (jacobian[-1, : dims // 2].abs() > 0).all()
        assert (jacobian.tril(-1).abs().sum(1)[dims // 2 :] > 0).all()


@pytest.mark.parametrize("name", ["masked_autoregressive", "inverse_autoregressive"])
def test_autoregressive_flows_without_hidden_layers_start_as_the_identity(name):
    bijection = factory("bijection", {"use": name, "hidden_dims": []})((4,), (3,))
    x, context = torch.randn(6, 4), torch.randn(6, 3)
    assert torch.allclose(bijection.inverse(x, context)[0], x, atol=1e-6)


def test_a_random_order_is_never_the_given_one():
    for seed in range(20):
        torch.manual_seed(seed)
        assert factory("bijection", {"use": "permutation", "order": "random"})((2,), None).places.tolist() == [1, 0]


def test_actnorm_leaves_the_scale_of_what_does_not_vary():
    model = flow(["actnorm"], shake=0)
    model.start(torch.tensor([[3.0, -2.0]]))
    assert model.encode(torch.tensor([[4.0, -2.0]])).tolist() == [[1.0, 0.0]]


def test_a_context_is_refused():
    model = flow(FLOWS["planar"])
    for call in (model.log_prob, model.encode, model.decode):
        with pytest.raises(ValueError, match="cannot be conditioned"):
            call(torch.zeros(2, 2), torch.zeros(2, 3))


def test_noise_never_reaches_the_next_level(monkeypatch):
    """The largest noise there is, on every level: it stays in its cell."""
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 1 - 2**-24))
    for levels in (2, 5, 100, 256):
        spec = genkit.DataSpec((levels,), levels=levels)
        dequantizer = genkit.build("dequantizer", "uniform", spec)
        x = (torch.arange(levels).float() / (levels - 1)).unsqueeze(0)
        y = dequantizer.dequantize(x)[0]
        assert y.max() < 1
        assert torch.equal(dequantizer.index(dequantizer.quantize(y)), dequantizer.index(x))


# ---- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bijections", "options", "spec", "reason"),
    [
        (["affine"], {"dequantizer": "none"}, GREY, "256 discrete levels, where a density means nothing"),
        (["affine"], {"dequantizer": "uniform"}, PLANE, "dequantizes discrete data"),
        ([HALVES], {}, genkit.DataSpec((3,)), "even number of elements, and there are 3"),
        ([HALVES], {}, GREY, "even number of channels.*squeeze"),
        (["affine_coupling"], {}, LINE, "at least two elements"),
        ([{"use": "affine_coupling", "mask": "checkerboard"}], {}, PLANE, "checkerboard is for images"),
        ([{"use": "split", "bijections": ["affine"]}], {}, GREY, "splits an even number of channels"),
        (["squeeze"], {}, genkit.DataSpec((1, 5, 4), levels=2), "5 x 4 is odd"),
        (["squeeze"], {}, PLANE, "squeezes images"),
        (["invertible_linear"], {}, GREY, "at least two channels"),
        (
            ["affine"],
            {"base": {"use": "normal", "loc": [0.0, 0.0, 0.0]}},
            PLANE,
            "loc has length 3.*length 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(bijections, options, spec, reason):
    with pytest.raises(genkit.RecipeError, match=reason):
        genkit.build("model", {"use": "flow", "bijections": bijections, **options}, spec)


def test_a_one_way_flow_says_what_it_cannot_do():
    model = flow(["affine", {"use": "planar", "solve": False}])
    for capability in (HasLogProb, genkit.Encodes, Invertible):
        assert "bijection 1 (planar) goes only from latents to data" in model.withheld[capability]
        assert lacking(model, (capability,)) == [capability.__name__]
    assert lacking(model, (SamplesWithLogProb, genkit.Decodes)) == []
    assert lacking(flow(["planar"]), (HasLogProb, Invertible)) == []
    with pytest.raises(NotImplementedError, match="goes only from latents to data"):
        model.log_prob(torch.zeros(1, 2))
    nested = flow([{"use": "repeat", "bijections": ["affine", {"use": "planar", "solve": False}]}])
    assert (
        "bijection 1 (planar) goes only from latents to data, not back, within bijection 0 (repeat)"
        in (nested.withheld[HasLogProb])
    )


class OneWay(Cube):
    """A cube that goes only forward."""

    one_way = "forward"


def test_two_opposite_ways_are_no_way():
    one_way = Factory("one_way", {}, OneWay)
    model = Flow(PLANE, bijections=[one_way], base=Factory("interval", {}, Interval))
    assert set(model.withheld) == {genkit.Decodes, genkit.SamplesDifferentiably, SamplesWithLogProb, Invertible}
    planar = factory("bijection", {"use": "planar", "solve": False})
    with pytest.raises(ValueError, match="no way through both"):
        Chain([one_way, planar], (2,))


def test_a_recipe_with_a_one_way_flow_is_refused_where_the_other_way_is_needed():
    recipe = {
        "data": {"use": "mixture", "train": 100},
        "model": {"use": "flow", "bijections": [{"use": "planar", "solve": False}]},
        "objective": "maximum_likelihood",
        "evaluate": {"bpd": "bits_per_dim"},
    }
    with pytest.raises(genkit.RecipeError) as refused:
        genkit.engine.assembly.dry_build(genkit.recipe.load_recipe(recipe))
    text = str(refused.value)
    assert "objective" in text
    assert "evaluate.bpd" in text
    assert "maximum_likelihood needs a model with HasLogProb: in this flow bijection 0 (planar) goes only" in text


def test_a_value_outside_a_spline_without_tails_is_refused():
    model = flow([{"use": "spline_coupling", "tails": "none", "bound": 3.0}], shake=0)
    model.log_prob(torch.tensor([[2.9, -2.9]]))
    with pytest.raises(genkit.GenkitError, match=r"3\.5 away from 0 lies outside the spline's box \[-3, 3\]"):
        model.log_prob(torch.tensor([[0.0, 3.5], [3.5, 3.5]]))


# ---- watch ---------------------------------------------------------------------------------------------------------


class Explodes(Bijection):
    """Its log-determinant is infinite for large inputs."""

    def __init__(self, shape: genkit.Shape, context_shape: genkit.Shape | None, /):
        super().__init__(shape, context_shape)

    def forward(self, x, context=None):
        return x, torch.where(x.flatten(1).amax(1) > 5, torch.inf, 0.0)

    def inverse(self, z, context=None):
        return z, torch.where(z.flatten(1).amax(1) > 5, torch.inf, 0.0)


def test_a_chain_names_whose_log_det_was_first_not_finite():
    affine, explodes = factory("bijection", "affine"), Factory("explodes", {}, Explodes)
    nested = Factory("repeat", {"bijections": [affine, explodes], "times": 1}, Repeat)
    model = Flow(PLANE, bijections=[affine, nested, explodes], base=factory("prior", "standard_normal"))
    model.log_prob(torch.zeros(2, 2))
    assert genkit.model.complaints(model) == []
    model.log_prob(torch.tensor([[0.0, 0.0], [6.0, 0.0]]))
    expected = "the log-determinant of bijection 1 (explodes) was not finite in chain.steps.1.chain"
    assert genkit.model.complaints(model) == [expected]
    model.log_prob(torch.zeros(2, 2))
    assert genkit.model.complaints(model) == [expected]  # the first time is remembered


def test_after_a_step_that_was_not_sound_nothing_more_is_noted():
    """A loss that is infinite for another reason poisons the parameters: no bijection is to blame for what follows."""
    explodes = Factory("explodes", {}, Explodes)
    model = Flow(PLANE, bijections=[explodes], base=factory("prior", "standard_normal"))
    for watcher in genkit.model.watchers(model):
        watcher.close(torch.tensor(True))
        watcher.close(torch.tensor(False))
        watcher.close(torch.tensor(True))
    model.log_prob(torch.tensor([[9.0, 0.0]]))
    assert genkit.model.complaints(model) == []


def test_on_the_way_to_data_the_last_bijection_is_the_first():
    explodes = Factory("explodes", {}, Explodes)
    model = Flow(PLANE, bijections=[explodes, explodes], base=factory("prior", "standard_normal"))
    model.decode(torch.full((1, 2), 9.0))
    assert genkit.model.complaints(model) == ["the log-determinant of bijection 1 (explodes) was not finite in chain"]
