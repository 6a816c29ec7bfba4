"""Where and in which arithmetic training happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from genkit.errors import UsageError
from genkit.recipe import recipe as recipe_module

Precision = recipe_module.Precision


def choose_device(name: str) -> torch.device:
    """The device that a name stands for; ``auto`` takes the fastest that is there.

    Raises:
        UsageError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r}: auto, cpu, cuda, cuda:1 or mps is wanted") from None
    there = {
        "cpu": device.index in (None, 0),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UsageError(f"device {name!r} is not there; this machine has: {', '.join(available())}")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # streams and recordings are of the current one where nothing is said
    return device


def available() -> list[str]:
    """The names of the devices that this machine has."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


@contextlib.contextmanager
def matmul_precision(precision: Precision) -> Iterator[None]:
    """Lets float32 matrix products and convolutions run on tensor cores (tf32), or not (fp32)."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # pyright: ignore[reportAttributeAccessIssue]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """The arithmetic of a loss: bfloat16 where it is safe, or what the weights have."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)  # pyright: ignore[reportReturnType]
    return contextlib.nullcontext()
