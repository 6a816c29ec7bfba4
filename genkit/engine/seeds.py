"""Random numbers: one seed, one stream for each purpose, and states that can be kept and put back."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

States = Mapping[str, Tensor]


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, independent of the seeds of all others.

    Example:
        >>> derive_seed(42, "order", 1) != derive_seed(42, "order", 2)
        True
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seeds every global generator that a component may draw from: torch's on all devices, NumPy's, Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the global generators."""
    return {**_torch_states(device), "numpy": _numpy_state(), "python": _python_state()}


def restore_random_states(states: States, device: torch.device) -> None:
    """Puts back what :func:`random_states` returned."""
    _restore_torch_states(states, device)
    *keys, position, has_gauss, gauss = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), int(position), int(has_gauss), gauss))
    *words, gauss = states["python"].tolist()
    random.setstate((3, tuple(int(word) for word in words), None if math.isnan(gauss) else gauss))


@contextlib.contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Puts the global generators back as they were, whoever draws from them meanwhile."""
    numpy, python = np.random.get_state(), random.getstate()
    tensors = _torch_states(device)
    try:
        yield
    finally:
        _restore_torch_states(tensors, device)
        np.random.set_state(numpy)
        random.setstate(python)


@contextlib.contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the global generators for a while and puts them back as they were."""
    with preserved(device):
        seed_all(seed)
        yield


def _torch_states(device: torch.device) -> dict[str, Tensor]:
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_torch_states(states: States, device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _numpy_state() -> Tensor:
    state: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, gauss = state
    return torch.tensor([*keys.tolist(), position, has_gauss, gauss], dtype=torch.float64)


def _python_state() -> Tensor:
    _, words, gauss = random.getstate()
    return torch.tensor([*words, math.nan if gauss is None else gauss], dtype=torch.float64)
