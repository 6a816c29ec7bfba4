"""Times loops in turn, in one process."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from genkit.bench.clock import engine_shares, time_of
from genkit.bench.conventional import Conventional
from genkit.bench.loops import Engine, Floor, Loop, started
from genkit.bench.report import CONVENTIONAL, ENGINE, FLOOR, Bench
from genkit.engine.assembly import Assembly
from genkit.engine.device import choose_device, matmul_precision
from genkit.engine.folder import device_name
from genkit.errors import UsageError, closest
from genkit.recipe import load_recipe

try:
    import resource
except ImportError:  # Windows
    resource = None

AGAINST = (FLOOR, CONVENTIONAL)
WARM_UP = 20
"""Steps that each loop takes before its times count; fewer if a round has fewer."""


def bench(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    steps: int = 50,
    rounds: int = 12,
    against: Sequence[str] = AGAINST,
    workers: int = 0,
    device: str = "auto",
    watch: Callable[[int], None] = lambda over: None,
) -> Bench:
    """Times the engine's training loop beside others that do the same work.

    Each loop trains a model of its own from the same seed, in rounds that alternate. Training is real, and nothing
    of it is kept.

    Args:
        recipe: A file, or a mapping with the same keys.
        overrides: ``key.path=value`` assignments.
        steps: Steps in a round. The engine reads its figures whenever it is stopped: a few steps count against it.
        rounds: How often each loop is timed, after a few steps to warm up.
        against: The other loops: ``loop``, the bare one, and ``dataloader``, the one that people write.
        workers: Processes of the conventional loop's data loader.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        watch: Told before each round how many are over.

    Raises:
        UsageError: The request cannot be served: see :class:`genkit.RecipeError` for the recipe.
        TrainingDiverged: The engine met a figure that is not finite.
    """
    _check(against, steps=(steps, 1), rounds=(rounds, 1), workers=(workers, 0))
    checked = load_recipe(recipe, [*overrides, "evaluate=null", "train.best=none"])
    where = choose_device(device)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    with (
        tempfile.TemporaryDirectory(prefix="genkit-bench-") as folder,
        matmul_precision(checked.train.precision),
    ):
        engine = Engine(started(checked, where), Path(folder))
        assembly = engine.trainer.assembly
        loops: dict[str, Loop] = {ENGINE: engine}
        if FLOOR in against and assembly.feeds["train"].resident is not None:
            loops[FLOOR] = Floor(started(checked, where))
        if CONVENTIONAL in against:
            loops[CONVENTIONAL] = Conventional(started(checked, where), workers)
        seconds = _alternate(loops, where, steps, rounds, watch)
        shares = engine_shares(engine, where, steps)
    peak_bytes, peak_of = _peak_memory(where)
    return Bench(
        recipe=checked.to_plain(),
        device=_named(where),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        examples_per_step=_examples_per_step(assembly),
        is_image=assembly.parts.spec.is_image,
        steps=steps,
        workers=workers,
        seconds=seconds,
        shares=shares,
        peak_bytes=peak_bytes,
        peak_of=peak_of,
        notes=_notes(assembly, against),
    )


def _check(against: Sequence[str], **counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if value < least:
            raise UsageError(f"{name} is {value}: at least {least} is wanted")
    for name in against:
        if name not in AGAINST:
            raise UsageError(f"there is no loop {name!r} to compare with{closest(name, AGAINST)}")


def _alternate(
    loops: Mapping[str, Loop], device: torch.device, steps: int, rounds: int, watch: Callable[[int], None]
) -> dict[str, list[float]]:
    """What each round of each loop takes; who goes first in one round goes last in the next."""
    for loop in loops.values():
        loop.take(min(steps, WARM_UP))
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        watch(number)
        for name in list(loops)[:: -1 if number % 2 else 1]:
            seconds[name].append(time_of(loops[name], device, steps))
    return seconds


def _examples_per_step(assembly: Assembly) -> float:
    train, size = assembly.recipe.train, len(assembly.feeds["train"])
    used = size - size % train.batch_size if train.drop_last else size
    return used / assembly.steps_per_epoch


def _notes(assembly: Assembly, against: Sequence[str]) -> list[str]:
    """What is to be said of data that is streamed."""
    if assembly.feeds["train"].resident is not None:
        return []
    data, workers, notes = assembly.recipe.data.name, assembly.recipe.train.workers, []
    if FLOOR in against:
        notes.append(f"{data} is streamed, not resident: there is no bare loop, and ratios are to the engine")
    if workers:
        notes.append(f"the engine's {workers} workers (train.workers) read ahead between its rounds: make them long")
    return notes


def _named(device: torch.device) -> str:
    if device.type != "cpu":
        return device_name(device)
    return f"cpu ({platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def _peak_memory(device: torch.device) -> tuple[int | None, str]:
    """The most memory that was in use, and what memory that is."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "tensors on the device, of all loops together"
    if resource is None:
        return None, "not known on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "the whole process, with all loops and libraries"
