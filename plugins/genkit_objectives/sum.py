"""The weighted sum of objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from genkit import Batch, Dataset, Factory, GenerativeModel, Loss, Objective, Progress, RecipeError, Turn
from genkit.errors import Problem

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Place = tuple[str, int]  # a player, and its how-manieth turn in a step


@dataclass(frozen=True)
class Part:
    """One part's turn within a merged one."""

    name: str
    weight: float
    turn: Turn


class Sum(Objective):
    r"""A weighted sum of objectives over one model, such as a bound on the likelihood and an adversary.

    .. math:: L_p = \sum_i w_i\, L_{i, p} \quad \text{for each player } p

    Turns of the same player become one, whose loss is the weighted sum of theirs: the evidence lower bound and an
    adversary both have a player ``model``, and only the adversary has a critic. A part's weight is on the losses of
    all its players. Terms are logged under the part's name, without the weight.

    Args:
        parts: The objectives, by names of your choice.
        weights: The weights of those whose weight is not 1.

    References:
        Larsen et al.: Autoencoding beyond pixels using a learned similarity metric (VAE/GAN), ICML 2016, arXiv
        1512.09300. Grover, Dhar and Ermon: Flow-GAN, AAAI 2018, arXiv 1705.08868.
    """

    examples = (
        {"parts": {"first": "elbo", "second": {"use": "adversarial"}}, "weights": {"second": 0.5}},
        {"parts": {"likelihood": "maximum_likelihood", "adversary": "adversarial"}},
    )

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        parts: Annotated[Mapping[Name, Factory[Objective]], Field(min_length=1)],
        weights: Mapping[str, PositiveFloat] | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(weights or {}) - set(parts))
        if unknown:
            raise ValueError(f"weights name {', '.join(unknown)}, but the parts are {', '.join(parts)}")
        self.parts = nn.ModuleDict()
        self._factories = dict(parts)
        for name, part in parts.items():
            built = part(model)
            try:
                self.parts[name] = built
            except KeyError as error:  # a dictionary of modules has attributes of its own
                raise ValueError(f"no part can be called {name!r}; any other name would do") from error
        self.weights = {name: (weights or {}).get(name, 1.0) for name in parts}
        self.turns(model)  # refuses parts that cannot be merged

    def _each(self) -> dict[str, Objective]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Objective)}

    @property
    def batch_multiple(self) -> int:
        """What serves every part."""
        return math.lcm(*(part.batch_multiple for part in self._each().values()))

    def prepare(self, dataset: Dataset) -> None:
        """Shows every part the dataset."""
        for name, part in self._each().items():
            factory = self._factories[name]
            try:
                part.prepare(dataset)
            except ValueError as error:
                raise RecipeError([Problem(factory.path, f"{factory.name}: {error}", factory.location)]) from error

    def start(self, model: GenerativeModel, x: Tensor) -> None:
        """Shows every part the first batch."""
        for part in self._each().values():
            part.start(model, x)

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parts' players; of the same name, they are one, who moves all that any of them moves."""
        merged: dict[str, dict[int, nn.Parameter]] = {}
        for part in self._each().values():
            for player, parameters in part.players(model).items():
                merged.setdefault(player, {}).update({id(parameter): parameter for parameter in parameters})
        return {player: list(parameters.values()) for player, parameters in merged.items()}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """The parts' turns, merged by player, in an order that keeps every part's own.

        Raises:
            ValueError: There is no such order, or parts disagree how often a player moves.
        """
        turns = {name: places(part.turns(model)) for name, part in self._each().items()}
        return [self._merge(place, turns) for place in common_order([list(own) for own in turns.values()])]

    def _merge(self, place: Place, turns: Mapping[str, Mapping[Place, Turn]]) -> Turn:
        merged = [Part(name, self.weights[name], own[place]) for name, own in turns.items() if place in own]
        player, index = place
        repeats = {part.name: part.turn.repeats for part in merged}
        if len(set(repeats.values())) > 1:
            raise ValueError(f"parts disagree how often player {player!r} moves in a step: {repeats}")
        return Turn(
            name=f"{player}_{index + 1}" if index else player,
            player=player,
            loss=weighted(merged),
            repeats=merged[0].turn.repeats,
            units={f"{part.name}/{term}": unit for part in merged for term, unit in part.turn.units.items()},
            log_grad_norm=any(part.turn.log_grad_norm for part in merged),
        )


def weighted(parts: Sequence[Part]) -> Callable[[Batch, Progress], Loss]:
    """The loss of a merged turn."""

    def loss(batch: Batch, progress: Progress) -> Loss:
        losses = {part.name: part.turn.loss(batch, progress) for part in parts}
        total = sum(part.weight * losses[part.name].total for part in parts)
        assert isinstance(total, Tensor)
        terms = {f"{name}/{term}": value for name, own in losses.items() for term, value in own.terms.items()}
        return Loss(total, terms)

    return loss


def places(turns: Sequence[Turn]) -> dict[Place, Turn]:
    """A part's turns by their player, counted from 0, in their order."""
    players = [turn.player for turn in turns]
    return {(turn.player, players[:index].count(turn.player)): turn for index, turn in enumerate(turns)}


def common_order(orders: Sequence[Sequence[Place]]) -> list[Place]:
    """One order that keeps all the given ones.

    Raises:
        ValueError: There is none.

    Example:
        >>> common_order([[("model", 0)], [("critic", 0), ("model", 0)]])
        [('critic', 0), ('model', 0)]
    """
    sorter: TopologicalSorter[Place] = TopologicalSorter()
    for order in orders:
        for index, place in enumerate(order):
            sorter.add(place, *order[max(index - 1, 0) : index])
    try:
        return list(sorter.static_order())
    except CycleError as error:
        players = ", ".join(dict.fromkeys(player for player, _ in error.args[1]))
        raise ValueError(f"parts disagree in which order these players move: {players}") from error
