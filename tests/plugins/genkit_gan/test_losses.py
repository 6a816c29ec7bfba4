"""Losses on fixed scores, by hand and by torch's own; their best critics on a finite space."""

import math

import pytest
import scipy.spatial.distance
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import genkit
from genkit.registry import installed

NAMES = installed().names("adversarial_loss")
REAL, FAKE = torch.tensor([2.0, -0.5]), torch.tensor([-1.5, 0.25])
BY_HAND = {  # the critic's loss, the model's loss, the critic's accuracy
    "minimax": (1.064179, -0.513676, 0.5),
    "non_saturating": (1.064179, 1.138676, 0.5),
    "least_squares": (1.390625, 1.703125, 0.75),
    "hinge": (1.375, 0.625, 0.5),
    "wasserstein": (-1.375, 0.625, 0.5),
    "relativistic": (0.583311, 1.958311, 0.5),
}
P, Q = torch.tensor([1, 2, 5]), torch.tensor([4, 2, 2])  # counts, of 8
LOG_RATIO = (P / Q).log()


def built(name):
    return genkit.build("adversarial_loss", name)


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_are_as_worked_out_by_hand(name):
    loss, (critic, model, accuracy) = built(name), BY_HAND[name]
    assert loss.critic_loss(REAL, FAKE).item() == pytest.approx(critic, abs=2e-6)
    assert loss.model_loss(FAKE, REAL).item() == pytest.approx(model, abs=2e-6)
    assert loss.accuracy(REAL, FAKE).item() == accuracy


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_value_of_an_undecided_critic_is_minus_2_ln_2(name):
    undecided = torch.zeros(5)
    assert built(name).critic_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_the_models_loss_of_an_undecided_critic():
    undecided = torch.zeros(5)
    assert built("minimax").model_loss(undecided).item() == pytest.approx(-math.log(2))
    assert built("non_saturating").model_loss(undecided).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
@pytest.mark.parametrize("real_label", [1.0, 0.9, 0.6])
def test_cross_entropy_is_torchs_and_smooths_one_side_only(name, real_label):
    real, fake = 3 * torch.randn(7), 3 * torch.randn(7)
    expected = binary_cross_entropy_with_logits(real, torch.full((7,), real_label))
    expected += binary_cross_entropy_with_logits(fake, torch.zeros(7))
    assert built(name).critic_loss(real, fake, real_label).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_models_losses_are_torchs_cross_entropies():
    fake = 3 * torch.randn(7)
    drawn, real = (binary_cross_entropy_with_logits(fake, torch.full((7,), label)).item() for label in (0.0, 1.0))
    assert built("minimax").model_loss(fake).item() == pytest.approx(-drawn, rel=1e-6)
    assert built("non_saturating").model_loss(fake).item() == pytest.approx(real, rel=1e-6)


def test_least_squares_smooths_one_side_only():
    loss = built("least_squares")
    expected = ((2.0 - 0.9) ** 2 + (-0.5 - 0.9) ** 2 + 1.5**2 + 0.25**2) / 4
    assert loss.critic_loss(REAL, FAKE, 0.9).item() == pytest.approx(expected)


def test_only_losses_with_labels_can_be_smoothed():
    assert [name for name in NAMES if built(name).labels] == ["least_squares", "minimax", "non_saturating"]


@pytest.mark.parametrize(("name", "expected"), [("minimax", 0.0), ("non_saturating", -1 / 8)])
def test_the_models_gradient_vanishes_only_where_the_game_is_minimax(name, expected):
    fake = torch.full((8,), -20.0, requires_grad=True)  # the critic is sure
    built(name).model_loss(fake).backward()
    assert fake.grad.tolist() == pytest.approx([expected] * 8, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_losses_stay_finite_and_steep_far_away(name):
    real, fake = torch.tensor([-200.0], requires_grad=True), torch.tensor([200.0], requires_grad=True)
    loss = built(name).critic_loss(real, fake)
    gradients = torch.cat(torch.autograd.grad(loss, [real, fake]))
    assert torch.isfinite(loss)
    assert (gradients.abs() > 0.4).all()
    assert torch.isfinite(built(name).model_loss(-fake, real))


def best_scores(name):
    """Scores of three points that minimize the critic's loss, where data and samples take them as P and Q say."""
    scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    real, fake = torch.arange(3).repeat_interleave(P), torch.arange(3).repeat_interleave(Q)
    real, fake = real.repeat_interleave(8), fake.repeat(8)  # every pair
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = built(name).critic_loss(scores[real], scores[fake])
        loss.backward()
        return loss

    optimizer.step(closure)
    return scores.detach()


def test_which_scores_are_log_ratios():
    assert [name for name in NAMES if built(name).log_ratio] == ["minimax", "non_saturating", "relativistic"]


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_best_classifiers_score_is_the_log_ratio_without_a_constant(name):
    assert best_scores(name).tolist() == pytest.approx(LOG_RATIO.tolist(), abs=1e-5)


def test_the_best_least_squares_score_is_the_share_of_data():
    assert best_scores("least_squares").tolist() == pytest.approx((P / (P + Q)).tolist(), abs=1e-6)


def test_the_best_critics_value_is_the_jensen_shannon_divergence():
    scores = best_scores("minimax")
    value = -built("minimax").critic_loss(scores.repeat_interleave(P), scores.repeat_interleave(Q)).item()
    divergence = scipy.spatial.distance.jensenshannon(P / 8, Q / 8) ** 2
    assert value == pytest.approx(2 * divergence - 2 * math.log(2), abs=1e-8)
