"""What no component may change behind its caller's back: torch's global settings, random states, tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from genkit.engine.seeds import random_states, seed_all
from genkit.isolation import TORCH

CPU = torch.device("cpu")
SEED, SEEDS = 771_234_000, 1000
"""The first of the checks' seeds and how many there are: another one was set by the component."""


@contextlib.contextmanager
def untouched(what: str) -> Iterator[None]:
    """Has torch's global settings stay as they are, and puts them back where they did not.

    A failure within is told as what it follows from: where gradients were turned off, none arrives.

    Raises:
        AssertionError: They did not; the message says which.
    """
    before = {setting.name: setting.read() for setting in TORCH}
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    changed = _put_back(before)
    if changed:
        raise AssertionError(
            f"{what} changes {' and '.join(changed)} and leaves it so; a component leaves global settings alone"
        ) from failure
    if failure is not None:
        raise failure


def _put_back(before: Mapping[str, Any]) -> list[str]:
    """Restores the settings; returns what had changed, in words."""
    now = {setting.name: setting.read() for setting in TORCH}
    changed = [setting.name for setting in TORCH if setting.put_back(before[setting.name])]
    return [f"{name} from {before[name]} to {now[name]}" for name in changed]


def seed(number: int = 0) -> None:
    """Seeds all global generators with one of the checks' own seeds."""
    seed_all(SEED + number)


@contextlib.contextmanager
def unseeded(what: str, number: int = 0) -> Iterator[None]:
    """Seeds all global generators, then has nobody else seed torch's.

    Raises:
        AssertionError: Somebody did.
    """
    seed(number)
    yield
    assert 0 <= torch.initial_seed() - SEED < SEEDS, (
        f"{what} seeds torch's global generator; a component draws from it and leaves seeding to its caller"
    )


@contextlib.contextmanager
def nothing_drawn(what: str) -> Iterator[None]:
    """Has the global generators stay where they are.

    Raises:
        AssertionError: Something was drawn, or they were seeded.
    """
    before = random_states(CPU)
    yield
    assert same_random_states(before), f"{what} draws random numbers (or seeds a global generator), where none may be"


def same_random_states(before: Mapping[str, Tensor]) -> bool:
    """Whether the global generators are where they were."""
    after = random_states(CPU)
    return all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


@contextlib.contextmanager
def unchanged(
    tensors: Mapping[str, Tensor], what: str, complaint: str = "the caller's tensor was changed"
) -> Iterator[None]:
    """Has tensors keep their values, a caller's above all.

    Raises:
        AssertionError: One was changed; the message names it.
    """
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    yield
    for name, tensor in tensors.items():
        assert equal(tensor, before[name]), f"{what}: {complaint}: {name}"


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same to the bit, not-a-numbers included."""
    alike = one.shape == other.shape and one.dtype == other.dtype and one.layout == other.layout
    return alike and torch.equal(_plain(one), _plain(other))


def _plain(tensor: Tensor) -> Tensor:
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.nan_to_num() if dense.is_floating_point() else dense
