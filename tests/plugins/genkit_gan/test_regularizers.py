"""Regularizers in closed form, alone and within the objective that they are part of."""

import math

import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.parametrize import is_parametrized

import genkit
from genkit import Batch, Progress
from genkit.engine.assembly import dry_build
from genkit.recipe import load_recipe
from genkit.registry import installed
from genkit_gan.regularizer import Scored
from genkit_gan.regularizers.weights import SpectralNorm

PLANE, IMAGE = genkit.DataSpec((3,)), genkit.DataSpec((1, 2, 2), levels=256)
LINEAR = {"use": "mlp", "hidden_dims": []}
PENALTIES = {  # each as a function of the gradient's norm, with its derivative
    "gradient_penalty": (lambda norm: 10 * (norm - 1) ** 2, lambda norm: 20 * (norm - 1)),
    "r1": (lambda norm: 5 * norm**2, lambda norm: 10 * norm),
    "r2": (lambda norm: 5 * norm**2, lambda norm: 10 * norm),
}


def progress(epoch=0.0):
    return Progress(torch.tensor(epoch * 10), torch.tensor(epoch))


def built(name, **options):
    return genkit.build("regularizer", {"use": name, **options})


def game(*regularizers, spec=PLANE, critic=None, **options):
    """A linear generator and an adversarial objective with a critic that is linear, too."""
    model = genkit.build("model", {"use": "generator", "latent_dim": 3, "network": LINEAR}, spec)
    node = {"use": "adversarial", "critic": critic or LINEAR, "regularizers": list(regularizers), **options}
    return model, genkit.build("objective", node, model)


def data(spec, count=4):
    return torch.rand(count, *spec.shape)


# ---- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize(
    ("spec", "pack"),
    # images go to the critic as 2x - 1, and the gradient is that in what it sees
    [(PLANE, 1), (PLANE, 2), (IMAGE, 1), (IMAGE, 4)],
    ids=["vectors", "vectors in twos", "images", "images in fours"],
)
def test_penalties_on_a_linear_critic_are_in_closed_form(name, spec, pack):
    packing = [{"use": "packing", "size": pack}] if pack > 1 else []
    model, objective = game(*packing, name, spec=spec, loss="wasserstein")
    weight = objective.critic.network.layers[0].weight
    assert weight.numel() == pack * spec.num_dims
    loss = objective.critic_loss(model, Batch(data(spec)), progress())
    norm = weight.detach().norm()
    value, derivative = PENALTIES[name]
    assert loss.terms[name].item() == pytest.approx(value(norm).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss.terms[name], weight)
    expected = derivative(norm) * weight.detach() / weight.detach().norm()
    assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PENALTIES)
def test_the_critics_loss_is_the_games_and_the_penalty(name):
    model, objective = game(name, loss="wasserstein")
    torch.manual_seed(1)
    x = data(PLANE)
    weight, bias = objective.critic.network.layers[0].weight, objective.critic.network.layers[0].bias
    torch.manual_seed(2)
    loss = objective.critic_loss(model, Batch(x), progress())
    torch.manual_seed(2)
    fake = model.rsample(4).detach()
    expected = (fake.mean(0) - x.mean(0)) @ weight[0].detach() + PENALTIES[name][0](weight.detach().norm())
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    gradient, no_gradient = torch.autograd.grad(loss.total, [weight, bias], allow_unused=True)
    norm = weight.detach().norm()
    expected = fake.mean(0) - x.mean(0) + PENALTIES[name][1](norm) * weight[0].detach() / norm
    assert torch.allclose(gradient[0], expected, rtol=1e-4, atol=1e-5)
    assert no_gradient is None or no_gradient.abs().item() < 1e-6


def test_weights_and_target_of_the_penalties():
    def slope(x):
        return x @ torch.tensor([3.0, 4.0])

    real, fake = (scored_by(slope, torch.randn(6, 2)) for _ in range(2))
    assert built("r1", gamma=0.5).penalty(slope, real, fake).item() == pytest.approx(0.25 * 25)
    assert built("r2", gamma=0.2).penalty(slope, real, fake).item() == pytest.approx(0.1 * 25)
    penalty = built("gradient_penalty", weight=2.0, target=3.0).penalty(slope, real, fake)
    assert penalty.item() == pytest.approx(2 * (5 - 3) ** 2, rel=1e-5)
    assert built("gradient_penalty", weight=1.0, target=0.0).penalty(slope, real, fake).item() == pytest.approx(25)


def scored_by(critic, x):
    x = x.clone().requires_grad_()
    return Scored(x, critic(x))


def test_r1_looks_at_real_data_and_r2_at_samples():
    def bowl(x):
        return x.square().sum(1) / 2  # whose gradient is x

    real, fake = torch.randn(5, 2), 3 + torch.randn(5, 2)
    scored = scored_by(bowl, real), scored_by(bowl, fake)
    assert built("r1").penalty(bowl, *scored).item() == pytest.approx(5 * real.square().sum(1).mean().item(), rel=1e-5)
    assert built("r2").penalty(bowl, *scored).item() == pytest.approx(5 * fake.square().sum(1).mean().item(), rel=1e-5)


def test_gradient_penalty_looks_uniformly_along_the_lines_between_pairs():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().sum((1, 2, 3))

    real, fake = torch.zeros(800, 1, 2, 2), torch.arange(1.0, 5.0).view(1, 1, 2, 2).expand(800, 1, 2, 2)
    penalty = built("gradient_penalty").penalty(critic, scored_by(critic, real), scored_by(critic, fake))
    shares = seen[-1] / fake
    assert torch.allclose(shares, shares[:, :, :1, :1].expand_as(shares))  # one share for all pixels of an example
    assert scipy.stats.kstest(shares[:, 0, 0, 0].numpy(), scipy.stats.uniform.cdf).pvalue > 0.01
    norms = 2 * seen[-1].flatten(1).norm(dim=1)
    assert penalty.item() == pytest.approx(10 * (norms - 1).square().mean().item(), rel=1e-5)


def test_gradient_penalty_of_a_flat_critic_is_finite_and_so_is_its_gradient():
    weight = torch.zeros(2, requires_grad=True)

    def critic(x):
        return x @ weight

    penalty = built("gradient_penalty").penalty(
        critic, scored_by(critic, torch.randn(3, 2)), scored_by(critic, torch.randn(3, 2))
    )
    assert penalty.item() == pytest.approx(10, rel=1e-4)
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert torch.isfinite(gradient).all()


def test_penalties_move_the_critic_alone():
    model, objective = game("gradient_penalty", "r1", "r2")
    objective.critic_loss(model, Batch(data(PLANE)), progress()).total.backward()
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic", [{"use": "mlp", "hidden_dims": [16, 8]}, {"use": "cnn", "channels": 4}])
def test_spectral_norm_divides_by_the_largest_singular_value(critic):
    spec = genkit.DataSpec((1, 12, 12), levels=256)
    _, objective = game({"use": "spectral_norm", "iterations": 60}, spec=spec, critic=critic)
    layers = [m for m in objective.critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) >= 3
    for _ in range(3):
        objective.score(data(spec))
    for layer in layers:
        raw = layer.parametrizations.weight.original.detach().flatten(1)
        largest = torch.linalg.matrix_norm(raw, 2)
        assert largest.sub(1).abs() > 0.01
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=2e-3)
        assert torch.allclose(layer.weight.detach().flatten(1), raw / largest, atol=2e-3)


def test_spectral_norm_bounds_the_slope_of_the_critic():
    _, objective = game({"use": "spectral_norm", "iterations": 60}, critic={"use": "mlp", "hidden_dims": [16, 8]})
    with torch.no_grad():
        for module in objective.critic.modules():
            if is_parametrized(module):
                module.parametrizations.weight.original.mul_(50)
    one, other = torch.randn(200, 3), torch.randn(200, 3)
    objective.score(one)
    slopes = (objective.score(one) - objective.score(other)).abs() / (one - other).norm(dim=1)
    assert slopes.max() <= 1.001


def test_spectral_norm_needs_something_to_divide():
    with pytest.raises(ValueError, match="no linear map and no convolution"):
        SpectralNorm().apply(nn.Sequential(nn.Flatten(), nn.ReLU()))


def test_spectral_norm_survives_a_state_dict():
    spectral = {"use": "spectral_norm"}
    (_, first), (_, second) = (game(spectral, critic={"use": "mlp", "hidden_dims": [6]}) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = data(PLANE)
    assert torch.equal(first.eval().score(x), second.eval().score(x))


# ---- labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_label_smoothing_moves_the_label_of_real_data_alone(loss):
    model, objective = game({"use": "label_smoothing", "amount": 0.2}, loss=loss)
    x = data(PLANE)
    torch.manual_seed(2)
    value = objective.critic_loss(model, Batch(x), progress()).total
    torch.manual_seed(2)
    real, fake = objective.score(x), objective.score(model.rsample(4))
    expected = binary_cross_entropy_with_logits(real, torch.full((4,), 0.8))
    expected += binary_cross_entropy_with_logits(fake, torch.zeros(4))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_label_smoothing_of_least_squares_leaves_the_models_target_at_1():
    model, objective = game("label_smoothing", loss="least_squares")
    torch.manual_seed(2)
    critic = objective.critic_loss(model, Batch(torch.zeros(4, 3)), progress()).total
    torch.manual_seed(2)
    own = objective.generator_loss(model, Batch(torch.zeros(4, 3)), progress()).total
    torch.manual_seed(2)
    real, fake = objective.score(torch.zeros(4, 3)), objective.score(model.rsample(4))
    assert critic.item() == pytest.approx(((real - 0.9).square().mean() + fake.square().mean()).item() / 2, rel=1e-5)
    assert own.item() == pytest.approx((fake - 1).square().mean().item() / 2, rel=1e-5)


@pytest.mark.parametrize("amount", [0.0, 0.5, -0.1])
def test_label_smoothing_has_its_bounds(amount):
    with pytest.raises(genkit.RecipeError, match="amount"):
        built("label_smoothing", amount=amount)


# ---- inputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 1.0), (1.0, 0.75), (3.0, 0.25), (4.0, 0.0), (9.0, 0.0)])
def test_instance_noise_fades_linearly_to_nothing(epoch, share):
    x = torch.full((100, 200), 3.0)
    noise = built("instance_noise", std=0.4, decay_epochs=4.0).apply(x, progress(epoch)) - x
    assert noise.std().item() == pytest.approx(0.4 * share, rel=0.02, abs=1e-9)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    if share:
        assert scipy.stats.kstest(noise[:10].flatten().numpy(), scipy.stats.norm(0, 0.4 * share).cdf).pvalue > 0.01


def test_instance_noise_stays_where_nothing_is_said():
    noise = built("instance_noise", std=0.4).apply(torch.zeros(100, 200), progress(1000.0))
    assert noise.std().item() == pytest.approx(0.4, rel=0.02)


def test_instance_noise_is_not_there_when_nothing_is_trained():
    x = data(PLANE)
    assert torch.equal(built("instance_noise").apply(x, None), x)
    _, objective = game({"use": "instance_noise", "std": 5.0})
    assert torch.equal(objective.score(x), objective.score(x))
    assert torch.allclose(objective.score(x), objective.critic.network(x).squeeze(1))


def test_instance_noise_blurs_what_the_critic_sees_of_images_in_its_range():
    _, objective = game({"use": "instance_noise", "std": 0.5}, spec=IMAGE)
    seen = objective.critic.view(objective.critic.rescale(torch.full((5000, 1, 2, 2), 0.25)), progress())
    assert seen.mean().item() == pytest.approx(-0.5, abs=0.02)
    assert seen.std().item() == pytest.approx(0.5, rel=0.03)


def test_instance_noise_blurs_data_and_samples_alike():
    model, objective = game({"use": "instance_noise", "std": 100.0}, loss="wasserstein")
    calls = []
    objective.critic.network.register_forward_pre_hook(lambda _module, args: calls.append(args[0]))
    objective.critic_loss(model, Batch(torch.zeros(400, 3)), progress())
    objective.generator_loss(model, Batch(torch.zeros(400, 3)), progress())
    assert [call.std().item() for call in calls] == pytest.approx([100.0] * 3, rel=0.1)
    assert not torch.equal(calls[0], calls[1])


def test_packing_puts_neighbours_one_behind_the_other():
    x = torch.arange(12.0).view(6, 2)
    assert built("packing", size=3).apply(x, None).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 5, 7)
    packed = built("packing").apply(images, None)
    assert packed.shape == (2, 2, 5, 7)
    assert packed[:, :, 0, 0].tolist() == [[0, 1], [2, 3]]


def test_packed_examples_share_a_score_and_batches_are_multiples():
    model, objective = game({"use": "packing", "size": 3}, critic={"use": "mlp", "hidden_dims": [4]})
    assert objective.batch_multiple == 3
    x = torch.randn(9, 3)
    scores = objective.score(x)
    assert scores.shape == (3,)
    moved = x.clone()
    moved[4] += 1
    assert (objective.score(moved) != scores).tolist() == [False, True, False]
    assert torch.isfinite(objective.critic_loss(model, Batch(x), progress()).total)
    assert game("r1")[1].batch_multiple == 1


def test_a_pack_of_one_is_no_pack():
    with pytest.raises(genkit.RecipeError, match="size"):
        built("packing", size=1)


def test_minibatch_stddev_appends_the_mean_deviation_over_the_batch():
    x = torch.tensor([[0.0, 1.0], [2.0, 5.0]])  # deviations 1 and 2
    seen = built("minibatch_stddev").apply(x, None)
    assert torch.allclose(seen, torch.tensor([[0.0, 1.0, 1.5], [2.0, 5.0, 1.5]]), atol=1e-5)


def test_minibatch_stddev_is_one_more_channel_of_an_image():
    x = torch.randn(5, 3, 4, 6)
    seen = built("minibatch_stddev").apply(x, None)
    assert seen.shape == (5, 4, 4, 6)
    assert torch.equal(seen[:, :3], x)
    expected = torch.tensor(x.numpy().std(axis=0).mean())
    assert torch.allclose(seen[:, 3], expected.expand(5, 4, 6), atol=1e-5)


def test_minibatch_stddev_of_equal_examples_has_a_gradient():
    x = torch.ones(4, 3, requires_grad=True)
    seen = built("minibatch_stddev").apply(x, None)
    seen[:, 3].sum().backward()
    assert seen[0, 3].item() < 1e-3
    assert torch.isfinite(x.grad).all()


def test_changes_of_the_input_come_in_their_order():
    stddev, packing = "minibatch_stddev", {"use": "packing", "size": 2}
    (_, before), (_, after) = game(stddev, packing), game(packing, stddev)
    assert before.critic.network.layers[0].in_features == 2 * (3 + 1)
    assert after.critic.network.layers[0].in_features == 2 * 3 + 1
    x = torch.randn(4, 3)
    packed = x.view(2, 6)
    expected = torch.cat([packed, torch.tensor(packed.numpy().std(0).mean()).expand(2, 1)], dim=1)
    assert torch.allclose(after.critic.view(x), expected, atol=1e-5)


# ---- diversity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "expected"), [(0.5, -1.0), (1.25, -2.5), (4.0, -3.0)])
def test_diversity_of_a_scaled_identity_is_its_scale_up_to_the_ceiling(scale, expected):
    model, _ = game()
    with torch.no_grad():
        model.network.layers[0].weight.copy_(scale * torch.eye(3))
    assert built("diversity", weight=2.0, ceiling=1.5).penalty(model, 8).item() == pytest.approx(expected, rel=1e-5)


def test_diversity_of_any_linear_map_is_the_mean_ratio_of_distances():
    model, _ = game()
    weight = model.network.layers[0].weight.detach()
    torch.manual_seed(3)
    penalty = built("diversity", ceiling=0.6).penalty(model, 5)
    torch.manual_seed(3)
    z = torch.randn(10, 3)
    ratios = []
    for one, other in zip(z[:5], z[5:], strict=True):
        difference = one - other
        ratios.append(min(0.6, (weight @ difference).abs().mean().item() / difference.abs().mean().item()))
    assert min(ratios) < 0.6
    assert penalty.item() == pytest.approx(-sum(ratios) / 5, rel=1e-5)


def test_diversity_rewards_the_model():
    model, objective = game("diversity")
    loss = objective.generator_loss(model, Batch(data(PLANE)), progress())
    assert loss.total.item() == pytest.approx((loss.terms["adversarial"] + loss.terms["diversity"]).item(), rel=1e-6)
    assert loss.terms["diversity"].item() < 0
    (gradient,) = torch.autograd.grad(loss.terms["diversity"], model.network.layers[0].weight)
    assert gradient.abs().sum() > 0


# ---- together ----------------------------------------------------------------------------------------------------


def test_all_at_once():
    names = installed().names("regularizer")
    assert len(names) >= 9
    model, objective = game(*names, critic={"use": "mlp", "hidden_dims": [8]})
    for loss in (objective.generator_loss, objective.critic_loss):
        value = loss(model, Batch(torch.randn(6, 3)), progress(0.5))
        assert all(math.isfinite(term.item()) for term in (value.total, *value.terms.values()))
    assert set(value.terms) == {"adversarial", "gradient_penalty", "r1", "r2", "real", "fake", "accuracy"}
    penalties = sum(value.terms[name] for name in ("adversarial", "gradient_penalty", "r1", "r2"))
    assert value.total.item() == pytest.approx(penalties.item(), rel=1e-5)


@pytest.mark.parametrize("name", installed().names("regularizer"))
def test_every_regularizer_is_built_without_memory_in_a_dry_run(name):
    recipe = {
        "data": {"use": "mnist", "train": 64, "validation": 0},
        "model": {"use": "generator", "network": LINEAR},
        "objective": {"use": "adversarial", "critic": {"use": "mlp", "hidden_dims": [4]}, "regularizers": [name]},
        "train": {"epochs": 1, "batch_size": 32},
    }
    parts = dry_build(load_recipe(recipe))
    assert {parameter.device.type for parameter in parts.objective.parameters()} == {"meta"}
