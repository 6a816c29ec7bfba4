"""The contract of objectives."""

from __future__ import annotations

import copy

import torch

from genkit.component import Factory
from genkit.dataset import Batch
from genkit.model import GenerativeModel
from genkit.objective import MODEL, Loss, Objective, Progress, Turn
from genkit.testing.common import batch_like, check_gradients, check_state_round_trip, made_up, models_for, refused

BATCH = 6


def check_objective(build: Factory[Objective]) -> None:
    """Checks an objective with every installed model that has what it requires; there must be one.

    Turns move known players, losses are finite scalars, terms keep their names, gradients reach every parameter
    of the player whose turn it is, a loss follows the global seed, and the model is not part of the objective.
    """
    tried = 0
    for name, model in models_for(build):
        if refused(lambda model=model: _prepared(build, model)):
            continue
        tried += 1
        torch.manual_seed(0)
        objective, what = _prepared(build, model), f"{build.name} with {name}"
        own = {id(parameter) for parameter in objective.parameters()}
        assert not own & {id(p) for p in model.parameters()}, f"{what}: the objective keeps the model as its own"
        turns = objective.turns(model)
        assert turns, f"{what}: there is no turn"
        for turn in turns:
            _check_turn(objective, model, turn, what)
        check_state_round_trip(objective, lambda model=model: _prepared(build, model), what)
    assert tried, f"no installed model has what {build.name} requires"


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
    before = batch.x.clone()
    state = copy.deepcopy(objective.state_dict())
    again = _seeded(turn, batch, 0.5).total.detach()
    objective.load_state_dict(state)  # running statistics may have moved
    loss = _seeded(turn, batch, 0.5)
    assert loss.total.shape == (), f"{what}: the loss has shape {tuple(loss.total.shape)}"
    assert torch.isfinite(loss.total), f"{what}: the loss is not finite"
    assert torch.equal(loss.total, again), f"{what}: the loss does not follow the global seed"
    assert torch.equal(batch.x, before), f"{what}: the batch was changed"
    for term, value in loss.terms.items():
        assert value.shape == (), f"{what}: term {term} has shape {tuple(value.shape)}"
    assert list(_seeded(turn, batch, 7.0).terms) == list(loss.terms), f"{what}: the terms change their names"
    for parameter in parameters:
        parameter.grad = None
    loss.total.backward(inputs=parameters)
    # a loss of differences gives its critic's last bias none
    check_gradients(model, parameters, what, each_moves=turn.player == MODEL)


def _seeded(turn: Turn, batch: Batch, epoch: float) -> Loss:
    torch.manual_seed(3)
    progress = Progress(torch.tensor(epoch * 10), torch.tensor(epoch))
    return turn.loss(batch, progress)
