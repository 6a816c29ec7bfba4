"""The adversarial objective: its turns against plain torch loops, and what it refuses."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

import genkit
from genkit import Backbone, Batch, Factory, Progress, Shape
from genkit.engine.assembly import dry_build
from genkit.engine.player import Player
from genkit.engine.step import TrainStep
from genkit.model import lacking
from genkit.recipe import load_recipe
from genkit.registry import Plugin, Registrar, installed, load_registry
from genkit_gan.adversarial import Adversarial

CPU = torch.device("cpu")
NOW = Progress(torch.zeros(()), torch.zeros(()))
RECIPE = Path(__file__).parents[3] / "recipes" / "gan_mlp.yaml"
SPEC = genkit.DataSpec((1, 3, 3), levels=256)
SMALL = {"use": "mlp", "hidden_dims": [8], "activation": "leaky_relu"}
LATENTS, RATE, BETAS = 4, 0.01, (0.5, 0.999)


@pytest.fixture
def model():
    return genkit.build("model", {"use": "generator", "latent_dim": LATENTS, "network": SMALL}, SPEC)


def vae(**options):
    return genkit.build("model", {"use": "vae", "latent_dim": 2, "encoder": SMALL, "decoder": SMALL, **options}, SPEC)


def adversary(model, **options):
    return genkit.build("objective", {"use": "adversarial", "critic": SMALL, **options}, model)


def engine(model, objective):
    adam, constant = {"use": "adam", "lr": RATE, "betas": list(BETAS)}, genkit.build("schedule", "constant")
    players = {
        name: Player(list(own), genkit.build("optimizer", adam), constant)
        for name, own in objective.players(model).items()
    }
    return TrainStep(objective.turns(model), players, CPU)


def batches(count, size=6):
    generator = torch.Generator().manual_seed(9)
    return [Batch(torch.rand(size, *SPEC.shape, generator=generator)) for _ in range(count)]


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def loop_by_hand(model, critic, given, *, first, critic_steps=1, fresh=True):
    """Algorithm 1 of Goodfellow et al. with the non-saturating loss, in plain torch; the losses of each step."""
    g = copy.deepcopy(model.network.layers)
    d = nn.Sequential(nn.Flatten(), copy.deepcopy(critic.network.layers))
    of_g, of_d = (torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS) for net in (g, d))
    kept = []

    def draw():
        x = g(torch.randn(6, LATENTS))
        return 0.5 * torch.tanh(x) + 0.5  # to [0, 1], as the data is

    def move_g(_given):
        fake = draw() if fresh or first == "generator" else kept.pop()
        kept[:] = [fake]
        loss = binary_cross_entropy_with_logits(d((2 * fake - 1).view(6, 1, 3, 3)), torch.ones(6, 1))
        of_g.zero_grad()
        loss.backward()
        of_g.step()
        return loss.item()

    def move_d(given):
        losses = []
        for batch in given:
            fake = draw() if fresh or first == "critic" else kept.pop()
            kept[:] = [fake]
            real = binary_cross_entropy_with_logits(d(2 * batch.x - 1), torch.ones(6, 1))
            drawn = binary_cross_entropy_with_logits(d((2 * fake.detach() - 1).view(6, 1, 3, 3)), torch.zeros(6, 1))
            of_d.zero_grad()
            (real + drawn).backward()
            of_d.step()
            losses.append((real + drawn).item())
        return sum(losses) / len(losses)

    history = []
    for i in range(0, len(given), critic_steps):
        moves = {"generator": move_g, "critic": move_d}
        order = ("generator", "critic") if first == "generator" else ("critic", "generator")
        history.append({name: moves[name](given[i : i + critic_steps]) for name in order})
    return history, [*g.parameters()], [*d.parameters()]


@pytest.mark.parametrize("first", ["generator", "critic"])
@pytest.mark.parametrize(
    "options", [{}, {"critic_steps": 3}, {"fresh_fakes": False}], ids=["plain", "three critic steps", "shared fakes"]
)
def test_training_is_a_plain_loop_in_torch(model, first, options):
    objective = adversary(model, first=first, **options)
    repeats = options.get("critic_steps", 1)
    given = batches(5 * repeats)
    torch.manual_seed(4)
    expected, generator, critic = loop_by_hand(
        model, objective.critic, given, first=first, critic_steps=repeats, fresh=options.get("fresh_fakes", True)
    )
    step = engine(model, objective)
    torch.manual_seed(4)
    for i, losses in enumerate(expected):
        row = step(given[i * repeats : (i + 1) * repeats], NOW)
        figures = dict(zip(step.names, row.tolist(), strict=True))
        assert figures["generator/loss"] == pytest.approx(losses["generator"], rel=1e-5, abs=1e-6)
        assert figures["critic/loss"] == pytest.approx(losses["critic"], rel=1e-5, abs=1e-6)
    for one, other in zip(model.parameters(), generator, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    for one, other in zip(objective.critic.parameters(), critic, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_orders_differ(model):
    objective = adversary(model)
    given = batches(2)
    torch.manual_seed(4)
    one, *_ = loop_by_hand(model, objective.critic, given, first="generator")
    torch.manual_seed(4)
    other, *_ = loop_by_hand(model, objective.critic, given, first="critic")
    assert abs(one[1]["generator"] - other[1]["generator"]) > 1e-4


@pytest.mark.parametrize("first", ["generator", "critic"])
def test_turns_come_in_order_and_the_critics_is_repeated(model, first):
    turns = adversary(model, first=first, critic_steps=4).turns(model)
    expected = {"generator": ("generator", "model", 1), "critic": ("critic", "critic", 4)}
    order = ["generator", "critic"] if first == "generator" else ["critic", "generator"]
    assert [(turn.name, turn.player, turn.repeats) for turn in turns] == [expected[name] for name in order]


def recorded(monkeypatch, model):
    """Every batch of samples that is drawn from a model, as it is drawn."""
    drawn, rsample = [], type(model).rsample
    monkeypatch.setattr(model, "rsample", lambda count: drawn.append(rsample(model, count)) or drawn[-1], raising=False)
    return drawn


def shown(monkeypatch, objective):
    """Every batch that the critic is shown, as it is shown."""
    seen, rescale = [], objective.critic.rescale
    monkeypatch.setattr(objective.critic, "rescale", lambda x: seen.append(x.detach().clone()) or rescale(x))
    return seen


@pytest.mark.parametrize("first", ["generator", "critic"])
def test_every_move_draws_samples_of_its_own(model, first, monkeypatch):
    step, drawn = engine(model, adversary(model, first=first, critic_steps=2)), recorded(monkeypatch, model)
    step(batches(2), NOW)
    assert len(drawn) == 3
    assert not any(torch.equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("first", ["generator", "critic"])
def test_moves_share_their_samples_if_asked_to(model, first, monkeypatch):
    objective = adversary(model, first=first, fresh_fakes=False)
    step, drawn = engine(model, objective), recorded(monkeypatch, model)
    seen = shown(monkeypatch, objective)
    given = batches(2)
    for batch in given:
        seen.clear()
        drawn.clear()
        step([batch], NOW)
        assert len(drawn) == 1
        fakes = [x for x in seen if not torch.equal(x, batch.x)]
        assert len(seen) == 3
        assert len(fakes) == 2
        assert torch.equal(fakes[0], fakes[1])
        assert torch.equal(fakes[0], drawn[0])


def test_shared_samples_pair_up_when_gradients_are_accumulated(model, monkeypatch):
    objective = adversary(model, fresh_fakes=False)
    step, drawn = engine(model, objective), recorded(monkeypatch, model)
    step.accumulate = 3
    seen = shown(monkeypatch, objective)
    step(batches(3), NOW)
    assert len(drawn) == 3
    assert all(torch.equal(x, y) for x, y in zip([seen[0], seen[1], seen[2]], drawn, strict=True))
    assert all(torch.equal(x, y) for x, y in zip([seen[4], seen[6], seen[8]], drawn, strict=True))


@pytest.mark.parametrize("loss", installed().names("adversarial_loss"))
@pytest.mark.parametrize("moving", [0, 1])
def test_a_turn_moves_its_own_player_alone(model, loss, moving):
    objective = adversary(model, loss=loss)
    step = engine(model, objective)
    step.turns = step.turns[moving : moving + 1]
    before = weights(model), weights(objective)
    step(batches(1), NOW)
    assert same(weights(model), before[0]) is bool(moving)
    assert same(weights(objective), before[1]) is not bool(moving)


def test_a_vae_is_trained_as_a_generator_is():
    model = vae(likelihood={"use": "gaussian", "learn_scale": True})
    objective = adversary(model)
    moved = {id(parameter) for parameter in objective.players(model)["model"]}
    assert moved == {id(p) for p in [*model.decoder.parameters(), *model.latent_prior.parameters()]}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = engine(model, objective)
    for batch in batches(2):
        assert torch.isfinite(step([batch], NOW)).all()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if name.startswith("decoder.")}
    assert any(name.startswith("encoder.") for name in before)


def test_players_have_all_parameters_that_there_are(model):
    objective = adversary(model)
    players = objective.players(model)
    assert list(players) == ["model", "critic"]
    assert {id(p) for p in players["model"]} == {id(p) for p in model.parameters()}
    assert {id(p) for p in players["critic"]} == {id(p) for p in objective.parameters()}


def test_the_recipes_networks_have_the_practicals_sizes():
    parts = dry_build(load_recipe(RECIPE))
    players = parts.objective.players(parts.model)
    counts = {name: sum(parameter.numel() for parameter in own) for name, own in players.items()}
    assert counts == {"model": 571_024, "critic": 533_505}


def test_what_is_logged(model):
    step = engine(model, adversary(model))
    step(batches(1), NOW)
    assert step.names == (
        *("generator/loss", "generator/adversarial", "generator/grad_norm"),
        *("critic/loss", "critic/adversarial", "critic/real", "critic/fake", "critic/accuracy", "critic/grad_norm"),
    )
    step = engine(model, adversary(model, regularizers=["r1", "diversity", "gradient_penalty"]))
    step(batches(1), NOW)
    assert step.names[1:3] == ("generator/adversarial", "generator/diversity")
    assert step.names[5:8] == ("critic/adversarial", "critic/r1", "critic/gradient_penalty")


def test_logged_figures_are_mean_scores_and_the_share_of_right_decisions(model):
    objective = adversary(model)
    (batch,) = batches(1, size=40)
    torch.manual_seed(2)
    terms = objective.critic_loss(model, batch, NOW).terms
    torch.manual_seed(2)
    layers, fake = objective.critic.network.layers, model.rsample(40)
    real, fake = (layers((2 * x - 1).flatten(1)).squeeze(1) for x in (batch.x, fake))
    assert terms["real"].item() == pytest.approx(real.mean().item(), abs=1e-6)
    assert terms["fake"].item() == pytest.approx(fake.mean().item(), abs=1e-6)
    assert terms["accuracy"].item() == pytest.approx(((real > 0).sum() + (fake <= 0).sum()).item() / 80)
    assert terms["adversarial"].item() == pytest.approx((softplus(-real) + softplus(fake)).mean().item(), rel=1e-5)


def test_the_relativistic_model_is_judged_beside_the_batch(model):
    objective = adversary(model, loss="relativistic")
    (batch,) = batches(1)
    torch.manual_seed(2)
    loss = objective.generator_loss(model, batch, NOW).total
    torch.manual_seed(2)
    fake = objective.score(model.rsample(6))
    assert loss.item() == pytest.approx(softplus(objective.score(batch.x) - fake).mean().item(), rel=1e-6)


def test_scores_are_one_for_each_example(model):
    objective = adversary(model)
    (batch,) = batches(1)
    expected = objective.critic.network.layers((2 * batch.x - 1).flatten(1))
    assert torch.allclose(objective.score(batch.x), expected.squeeze(1), atol=1e-6)
    assert objective.score(batch.x[:1]).shape == (1,)
    assert genkit.critics_of(objective) == [objective]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"loss": "minimax"}, True),
        ({"loss": "relativistic", "regularizers": ["r1", "spectral_norm"]}, True),
        ({"loss": "least_squares"}, False),
        ({"loss": "hinge"}, False),
        ({"loss": "wasserstein"}, False),
        ({"regularizers": ["label_smoothing"]}, False),
        ({"regularizers": ["packing"]}, False),
        ({"regularizers": ["minibatch_stddev"]}, False),
    ],
    ids=str,
)
def test_which_scores_are_log_ratios(model, options, expected):
    assert adversary(model, **options).log_ratio is expected


def test_the_critic_starts_from_the_first_batch_in_its_range(model):
    objective = adversary(model, critic={**SMALL, "normalization": "virtual_batch"})
    (batch,) = batches(1, size=64)
    objective.start(model, batch.x)
    reference = objective.critic.network.layers.reference
    assert torch.allclose(reference, 2 * batch.x.flatten(1) - 1, atol=1e-6)


def test_the_critic_learns_the_log_ratio_of_two_bits():
    """Data and samples on two points: the critic's score of each converges to log p / q."""
    plane = genkit.DataSpec((1,))
    model = genkit.build("model", {"use": "generator", "latent_dim": 1, "network": SMALL}, plane)
    objective = adversary(model, critic={"use": "mlp", "hidden_dims": []})
    real, fake = torch.tensor([[0.0]] * 2 + [[1.0]] * 6), torch.tensor([[0.0]] * 4 + [[1.0]] * 4)
    model.rsample = lambda count: fake
    optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = objective.critic_loss(model, Batch(real), NOW).total
        loss.backward()
        return loss

    optimizer.step(closure)
    scores = objective.score(torch.tensor([[0.0], [1.0]]))
    assert scores.tolist() == pytest.approx([math.log(0.25 / 0.5), math.log(0.75 / 0.5)], abs=1e-3)


@pytest.mark.parametrize("name", [None, *installed().names("regularizer")])
def test_trains_in_bf16(model, name):
    objective = adversary(model, regularizers=[name] if name else [])
    step = engine(model, objective)
    step.precision = "bf16"
    assert torch.isfinite(step(batches(1), NOW)).all()
    assert {parameter.dtype for parameter in [*model.parameters(), *objective.parameters()]} == {torch.float32}


# ---- whole runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", installed().names("adversarial_loss"))
def test_every_loss_is_an_override_of_the_recipe(loss, tmp_path):
    overrides = [
        f"objective.loss={loss}",
        *("data.train=256", "data.test=32", "train.epochs=1", "train.batch_size=64"),
        *("model.network.hidden_dims=[8]", "objective.critic.hidden_dims=[8]"),
        *("evaluate.samples=null", "evaluate.interpolation=null"),
    ]
    genkit.run(RECIPE, overrides=overrides, name=loss, runs=tmp_path, device="cpu")
    records = {record.name: record.value for record in genkit.load(tmp_path / loss, device="cpu").metrics}
    expected = ("generator/loss", "generator/grad_norm", "critic/loss", "critic/accuracy", "critic/grad_norm")
    assert {f"{name}/epoch" for name in expected} <= set(records)
    assert all(math.isfinite(value) for value in records.values())
    assert 0 <= records["critic/accuracy/epoch"] <= 1
    assert genkit.load(tmp_path / loss, device="cpu").sample(3).shape == (3, 1, 28, 28)


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_the_same_regularizer_twice_is_refused(model):
    with pytest.raises(genkit.RecipeError, match="regularizer 'r1' is there 2 times"):
        adversary(model, regularizers=["r1", "r2", {"use": "r1", "gamma": 1.0}])


@pytest.mark.parametrize("loss", ["hinge", "wasserstein", "relativistic"])
def test_labels_that_a_loss_does_not_have_cannot_be_smoothed(model, loss):
    with pytest.raises(genkit.RecipeError, match=f"label_smoothing changes labels, and {loss} has none; minimax, non_"):
        adversary(model, loss=loss, regularizers=["label_smoothing"])


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "least_squares"])
def test_labels_that_a_loss_has_can_be_smoothed(model, loss):
    assert adversary(model, loss=loss, regularizers=["label_smoothing"]).real_label == pytest.approx(0.9)


def test_shared_fakes_serve_one_critic_step(model):
    with pytest.raises(genkit.RecipeError, match="critic_steps must be 1"):
        adversary(model, fresh_fakes=False, critic_steps=2)
    assert adversary(model, fresh_fakes=True, critic_steps=2).critic_steps == 2


class Stubborn(Backbone):
    """Gives an output of its own."""

    def __init__(self, in_shape: Shape, out_shape: Shape, /, *, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(math.prod(in_shape), math.prod(shape))

    def forward(self, x, context=None):
        return self.linear(x.flatten(1)).view(-1, *self.shape)


@pytest.mark.parametrize("shape", [(2,), (1, 1), (1, 3, 3), ()])
def test_a_critic_that_gives_anything_but_one_number_is_refused(model, shape):
    with pytest.raises(ValueError, match="a critic gives one score for an example; stubborn gives shape"):
        Adversarial(model, critic=Factory("stubborn", {"shape": shape}, Stubborn), loss=Factory("hinge", {}, hinge()))
    one = Factory("stubborn", {"shape": (1,)}, Stubborn)
    assert Adversarial(model, critic=one, loss=Factory("hinge", {}, hinge())).score(torch.rand(4, 1, 3, 3)).shape == (
        4,
    )


def hinge():
    return installed().get("adversarial_loss", "hinge").load()


class Blob(genkit.GenerativeModel, genkit.SamplesDifferentiably):
    """Samples, but from no latent."""

    def __init__(self, spec: genkit.DataSpec, /) -> None:
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))

    def sampling_parameters(self):
        return [self.mean]

    def rsample(self, num_samples, context=None):
        return self.mean + torch.randn(num_samples, *self.mean.shape)


class Shown(genkit.Sampler):
    """Asks for nothing."""

    def __init__(self, model: genkit.GenerativeModel, objective: genkit.Objective, /) -> None:
        self.model = model

    def sample(self, num_samples, context=None):
        return genkit.Samples(self.model.rsample(num_samples))


def test_diversity_needs_a_model_that_decodes():
    registry = load_registry([])
    register = Registrar(registry, Plugin("tests", __name__, "tests", "0"))
    for name, component in {"blob": Blob, "shown": Shown}.items():
        register(name, component)
    for item in installed().components():
        registry.add(item)
    recipe = {
        "data": {"use": "mixture"},
        "model": {"use": "blob"},
        "objective": {"use": "adversarial", "regularizers": ["r1"]},
        "sampler": {"use": "shown"},
        "train": {"epochs": 1, "batch_size": 10},
    }
    assert load_recipe(recipe, [], registry).model.name == "blob"
    with pytest.raises(genkit.RecipeError, match="diversity needs a model with Decodes, which blob has not"):
        load_recipe(recipe, ["objective.regularizers=[r1, diversity]"], registry)


def test_a_model_without_differentiable_samples_is_refused():
    class Density(genkit.GenerativeModel, genkit.HasLogProb):
        def log_prob(self, x, context=None, num_samples=1):
            raise NotImplementedError

    assert lacking(Density(SPEC), Adversarial.requires) == ["SamplesDifferentiably"]
