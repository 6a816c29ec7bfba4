"""What no component may change behind its caller's back: torch's global settings, random states, tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from genkit.engine.seeds import random_states, seed_all

CPU = torch.device("cpu")
SEED, SEEDS = 771_234_000, 1000
"""The first of the checks' seeds and how many there are: another one was set by the component."""

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device == CPU else device)


def _set_cudnn_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


SETTINGS: Mapping[str, Setting] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, _set_default_device),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cudnn benchmark": (lambda: torch.backends.cudnn.benchmark, _set_cudnn_benchmark),
}
"""Torch's global settings, each with what reads and what writes it."""


@contextlib.contextmanager
def untouched(what: str) -> Iterator[None]:
    """Has torch's global settings stay as they are, and puts them back where they did not.

    A failure within is told as what it follows from: where gradients were turned off, none arrives.

    Raises:
        AssertionError: They did not; the message says which.
    """
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    changed = _put_back(before)
    if changed:
        raise AssertionError(
            f"{what} changes torch's {' and '.join(changed)} and leaves it so; a component leaves global settings alone"
        ) from failure
    if failure is not None:
        raise failure


def _put_back(before: Mapping[str, Any]) -> list[str]:
    """Restores the settings; returns what had changed, in words."""
    changed: list[str] = []
    for name, (read, write) in SETTINGS.items():
        now = read()
        if now != before[name]:
            write(before[name])
            changed.append(f"{name} from {before[name]} to {now}")
    return changed


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
