"""What the checks have in common."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genkit.component import Factory
from genkit.dataset import Batch, Dataset, DataSpec, HasEnergy, Split, SplitName, Views
from genkit.engine.assembly import SPLITS
from genkit.engine.feed import Feed
from genkit.engine.seeds import random_states
from genkit.errors import RecipeError
from genkit.model import GenerativeModel, lacking
from genkit.recipe.check import requirements, resolve
from genkit.registry import installed

CPU = torch.device("cpu")
SPECS = {
    "binary images": DataSpec((1, 12, 12), levels=2, num_classes=3, protocol="binarized at 0.5"),
    "8-bit colour images": DataSpec((3, 8, 10), levels=256),
    "vectors": DataSpec((2,)),
}


def factory(kind: str, node: str | Mapping[str, Any]) -> Factory[Any]:
    """Resolves an installed component as a recipe would.

    Args:
        kind: Its kind.
        node: Its name, or a mapping with ``use`` and its options.
    """
    return resolve(kind, node, installed())


def examples(kind: str, name: str) -> list[Factory[Any]]:
    """An installed component with the options of each of its own ``examples``."""
    component = installed().get(kind, name).load()
    return [factory(kind, {"use": name, **options}) for options in component.examples]


def refused(build: Callable[[], Any]) -> bool:
    """Whether a constructor refuses what it is given, as the contract says: with ``ValueError`` and a reason."""
    try:
        build()
    except (RecipeError, ValueError) as error:
        reason = str(error)
    else:
        return False
    assert reason, "a constructor that refuses must say what it serves"
    return True


def data_like(spec: DataSpec, size: int, seed: int = 0) -> Tensor:
    """Examples that fit a spec, with shape :math:`(N, *S)`."""
    generator = torch.Generator().manual_seed(seed)
    if spec.levels is None:
        return torch.randn(size, *spec.shape, generator=generator)
    return torch.randint(0, spec.levels, (size, *spec.shape), generator=generator).float() / (spec.levels - 1)


def batch_like(spec: DataSpec, size: int) -> Batch:
    """A batch that fits a spec."""
    labels = torch.arange(size) % spec.num_classes if spec.num_classes else None
    return Batch(data_like(spec, size), labels)


class MadeUp(Dataset):
    """Random data that fits a spec.

    Args:
        spec: What it looks like.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        self._spec = spec

    @property
    def spec(self) -> DataSpec:
        """As it was asked for."""
        return self._spec

    def split(self, name: SplitName) -> Split:
        """Two dozen examples, other ones for each split."""
        values = data_like(self.spec, 24, seed=len(name))
        labels = torch.arange(24) % self.spec.num_classes if self.spec.num_classes else None
        return Split(values, Tensor.float, labels)


class MadeUpNormal(MadeUp, HasEnergy):
    """The same for continuous data, which is drawn from a standard normal."""

    def energy(self, x: Tensor) -> Tensor:
        """Minus its log-density."""
        return 0.5 * (x.square().flatten(1).sum(1) + self.spec.num_dims * math.log(2 * math.pi))

    @property
    def log_partition(self) -> float:
        """It is normalized."""
        return 0.0

    @property
    def entropy(self) -> float:
        """In closed form."""
        return 0.5 * self.spec.num_dims * math.log(2 * math.pi * math.e)


def made_up(spec: DataSpec) -> MadeUp:
    """A dataset that fits a spec; one with an energy where there can be one."""
    return MadeUpNormal(spec) if spec.levels is None else MadeUp(spec)


def views_for(model: GenerativeModel) -> Views:
    """Made-up splits that fit a model."""
    dataset = made_up(model.spec)
    return {split: Feed(dataset.split(split), CPU) for split in SPLITS}


def models_for(asker: Factory[Any]) -> Iterator[tuple[str, GenerativeModel]]:
    """A small instance of every installed model with what a component requires, on every spec that it serves."""
    for registration in installed().components("model"):
        if lacking(registration.load(), requirements(asker)):
            continue
        for build, (name, spec) in itertools.product(examples("model", registration.name), SPECS.items()):
            made = small_model(build, spec)
            if made is not None and not lacking(made, requirements(asker)):  # options may withhold what the class has
                yield f"{build} on {name}", made


def small_model(build: Factory[Any], spec: DataSpec) -> GenerativeModel | None:
    """A model for a spec, a little way from its start, where gradients may vanish; ``None`` if it refuses it."""
    torch.manual_seed(0)
    if refused(lambda: build(spec)):
        return None
    model = build(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def same_random_states(before: Mapping[str, Tensor]) -> bool:
    """Whether the global generators are where they were."""
    after = random_states(CPU)
    return all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


def check_gradients(
    module: nn.Module, parameters: Iterable[nn.Parameter], what: str, *, each_moves: bool = True
) -> None:
    """Every parameter has a finite gradient, and each of them, or at least one, a gradient that is not zero."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    moves: list[bool] = []
    for parameter in parameters:
        name = names.get(id(parameter), "a parameter")
        assert parameter.grad is not None, f"{what}: no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"{what}: the gradient of {name} is not finite"
        moves.append(bool(parameter.grad.abs().sum() > 0))
        assert moves[-1] or not each_moves, f"{what}: the gradient of {name} is zero"
    assert any(moves), f"{what}: all gradients are zero"


def check_state_round_trip(module: nn.Module, rebuild: Callable[[], nn.Module], what: str) -> None:
    """A second instance takes the state of the first, and the state is tensors only."""
    state = module.state_dict()
    for name, value in state.items():
        assert isinstance(value, Tensor), f"{what}: {name} in the state dict is no tensor, so no checkpoint can hold it"
    other = rebuild()
    other.load_state_dict(state, strict=True)
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]), f"{what}: {name} does not survive a state dict"
    copy.deepcopy(module)
