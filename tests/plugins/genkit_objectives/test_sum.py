"""The weighted sum: its losses, its players, the order of its turns, and what cannot be summed."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import nn

import genkit
from genkit import Batch, Factory, Loss, Objective, Progress, Turn
from genkit.engine.player import Player
from genkit.engine.step import TrainStep
from genkit.objective import critics_of
from genkit.recipe import load_recipe
from genkit.testing import refused
from genkit_objectives.sum import Sum

SPEC = genkit.DataSpec((1, 3, 3), levels=2)
SMALL = {"use": "mlp", "hidden_dims": [6]}
GAME = {"use": "adversarial", "critic": SMALL}
NOW = Progress(torch.zeros(()), torch.zeros(()))


@pytest.fixture
def model():
    return genkit.build("model", {"use": "vae", "latent_dim": 2, "encoder": SMALL, "decoder": SMALL}, SPEC)


@pytest.fixture
def batch():
    return Batch(torch.bernoulli(torch.full((6, *SPEC.shape), 0.4)))


def built(model, weights=None, **parts):
    return genkit.build("objective", {"use": "sum", "parts": parts, "weights": weights}, model)


def by_player(objective, model):
    return {turn.player: turn for turn in objective.turns(model)}


def test_total_is_the_weighted_sum_of_the_parts(model, batch):
    objective = built(model, {"game": 0.25, "bound": 3.0}, bound="elbo", game=GAME)
    bound, game = objective.parts["bound"], objective.parts["game"]
    torch.manual_seed(1)
    loss = by_player(objective, model)["model"].loss(batch, NOW)
    torch.manual_seed(1)
    one = bound.loss(model, batch, NOW)
    other = game.generator_loss(model, batch, NOW)
    assert loss.total.item() == pytest.approx(3 * one.total.item() + 0.25 * other.total.item(), rel=1e-6)
    expected = {f"bound/{name}": value for name, value in one.terms.items()}
    expected |= {f"game/{name}": value for name, value in other.terms.items()}
    assert {name: value.item() for name, value in loss.terms.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}  # without their weights
    )
    torch.manual_seed(1)
    critic = by_player(objective, model)["critic"].loss(batch, NOW)
    torch.manual_seed(1)
    alone = game.critic_loss(model, batch, NOW)
    assert critic.total.item() == pytest.approx(0.25 * alone.total.item(), rel=1e-6)
    assert set(critic.terms) == {f"game/{name}" for name in alone.terms}


def test_gradient_is_the_weighted_sum_of_the_parts(model, batch):
    objective = built(model, {"game": 0.25}, bound="elbo", game=GAME)
    parameters = list(model.parameters())

    def gradients(loss):
        found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    torch.manual_seed(1)
    total = gradients(by_player(objective, model)["model"].loss(batch, NOW))
    torch.manual_seed(1)
    one = gradients(objective.parts["bound"].loss(model, batch, NOW))
    other = gradients(objective.parts["game"].generator_loss(model, batch, NOW))
    for whole, a, b in zip(total, one, other, strict=True):
        assert torch.allclose(whole, a + 0.25 * b, atol=1e-6)


def test_one_part_of_weight_1_is_that_part(model, batch):
    objective = built(model, only="elbo")
    (turn,) = objective.turns(model)
    assert (turn.name, turn.player, turn.repeats) == ("model", "model", 1)
    torch.manual_seed(1)
    loss = turn.loss(batch, NOW)
    torch.manual_seed(1)
    assert loss.total.item() == objective.parts["only"].loss(model, batch, NOW).total.item()


def test_units_go_by_the_names_of_the_parts(model):
    objective = built(model, first="elbo", second="elbo")
    (turn,) = objective.turns(model)
    names = ("reconstruction", "kl", "negative_elbo")
    assert turn.units == {f"{part}/{name}": "nats" for part in ("first", "second") for name in names}
    assert built(model, game=GAME).turns(model)[0].units == {}


def test_players_of_one_name_are_one_who_moves_what_any_of_them_moves(model):
    objective = built(model, bound="elbo", game=GAME, other=GAME)
    players = objective.players(model)
    assert set(players) == {"model", "critic"}
    assert len(players["model"]) == len(list(model.parameters()))
    assert {id(p) for p in players["model"]} == {id(p) for p in model.parameters()}
    critics = [*objective.parts["game"].parameters(), *objective.parts["other"].parameters()]
    assert [id(p) for p in players["critic"]] == [id(p) for p in critics]
    alone = built(model, game=GAME).players(model)["model"]
    assert {id(p) for p in alone} == {id(p) for p in model.decoder.parameters()}


def test_a_step_moves_both_critics_and_the_model(model, batch):
    objective = built(model, bound="elbo", game=GAME, other={**GAME, "loss": "least_squares"})
    adam, constant = {"use": "adam", "lr": 0.01}, genkit.build("schedule", "constant")
    players = {
        name: Player(list(own), genkit.build("optimizer", adam), constant)
        for name, own in objective.players(model).items()
    }
    before = [parameter.detach().clone() for parameter in [*model.parameters(), *objective.parameters()]]
    step = TrainStep(objective.turns(model), players, torch.device("cpu"))
    assert torch.isfinite(step([batch], NOW)).all()
    after = [*model.parameters(), *objective.parameters()]
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert {"model/bound/kl", "critic/game/real", "critic/other/accuracy", "model/grad_norm"} <= set(step.names)


def test_the_state_dict_has_each_part_under_its_name(model):
    objective = built(model, game=GAME, other=GAME)
    names = {f"critic.network.layers.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    assert set(objective.state_dict()) == {f"parts.{part}.{name}" for part in ("game", "other") for name in names}
    twin = built(model, game=GAME, other=GAME)
    twin.load_state_dict(objective.state_dict())
    x = torch.rand(3, *SPEC.shape)
    assert torch.equal(twin.parts["other"].score(x), objective.parts["other"].score(x))


def test_sums_can_be_summed(model, batch):
    inner = {"use": "sum", "parts": {"bound": "elbo", "game": GAME}, "weights": {"game": 0.5}}
    objective = built(model, {"inner": 4.0}, inner=inner, other=GAME)
    assert [turn.name for turn in objective.turns(model)] == ["model", "critic"]
    torch.manual_seed(1)
    critic = by_player(objective, model)["critic"].loss(batch, NOW)
    torch.manual_seed(1)
    one = objective.parts["inner"].parts["game"].critic_loss(model, batch, NOW).total
    other = objective.parts["other"].critic_loss(model, batch, NOW).total
    assert critic.total.item() == pytest.approx(2 * one.item() + other.item(), rel=1e-6)
    assert "inner/game/real" in critic.terms


def test_the_critic_is_found(model):
    objective = built(model, bound="elbo", game=GAME)
    assert critics_of(objective) == [objective.parts["game"]]
    with pytest.raises(ValueError, match="Sum does not"):
        critics_of(built(model, bound="elbo"))


def test_every_part_sees_the_first_batch(model):
    node = {**GAME, "critic": {**SMALL, "normalization": "virtual_batch"}}
    objective, x = built(model, game=node, other=node), torch.rand(64, *SPEC.shape)
    objective.start(model, x)
    for part in objective.parts.values():
        assert torch.allclose(part.critic.network.layers.reference, 2 * x.flatten(1) - 1, atol=1e-6)


def test_batches_serve_every_part(model):
    packs = [{**GAME, "regularizers": [{"use": "packing", "size": size}]} for size in (4, 6)]
    assert built(model, four=packs[0], six=packs[1], bound="elbo").batch_multiple == 12
    assert built(model, bound="elbo").batch_multiple == 1


# ---- merging -----------------------------------------------------------------------------------------------------


class Scripted(Objective):
    """Has turns of its players in any order, each worth 1."""

    def __init__(
        self,
        model: genkit.GenerativeModel,
        /,
        *,
        order: Sequence[str],
        repeats: Mapping[str, int] | None = None,
        grad_norm: bool = False,
    ) -> None:
        super().__init__()
        self.own = nn.ParameterDict({player: torch.zeros(()) for player in order})
        self.order, self.repeats, self.grad_norm = order, repeats or {}, grad_norm

    def players(self, model):
        return {player: [self.own[player]] for player in self.order}

    def turns(self, model):
        return [
            Turn(
                f"{player}{index}",
                player,
                lambda batch, progress, index=index: Loss(torch.tensor(10.0**index), {"index": torch.tensor(index)}),
                self.repeats.get(player, 1),
                log_grad_norm=self.grad_norm,
            )
            for index, player in enumerate(self.order)
        ]


def scripted(model, *orders, weights=None, **options):
    parts = {
        f"part{i}": Factory("scripted", {"order": order.split(), **options}, Scripted) for i, order in enumerate(orders)
    }
    return Sum(model, parts=parts, weights=weights)


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        (["a b c"], "a b c"),
        (["c b a"], "c b a"),
        (["b", "a b"], "a b"),
        (["a b", "b c"], "a b c"),
        (["b c", "a b"], "a b c"),
        (["a c", "b c", "a b"], "a b c"),
        (["a b a"], "a b a_2"),
        (["a b a", "b"], "a b a_2"),
        (["a b a", "a"], "a b a_2"),
        (["a a a"], "a a_2 a_3"),
    ],
)
def test_merged_turns_keep_the_order_of_every_part(model, orders, merged):
    turns = scripted(model, *orders).turns(model)
    assert [turn.name for turn in turns] == merged.split()
    assert [turn.player for turn in turns] == [name.partition("_")[0] for name in merged.split()]


def test_the_order_of_unrelated_players_is_always_the_same(model):
    orders = {tuple(turn.name for turn in scripted(model, "a", "b", "c").turns(model)) for _ in range(5)}
    assert len(orders) == 1
    assert set(orders.pop()) == {"a", "b", "c"}


def test_a_players_turns_merge_by_their_count(model, batch):
    turns = scripted(model, "a b a", "a b", weights={"part1": 3.0}).turns(model)
    totals = {turn.name: turn.loss(batch, NOW).total.item() for turn in turns}
    assert totals == {"a": 1 + 3 * 1, "b": 10 + 3 * 10, "a_2": 100}


@pytest.mark.parametrize("orders", [["a b", "b a"], ["a b", "b c", "c a"]])
def test_orders_that_contradict_each_other_are_refused(model, orders):
    with pytest.raises(ValueError, match=r"parts disagree in which order these players move: .*a"):
        scripted(model, *orders)


def test_adversaries_that_disagree_who_moves_first_are_refused(model):
    with pytest.raises(genkit.RecipeError, match="parts disagree in which order these players move"):
        built(model, one=GAME, other={**GAME, "first": "critic"})
    turns = built(model, bound="elbo", game={**GAME, "first": "critic"}).turns(model)
    assert [turn.name for turn in turns] == ["critic", "model"]


def test_players_that_move_once_in_one_part_and_twice_in_another_are_refused(model):
    with pytest.raises(genkit.RecipeError, match=r"how often player 'critic' moves in a step: .*2"):
        built(model, one=GAME, other={**GAME, "critic_steps": 2})
    turns = built(model, bound="elbo", game={**GAME, "critic_steps": 3}).turns(model)
    assert [(turn.name, turn.repeats) for turn in turns] == [("model", 1), ("critic", 3)]


def test_gradient_norms_are_logged_where_one_part_wants_them(model):
    assert not scripted(model, "a").turns(model)[0].log_grad_norm
    assert scripted(model, "a", grad_norm=True).turns(model)[0].log_grad_norm
    assert [turn.log_grad_norm for turn in built(model, bound="elbo", game=GAME).turns(model)] == [True, True]


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_weights_of_no_part_are_refused(model):
    with pytest.raises(genkit.RecipeError, match="weights name gane, but the parts are bound, game"):
        built(model, {"gane": 2.0}, bound="elbo", game=GAME)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_weights_are_positive(model, weight):
    with pytest.raises(genkit.RecipeError, match="weights"):
        built(model, {"bound": weight}, bound="elbo")


def test_a_sum_of_nothing_is_refused(model):
    with pytest.raises(genkit.RecipeError, match="parts"):
        built(model)


def test_names_that_a_state_dict_could_not_hold_are_refused(model):
    with pytest.raises(genkit.RecipeError, match="parts"):
        built(model, **{"a.b": "elbo"})


@pytest.mark.parametrize("name", ["train", "values", "float"])
def test_a_part_that_goes_by_the_name_of_a_modules_attribute_works_or_is_refused(model, name):
    if not refused(lambda: built(model, **{name: "elbo"})):
        assert list(built(model, **{name: "elbo"}).parts) == [name]


def test_what_the_parts_ask_of_a_model_is_asked_for(small_recipe):
    small_recipe["model"] = {"use": "generator"}
    small_recipe["evaluate"] = {}
    small_recipe["objective"] = {"use": "sum", "parts": {"game": "adversarial"}}
    assert load_recipe(small_recipe).objective.name == "sum"
    with pytest.raises(genkit.RecipeError, match="elbo needs a model with LatentVariable, which generator has not"):
        load_recipe(small_recipe, ["objective.parts.bound=elbo"])
