"""The contracts of optimizers and of learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genkit.component import Factory
from genkit.engine.player import Player
from genkit.optimizer import Optimizer, Schedule
from genkit.testing.component import contract
from genkit.testing.keeping import equal, nothing_drawn, unchanged, unseeded, untouched
from genkit.testing.module import through_checkpoint

STEPS = 5
EPOCHS = (0.0, 0.25, 1.0, 3.5, 9.75, 10.0)
START = (torch.tensor([1.0, -2.0, 3.0]), torch.tensor([[0.5, -1.5], [2.5, -0.5]]))


class _Flat(Schedule):
    """The same share of the learning rate throughout."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def factor(self, epoch: float, total_epochs: int) -> float:
        return self.share


@contract
def check_optimizer(build: Factory[Optimizer]) -> None:
    """Checks an optimizer on a bowl, in single and in double precision.

    It takes any iterable of parameters, all of them and no other; building it changes nothing; it goes down, moves
    every parameter that has a gradient and none without, follows the seed; its learning rate is where schedules find
    it, at 0 nothing moves, and its state survives a checkpoint: a resumed run takes the same steps.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    what = build.name
    with untouched(what), unseeded(what):
        made = build()
    for dtype in (torch.float32, torch.float64):
        parameters = _parameters(dtype)
        still = unchanged(_named(parameters), what, "building it changes a parameter")
        with untouched(what), still, nothing_drawn(f"{what}: build"):
            optimizer = made.build(parameter for parameter in parameters)
        _check_groups(optimizer, parameters, what)
        _check_steps(made, f"{what} in {dtype}", dtype)
        _check_idle(made, what, dtype)
        _check_resumed(made, what, dtype)
        _check_rate(made, what, dtype)


def _parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(value.to(dtype, copy=True)) for value in START]


def _named(parameters: list[nn.Parameter]) -> dict[str, Tensor]:
    return {str(index): parameter for index, parameter in enumerate(parameters)}


def _check_groups(optimizer: object, parameters: list[nn.Parameter], what: str) -> None:
    kind = type(optimizer).__name__
    assert isinstance(optimizer, torch.optim.Optimizer), f"{what}: build gives a {kind}, not a torch.optim.Optimizer"
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    wanted = [id(parameter) for parameter in parameters]
    assert sorted(held) == sorted(wanted), (
        f"{what}: it holds {len(held)} parameters, not the {len(wanted)} it was given"
    )
    for group in optimizer.param_groups:
        rate = group.get("lr")
        assert isinstance(rate, float | int | Tensor), f"{what}: a group has no 'lr', which schedules multiply"


def _bowl(parameters: list[nn.Parameter]) -> Tensor:
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum()


def _walk(player: Player, steps: int) -> None:
    for _ in range(steps):
        for parameter in player.parameters:
            parameter.grad = None
        _bowl(player.parameters).backward()
        player.step()


def _player(made: Optimizer, dtype: torch.dtype) -> Player:
    return Player(_parameters(dtype), made, _Flat())


def _check_steps(made: Optimizer, what: str, dtype: torch.dtype) -> None:
    one, other = _player(made, dtype), _player(made, dtype)
    before = _bowl(one.parameters).item()
    for player in (one, other):
        with untouched(what), unseeded(what):
            _walk(player, STEPS)
    after = _bowl(one.parameters).item()
    assert math.isfinite(after), f"{what}: after {STEPS} steps the parameters are not finite"
    still = [i for i, (p, s) in enumerate(zip(one.parameters, START, strict=True)) if equal(p, s.to(dtype))]
    assert not still, f"{what}: after {STEPS} steps parameter {', '.join(map(str, still))} has not moved"
    assert after < before, f"{what}: on a bowl it goes up, from {before:.3g} to {after:.3g} in {STEPS} steps"
    same = all(equal(p, q) for p, q in zip(one.parameters, other.parameters, strict=True))
    assert same, f"{what}: its steps do not follow the global seed"


def _check_idle(made: Optimizer, what: str, dtype: torch.dtype) -> None:
    """A parameter without a gradient stays: it is not this player's turn."""
    parameters = _parameters(dtype)
    optimizer = made.build(parameters)
    parameters[0].square().sum().backward()
    optimizer.step()
    assert equal(parameters[1], START[1].to(dtype)), f"{what}: it moves a parameter that has no gradient"


def _check_rate(made: Optimizer, what: str, dtype: torch.dtype) -> None:
    """At a learning rate of 0 nothing moves; decay and noise are scaled by it as well."""
    player = Player(_parameters(dtype), made, _Flat(0.0))
    player.set_learning_rate(0.0, 1)
    _walk(player, 1)
    moved = [i for i, (p, s) in enumerate(zip(player.parameters, START, strict=True)) if not equal(p, s.to(dtype))]
    assert not moved, (
        f"{what}: where a schedule sets 'lr' to 0, parameter {', '.join(map(str, moved))} moves all the same; take the "
        "rate from the group at each step"
    )


def _check_resumed(made: Optimizer, what: str, dtype: torch.dtype) -> None:
    """A checkpoint between two steps, as the engine takes it, changes nothing."""
    straight, first, second = (_player(made, dtype) for _ in range(3))
    _walk(straight, STEPS)
    _walk(first, 2)
    tensors, numbers = first.state()
    for name, value in numbers.items():
        plain = value is None or isinstance(value, bool | int | float | str)
        assert plain, f"{what}: {name} of its state is {type(value).__name__}; only tensors and numbers can be kept"
    with torch.no_grad():
        for own, there in zip(second.parameters, first.parameters, strict=True):
            own.copy_(there)
    second.load_state(through_checkpoint(tensors), numbers)
    _walk(second, STEPS - 2)
    same = all(equal(p, q) for p, q in zip(straight.parameters, second.parameters, strict=True))
    assert same, f"{what}: after a checkpoint it takes other steps; keep all that they depend on in its state"


@contract
def check_schedule(build: Factory[Schedule]) -> None:
    """Checks a learning-rate schedule over long and short trainings.

    A factor is a finite number, not negative, which depends on the place in training alone: a resumed run begins in
    the middle, so nothing may be counted from call to call, and nothing drawn.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    what = build.name
    with untouched(what), unseeded(what):
        schedule, other = build(), build()
    for total in (1, 10, 300):
        epochs = [epoch * total / 10 for epoch in EPOCHS]
        with untouched(what), nothing_drawn(what):
            factors = [schedule.factor(epoch, total) for epoch in epochs]
        backwards = [other.factor(epoch, total) for epoch in reversed(epochs)]
        for epoch, factor, again in zip(epochs, factors, reversed(backwards), strict=True):
            where = f"{what}: the factor at epoch {epoch:g} of {total}"
            plain = isinstance(factor, float | int)
            assert plain, f"{where} is a {type(factor).__name__}; a plain number is wanted"
            assert math.isfinite(factor), f"{where} is {factor}"
            assert factor >= 0, f"{where} is {factor}, which would go up the gradient"
            assert factor == again, f"{where} is {factor}, and {again} where later ones were asked for before"
        assert any(factor > 0 for factor in factors), f"{what}: the factor is 0 throughout a training of {total} epochs"
