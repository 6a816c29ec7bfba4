"""Annealed importance sampling: schedules, moves that keep their density, steps that are found and then kept."""

import math

import pytest
import torch
from linear_gaussian import one_level, two_levels
from torch.distributions import Independent, MultivariateNormal, Uniform

import genkit
from genkit.testing.common import examples
from genkit_latents import annealed
from genkit_latents.annealed import Annealed, linear, sigmoid
from genkit_latents.hamiltonian import Target, move
from genkit_latents.monte_carlo import MonteCarlo


def target_of(model, count=1):
    return Target(model, model.prior(), model.marginal.sample((count,)))


def tempered(model, x, beta):
    """The normal that is proportional to p(z) p(x|z)^beta, of one level."""
    decoder = model.decoders[0]
    weight, noise = decoder.weight.detach(), decoder.covariance / beta
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ noise.inverse() @ weight
    mean = precision.inverse() @ weight.T @ noise.inverse() @ (x - decoder.bias.detach())
    return MultivariateNormal(mean, precision_matrix=precision)


# ---- schedules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [linear, sigmoid])
@pytest.mark.parametrize("temperatures", [1, 2, 500])
def test_a_schedule_rises_from_0_to_1(schedule, temperatures):
    betas = schedule(temperatures)
    assert len(betas) == temperatures + 1
    assert (betas[0], betas[-1]) == (0, 1)
    assert betas == sorted(set(betas))


def test_the_sigmoid_is_that_of_the_paper():
    """Between minus and plus 4, in even steps, brought to [0, 1]."""
    curve = torch.linspace(-4, 4, 11, dtype=torch.float64).sigmoid()
    wanted = (curve - curve[0]) / (curve[-1] - curve[0])
    assert torch.allclose(torch.tensor(sigmoid(10), dtype=torch.float64), wanted)


# ---- moves -------------------------------------------------------------------------------------------------------


def test_slopes_are_those_of_the_closed_form():
    model = one_level()
    target = target_of(model)
    z = torch.randn(5, 1, 2, dtype=torch.float64)
    state = target.at(z)
    normal = tempered(model, target.x[0], 0.3)
    wanted = -(z - normal.mean) @ normal.precision_matrix
    assert torch.allclose(state.slope(0.3), wanted)
    differences = state.log_density(0.3) - state.log_density(0.3)[0]
    assert torch.allclose(differences, normal.log_prob(z) - normal.log_prob(z)[0])


@pytest.mark.parametrize("step", [0.3, 0.9])
def test_moves_keep_the_density_between_prior_and_posterior(step):
    """Whatever the step: draws of the density are draws of it still, by mean and covariance, and have been moved."""
    model = one_level()
    target, beta = target_of(model), 0.3
    normal = tempered(model, target.x[0], beta)
    start = state = target.at(normal.sample((20_000, 1)))
    for _ in range(3):
        state, probability = move(target, state, beta, torch.tensor([step], dtype=torch.float64), 3)
    moved = state.z[:, 0]
    spread = normal.covariance_matrix
    assert torch.allclose(moved.mean(0), normal.mean, atol=4 * spread.diagonal().max().sqrt().item() / 20_000**0.5)
    assert torch.allclose(moved.T.cov(), spread, atol=0.05 * spread.max().item())
    assert (moved != start.z[:, 0]).any(1).double().mean() > 0.9
    assert 0.3 < probability.mean() < 1
    assert torch.equal(state.log_likelihood, target.at(state.z).log_likelihood)  # of the chains that were refused too


def test_an_end_outside_the_support_or_without_a_number_is_refused():
    class Ends(genkit.LatentVariable):
        """Flat in [-1, 1], with a likelihood that is no number above 0.5."""

        def prior(self, context=None):
            return Independent(Uniform(-torch.ones(1), torch.ones(1), validate_args=False), 1)

        def posterior(self, x, context=None):
            raise AssertionError("chains do not ask the posterior")

        def likelihood(self, z, context=None):
            return Independent(Clipped(z), 1)

    class Clipped(torch.distributions.Normal):
        def __init__(self, z):
            super().__init__(torch.where(z > 0.5, math.nan, z), 1.0, validate_args=False)

    target = Target(Ends(), Ends().prior(), torch.zeros(4, 1))
    state = target.at(torch.full((500, 4, 1), 0.4))
    for _ in range(5):
        state, probability = move(target, state, 0.5, torch.full((4,), 2.0), 1)
    assert ((state.z >= -1) & (state.z <= 0.5)).all()
    assert torch.isfinite(state.log_density(0.5)).all()
    assert (probability == 0).any()
    assert torch.isfinite(probability).all()  # steps follow it
    assert (state.z != 0.4).any()


def test_no_graph_and_no_gradient_is_left():
    model = two_levels()
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            state = target_of(model, 3).at(torch.randn(2, 3, 3, dtype=torch.float64))
            (last,) = Annealed(k=1, temperatures=3, leapfrog=1).estimate(model, torch.zeros(3, 3, dtype=torch.float64))
        values = [*vars(state).values(), last.nats]
        assert not any(value.requires_grad for value in values)
        assert all(value.grad is None for value in [*values, *model.parameters()])


# ---- steps -------------------------------------------------------------------------------------------------------


def test_the_pilot_finds_steps_with_the_acceptance_that_is_asked_for():
    """At the end of the schedule, for examples on their own: with the step found, chains of the posterior accept so."""
    model = one_level()
    target = target_of(model, 200)
    steps = Annealed(temperatures=100, leapfrog=5).steps(target)
    assert len(steps) == 99
    assert all(step.shape == (200,) for step in steps)
    normals = model.true_posterior(target.x)
    _, probability = move(target, target.at(normals.sample((50,))), 1.0, steps[-1], 5)
    assert abs(probability.mean() - 0.65) < 0.05
    assert steps[-1].mean() < 0.8 * steps[0].mean()  # the posterior is narrower than the prior


@pytest.mark.parametrize("scale", [1e-4, 1e2])
def test_the_first_step_is_found_wherever_the_priors_scale_is(scale):
    model = one_level()
    wide = Independent(torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), scale), 1)
    with torch.no_grad():
        model.decoders[0].weight /= scale
    x = model.marginal.sample((20,))
    (first, *_) = Annealed(temperatures=10).steps(Target(model, wide, x))
    assert 0.2 * scale < first.mean() < 5 * scale


def test_chains_that_count_move_by_the_steps_of_the_pilot(monkeypatch):
    """One pilot for each part of the examples; then the same steps for all chains, however they are split."""
    seen, found = [], []

    def watched(target, state, beta, step, leapfrog):
        seen.append((len(state.z), beta, step))
        return move(target, state, beta, step, leapfrog)

    class Watched(Annealed):
        def steps(self, target):
            found.extend(super().steps(target))
            return found

    monkeypatch.setattr(annealed, "move", watched)
    estimator = Watched(k=5, temperatures=4, leapfrog=1, pilot=3, chunk=6)
    estimator.estimate(one_level(), torch.randn(3, 3, dtype=torch.float64))
    pilot, real = seen[: annealed.WARMUP + 3], seen[annealed.WARMUP + 3 :]
    assert {chains for chains, *_ in pilot} == {2}  # as many as the chunk has room for
    assert [chains for chains, *_ in real] == [2] * 3 + [2] * 3 + [1] * 3
    assert [beta for _, beta, _ in real] == sigmoid(4)[1:-1] * 3
    assert [id(step) for *_, step in real] == [id(step) for step in found] * 3
    assert len(found) == 3


def test_the_label_says_how_far_apart_temperatures_are():
    assert Annealed(temperatures=300).label == "annealed importance sampling over 300 temperatures"


@pytest.mark.parametrize("prior", ["standard_normal", "mixture", "flow_prior", "uniform"])
def test_chains_agree_with_many_draws_from_any_prior(prior):
    """In two dimensions, where plain draws are good enough to judge by."""
    part = {"use": "mlp", "hidden_dims": [16]}
    like = examples("prior", prior)[0].to_plain()
    node = {"use": "vae", "latent_dim": 2, "prior": like, "encoder": part, "decoder": part}
    model = genkit.build("model", node, genkit.DataSpec((1, 6, 6), levels=2)).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter *= 2.5  # else the likelihood hardly depends on the latent
    x = torch.rand(8, 1, 6, 6).round()
    plain = MonteCarlo(k=20_000, chunk=160_000).estimate(model, x)[-1]
    chains = Annealed(k=32, temperatures=60, leapfrog=3).estimate(model, x)[-1]
    scores = (chains.nats - plain.nats) / (chains.errors.square() + plain.errors.square()).sqrt()
    assert scores.abs().max() < 4
    assert plain.effective.max() < 12_000  # many of the prior's latents are no good
    assert chains.errors.max() < 0.5
