"""The contract of objectives."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from genkit.component import Factory
from genkit.dataset import Batch, DataSpec
from genkit.model import GenerativeModel
from genkit.objective import MODEL, Loss, Objective, Progress, Turn
from genkit.testing.common import batch_like, made_up, models_for
from genkit.testing.component import contract, refused
from genkit.testing.keeping import equal, seed, unchanged, unseeded, untouched
from genkit.testing.module import check_device, check_gradients, check_module

BATCH = 6


@contract
def check_objective(build: Factory[Objective]) -> None:
    """Checks an objective with every installed model that has what it requires; there must be one.

    Turns move known players, losses are finite scalars, terms keep their names, gradients reach every parameter
    of the player whose turn it is, every parameter of its own has a player, a loss follows the global seed and changes
    neither batch, parameters nor torch's settings; construction follows the seed; modes, another device, a checkpoint;
    and the model is not part of the objective.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    tried = 0
    seen: set[DataSpec] = set()  # what has little to do with the model is asked once for each kind of data
    for name, model in models_for(build):
        if refused(lambda model=model: _prepared(build, model)):
            continue
        tried += 1
        what = f"{build.name} with {name}"
        objective = _constructed(build, model, what)
        _check_players(objective, model, what)
        turns = objective.turns(model)
        assert turns, f"{what}: there is no turn"
        names = [turn.name for turn in turns]
        assert len(set(names)) == len(names), f"{what}: two turns share a name: {', '.join(names)}"
        for turn in turns:
            _check_turn(objective, model, turn, what)
        if model.spec not in seen:
            seen.add(model.spec)
            check_module(objective, lambda model=model: _prepared(build, model), what)
            _check_elsewhere(objective, model, what)
    assert tried, f"no installed model has what {build.name} requires"


def _constructed(build: Factory[Objective], model: GenerativeModel, what: str) -> Objective:
    """An instance; two that are built under one seed have the same networks."""
    given = dict(model.named_parameters())
    with untouched(what), unseeded(f"{what}: the constructor"), unchanged(given, what, "building it changes the model"):
        objective = _prepared(build, model)
    seed()
    again = _prepared(build, model).state_dict()
    for name, value in objective.state_dict().items():
        same = not isinstance(value, Tensor) or equal(value, again[name])
        assert same, f"{what}: two builds under one seed differ in {name}; construction must follow the global seed"
    return objective


def _check_players(objective: Objective, model: GenerativeModel, what: str) -> None:
    """Who moves what: nothing of the model is the objective's own, and nothing of its own is left without a player."""
    own = {id(parameter): name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    of_model = {id(parameter) for parameter in model.parameters()}
    assert not own.keys() & of_model, f"{what}: the objective keeps the model as its own"
    moved = {id(parameter) for each in objective.players(model).values() for parameter in each}
    idle = [name for key, name in own.items() if key not in moved]
    assert not idle, f"{what}: no player moves {', '.join(idle)}; name it in players(), or set requires_grad to False"
    foreign = moved - own.keys() - of_model - {id(parameter) for parameter in objective.parameters()}
    assert not foreign, f"{what}: a player moves parameters that belong neither to the model nor to the objective"


def _prepared(build: Factory[Objective], model: GenerativeModel) -> Objective:
    objective = build(model)
    objective.prepare(made_up(model.spec))
    return objective


def _check_turn(objective: Objective, model: GenerativeModel, turn: Turn, what: str) -> None:
    what = f"{what}, turn {turn.name}"
    players = objective.players(model)
    assert turn.player in players, f"{what}: no player is called {turn.player!r}"
    parameters = [parameter for parameter in players[turn.player] if parameter.requires_grad]
    assert parameters, f"{what}: the player has nothing to move"
    batch = batch_like(model.spec, -(-BATCH // objective.batch_multiple) * objective.batch_multiple)
    state = copy.deepcopy(objective.state_dict())
    again = _seeded(turn, batch, 0.5).total.detach()
    objective.load_state_dict(state)  # running statistics may have moved
    with untouched(what), _still(objective, model, what):
        loss = _seeded(turn, batch, 0.5)
    assert loss.total.shape == (), f"{what}: the loss has shape {tuple(loss.total.shape)}, where a scalar is wanted"
    assert torch.isfinite(loss.total), f"{what}: the loss is not finite"
    assert torch.equal(loss.total, again), f"{what}: the loss does not follow the global seed"
    for term, value in loss.terms.items():
        assert value.shape == (), f"{what}: term {term} has shape {tuple(value.shape)}"
    assert list(_seeded(turn, batch, 7.0).terms) == list(loss.terms), f"{what}: the terms change their names"
    for parameter in parameters:
        parameter.grad = None
    loss.total.backward(inputs=parameters)
    # a loss of differences gives its critic's last bias none
    check_gradients(model, parameters, what, each_moves=turn.player == MODEL)


def _still(objective: Objective, model: GenerativeModel, what: str) -> AbstractContextManager[None]:
    """Has all parameters stay: it is the engine that steps."""
    every = {**dict(model.named_parameters()), **dict(objective.named_parameters())}
    return unchanged(every, what, "computing a loss changes a parameter, which only the engine may")


def _check_elsewhere(objective: Objective, model: GenerativeModel, what: str) -> None:
    """On another device it computes a loss together with its model."""
    both = nn.ModuleDict({"objective": objective, "model": model})
    batch = batch_like(model.spec, -(-BATCH // objective.batch_multiple) * objective.batch_multiple)

    def loss(moved: nn.ModuleDict, inputs: Sequence[Tensor]) -> None:
        x, step, *labels = inputs
        own: Any = moved["objective"]
        for turn in own.turns(moved["model"]):
            turn.loss(Batch(x, labels[0] if labels else None), Progress(step, step / 10))

    labels = [] if batch.labels is None else [batch.labels]
    check_device(both, loss, [batch.x, torch.tensor(5.0), *labels], what)


def _seeded(turn: Turn, batch: Batch, epoch: float) -> Loss:
    what = f"the loss of turn {turn.name}"
    with unseeded(what), unchanged({"x": batch.x}, what, "the batch was changed"):
        loss = turn.loss(batch, Progress(torch.tensor(epoch * 10), torch.tensor(epoch)))
    assert isinstance(loss, Loss), f"{what} is a {type(loss).__name__}; a Loss is wanted, Loss(total, terms)"
    assert loss.total.requires_grad, f"{what} carries no gradient: it was detached, or computed without recording"
    return loss
