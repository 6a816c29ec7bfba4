"""Rejection sampling where the critic's score is exactly the log density ratio."""

from pathlib import Path

import numpy
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from torch import nn

import genkit
import genkit_gan.rejection
from genkit import GenerativeModel, Objective, SamplesDifferentiably, Scores

RECIPE = Path(__file__).parents[3] / "recipes" / "gan_mlp.yaml"
SPEC = genkit.DataSpec((1,))
TARGET = torch.distributions.Normal(0.5, 0.8)


class Normal(GenerativeModel, SamplesDifferentiably):
    """Draws from a standard normal."""

    def __init__(self, spec, /):
        super().__init__(spec)
        self.shift = nn.Parameter(torch.zeros(()))

    def sampling_parameters(self):
        return [self.shift]

    def rsample(self, num_samples, context=None):
        return torch.randn(num_samples, *self.spec.shape) + self.shift


class Oracle(Objective, Scores):
    """Knows the densities of data and samples."""

    log_ratio = True

    def __init__(self, model, /, constant=0.0, score=None):
        super().__init__()
        self.constant = constant
        self._score = score

    def score(self, x):
        if self._score is not None:
            return self._score(x)
        ratio = TARGET.log_prob(x) - torch.distributions.Normal(0.0, 1.0).log_prob(x)
        return ratio.sum(1) + self.constant

    def players(self, model):
        return {}

    def turns(self, model):
        return []


def sampler(*, spec=SPEC, constant=0.0, score=None, **options):
    model = Normal(spec)
    node = {"use": "rejection", "burn_in": 4000, **options}
    return genkit.build("sampler", node, model, Oracle(model, constant, score))


@pytest.fixture(autouse=True)
def without_gradients():
    """As the engine draws."""
    with torch.no_grad():
        yield


def draw(drawing, count, seed=1):
    torch.manual_seed(seed)
    drawing.fit({})
    return drawing.sample(count).x


@pytest.mark.parametrize("constant", [0.0, 7.0, -30.0])
def test_samples_that_are_kept_follow_the_data(constant):
    x = draw(sampler(percentile=None, constant=constant), 3000)
    assert x.shape == (3000, 1)
    assert scipy.stats.kstest(x.flatten().numpy(), scipy.stats.norm(0.5, 0.8).cdf).pvalue > 0.01
    assert scipy.stats.kstest(x.flatten().numpy(), scipy.stats.norm.cdf).pvalue < 1e-6


def test_samples_in_the_plane_follow_the_data_in_both_directions():
    x = draw(sampler(spec=genkit.DataSpec((2,)), percentile=None), 1000)
    for column in x.T:
        assert scipy.stats.kstest(column.numpy(), scipy.stats.norm(0.5, 0.8).cdf).pvalue > 0.01
    assert abs(torch.corrcoef(x.T)[0, 1].item()) < 0.1


def test_a_critic_that_cannot_tell_keeps_nearly_all():
    drawing = sampler(percentile=None, score=lambda x: torch.zeros(len(x)))
    torch.manual_seed(0)
    drawing.fit({})
    calls = counted(drawing)
    drawing.sample(490)
    assert len(calls) == 1  # of 500 candidates


def counted(drawing):
    calls, rsample = [], drawing.model.rsample
    drawing.model.rsample = lambda count: calls.append(count) or rsample(count)
    return calls


@pytest.mark.parametrize("percentile", [0.0, 50.0, 80.0, 90.0])
def test_the_share_that_is_kept_is_the_papers(percentile):
    """Equation 8 and the percentile of Azadi et al., by numpy."""
    drawing = sampler(percentile=percentile, burn_in=20_000)
    draw(drawing, 1)
    z = numpy.random.default_rng(0).standard_normal(200_000)
    ratio = scipy.stats.norm(0.5, 0.8).logpdf(z) - scipy.stats.norm.logpdf(z)
    top = scipy.optimize.minimize_scalar(
        lambda z: scipy.stats.norm.logpdf(z) - scipy.stats.norm(0.5, 0.8).logpdf(z), bounds=(-3, 3), method="bounded"
    )
    assert drawing.highest.item() == pytest.approx(-top.fun, abs=1e-4)
    below = ratio + top.fun
    corrected = below - numpy.log(-numpy.expm1(below - 1e-6))
    gamma = numpy.percentile(corrected, percentile)
    expected = scipy.special.expit(corrected - gamma).mean()
    torch.manual_seed(3)
    calls = counted(drawing)
    kept = len(drawing.sample(6000).x) / sum(calls)
    if percentile:  # the lowest of all is no steady estimate
        assert drawing.gamma.item() == pytest.approx(gamma, abs=0.15)
        assert kept == pytest.approx(expected, rel=0.1)
    else:
        assert kept > 0.8


def test_fewer_are_kept_at_higher_percentiles_and_fewest_at_none():
    shares = []
    for percentile in (10.0, 50.0, 90.0):
        drawing = sampler(percentile=percentile)
        draw(drawing, 1)
        calls = counted(drawing)
        drawing.sample(2000)
        shares.append(2000 / sum(calls))
    assert shares[0] > shares[1] > shares[2]


def test_a_candidate_above_the_highest_score_raises_it():
    drawing = sampler(percentile=None)
    draw(drawing, 1)
    drawing.highest = drawing.highest - 5  # as if the burn-in had seen little
    x = drawing.sample(2000).x
    assert torch.isfinite(x).all()
    assert scipy.stats.kstest(x.flatten().numpy(), scipy.stats.norm(0.5, 0.8).cdf).pvalue > 0.01


def test_correction_is_the_logit_of_the_ratio():
    below = torch.tensor([-30.0, -2.0, -0.5, -0.01], dtype=torch.float64)
    expected = scipy.special.logit(numpy.exp(below.numpy()))
    values = genkit_gan.rejection.correction(below + 3, torch.tensor(3.0, dtype=torch.float64))
    assert values.tolist() == pytest.approx(expected.tolist(), abs=2e-4)
    assert torch.isfinite(genkit_gan.rejection.correction(torch.zeros(1), torch.zeros(())))


def test_the_burn_in_is_as_long_as_it_should_be():
    drawing = sampler(burn_in=1500)
    calls = counted(drawing)
    drawing.fit({})
    assert sum(calls) == 1500


def test_gives_up_where_nothing_is_accepted(monkeypatch):
    monkeypatch.setattr(genkit_gan.rejection, "ROUNDS", 3)
    drawing = sampler(percentile=None)
    draw(drawing, 1)
    drawing.highest = drawing.highest + 60
    with pytest.raises(genkit.GenkitError, match="of 1500 samples, the critic accepted only 0"):
        drawing.sample(1)


def test_a_context_is_refused():
    with pytest.raises(ValueError, match="context"):
        sampler().sample(2, torch.zeros(2, 1))


@pytest.fixture
def generator():
    node = {"use": "mlp", "hidden_dims": [4]}
    return genkit.build("model", {"use": "generator", "latent_dim": 2, "network": node}, genkit.DataSpec((2,)))


def rejection(model, **objective):
    node = {"use": "adversarial", "critic": {"use": "mlp", "hidden_dims": [4]}, **objective}
    return genkit.build("sampler", {"use": "rejection", "burn_in": 500}, model, genkit.build("objective", node, model))


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])
def test_serves_every_loss_whose_scores_are_log_ratios(generator, loss):
    drawing = rejection(generator, loss=loss, regularizers=["r1", "spectral_norm"])
    assert draw(drawing, 20).shape == (20, 2)


@pytest.mark.parametrize(
    "objective",
    [
        {"loss": "hinge"},
        {"loss": "wasserstein"},
        {"loss": "least_squares"},
        {"regularizers": ["packing"]},
        {"regularizers": ["label_smoothing"]},
        {"regularizers": ["minibatch_stddev"]},
    ],
    ids=str,
)
def test_a_critic_whose_score_is_no_log_ratio_is_refused(generator, objective):
    with pytest.raises(genkit.RecipeError, match="whose score of each example is a log density ratio"):
        rejection(generator, **objective)


def test_an_objective_without_a_critic_is_refused():
    node = {"use": "mlp", "hidden_dims": [4]}
    options = {"use": "vae", "latent_dim": 2, "encoder": node, "decoder": node}
    model = genkit.build("model", options, genkit.DataSpec((1, 2, 2), levels=2))
    with pytest.raises(genkit.RecipeError, match="needs an objective that keeps a critic, which ELBO does not"):
        genkit.build("sampler", "rejection", model, genkit.build("objective", "elbo", model))


def test_finds_the_critic_within_a_sum(generator):
    node = {"use": "adversarial", "critic": {"use": "mlp", "hidden_dims": [4]}}
    objective = genkit.build("objective", {"use": "sum", "parts": {"game": node}}, generator)
    drawing = genkit.build("sampler", {"use": "rejection", "burn_in": 500}, generator, objective)
    assert drawing.critic is objective.parts["game"]


@torch.enable_grad()
def test_a_trained_run_can_be_sampled_so(tmp_path):
    overrides = [
        *("data.train=128", "data.test=32", "train.epochs=1", "train.batch_size=64"),
        *("model.network.hidden_dims=[8]", "objective.critic.hidden_dims=[8]"),
        *("evaluate.samples=null", "evaluate.interpolation=null"),
        "sampler={use: rejection, burn_in: 500}",
    ]
    genkit.run(RECIPE, overrides=overrides, name="run", runs=tmp_path, device="cpu")
    run = genkit.load(tmp_path / "run", device="cpu")
    x = run.sample(5, seed=1)
    assert x.shape == (5, 1, 28, 28)
    assert torch.equal(x, run.sample(5, seed=1))
    assert not torch.equal(x, run.sample(5, seed=1, sampler="prior"))
