"""A run's folder: what is in it and where."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

from genkit.engine.checkpoint import checkpoint_exists
from genkit.errors import UsageError
from genkit.events import Record, RunEnd
from genkit.recipe import Recipe
from genkit.recipe.source import write
from genkit.registry import Registry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LAUNCH = "TORCHELASTIC_RUN_ID"
"""What torch's launcher calls a launch, restarts of its processes included."""

LOCKS: set[IO[str]] = set()
"""The locks of the folders that this process trains in."""

DISTRIBUTIONS = ("torchvision", "numpy", "safetensors", "pydantic", "pluggy")


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.images = path / "images"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.best = self.checkpoints / "best"
        self.evaluations = path / "evaluations"
        self.time = path / "time.json"
        self.result = path / "result.json"

    def epoch(self, epoch: int) -> Path:
        """The checkpoint that is kept of an epoch."""
        return self.checkpoints / f"epoch-{epoch:04d}"

    def epochs(self) -> list[int]:
        """The epochs whose checkpoints are kept under their own names, in order."""
        names = (re.fullmatch(r"epoch-(\d+)", path.name) for path in self.checkpoints.glob("epoch-*"))
        return sorted(int(match[1]) for match in names if match)

    def kept(self) -> list[str]:
        """The names of all checkpoints, the best and the last before those of epochs."""
        paths = (self.best, self.last, *map(self.epoch, self.epochs()))
        return [path.name for path in paths if checkpoint_exists(path)]

    def create(self, recipe: Recipe, environment: Mapping[str, Any]) -> None:
        """Makes the folder with what is known before training, all of it or nothing.

        Raises:
            UsageError: It exists or cannot be written.
        """
        self.check_free()
        new = RunFolder(self.path.with_name(f".{self.path.name}.{os.getpid()}.new"))
        try:
            new.checkpoints.mkdir(parents=True)
            new.recipe.write_text(recipe_text(recipe), encoding="utf-8")
            new.environment.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
            new.path.rename(self.path)
        except OSError as error:
            shutil.rmtree(new.path, ignore_errors=True)
            raise UsageError(f"{self.path} cannot be written: {error}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process from training in this folder; the system lets go when this one dies.

        Raises:
            UsageError: Another process trains in it.
        """
        try:
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error}") from error
        with file:
            if not lock(file):
                raise UsageError(f"{self.path} is being trained by another process")
            LOCKS.add(file)
            try:
                yield
            finally:
                LOCKS.discard(file)

    def is_of_this_launch(self) -> bool:
        """Whether the launcher that started this process also started the one that made the folder."""
        try:
            made_by = json.loads(self.environment.read_text(encoding="utf-8")).get("launch")
        except (OSError, ValueError, AttributeError):
            return False
        return made_by == os.environ.get(LAUNCH)

    def note_resumption(self, step: int, environment: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
        """Adds to what the run's figures depend on; returns in words what is not as it was.

        Args:
            step: Where it goes on.
            environment: What is there now.
            changes: What the recipe says now, where it says something else, by key.

        Raises:
            UsageError: It cannot be written.
        """
        try:
            began = json.loads(self.environment.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            began = {}
        before, now = _versions(began), _versions(environment)
        different = {
            key: (before.get(key), now.get(key)) for key in {**before, **now} if before.get(key) != now.get(key)
        }
        note = {"step": step, "recipe": dict(changes), "environment": {key: now.get(key) for key in different}}
        began.setdefault("resumed", []).append(note)
        replace_text(self.environment, json.dumps(began, indent=2) + "\n")
        return [f"{key} was {old}, is {new}" for key, (old, new) in different.items()]

    def write_result(self, end: RunEnd, time: Mapping[str, Any]) -> None:
        """Notes that the run is finished, and its final figures.

        Args:
            end: How it ended; its seconds are those of the last session.
            time: Seconds of all sessions, and whether there were more that nobody knows of.

        Raises:
            UsageError: It cannot be written.
        """
        figures = [asdict(record) for record in end.records]
        result = {"status": end.status, "seconds": end.seconds, "time": dict(time), "figures": figures}
        replace_text(self.result, json.dumps(result, indent=2) + "\n")

    def read_result(self) -> RunEnd | None:
        """How the run ended, if it is finished."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
            figures = [Record(**record) for record in result["figures"]]
            return RunEnd("finished", self.path, figures, result["seconds"], f"{self.path} is finished already")
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def check_free(self) -> None:
        """Raises ``UsageError`` before anything is built if the name is taken."""
        if self.path.exists():
            resume = f"continue it with genkit run --resume {self.path}"
            here = resume if self.recipe.is_file() else "remove it: it holds no run"
            raise UsageError(f"{self.path} exists: give the run another --name, or {here}")

    def check_run(self) -> None:
        """Raises ``UsageError`` if this is no run's folder."""
        if not self.recipe.is_file():
            runs = sorted(entry.name for entry in self.path.parent.glob("*") if (entry / "recipe.yaml").is_file())
            beside = f"; runs beside it: {', '.join(runs)}" if runs else ""
            raise UsageError(f"{self.path} is no run: it has no recipe.yaml{beside}")


def replace_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
        UsageError: It cannot be written; what was there stands.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}") from error


def read_json(path: Path) -> Mapping[str, Any]:
    """A file's mapping; an empty one where it is missing, cut off or none."""
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            return values
    return {}


def disk_usage(folder: Path) -> int:
    """Bytes in all files below a folder; those that have several names count once."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({stat.st_ino: stat.st_size for stat in files}.values())


def lock(file: IO[str]) -> bool:
    """Locks a file until it is closed; returns whether nobody else holds it.

    Where the system has no such locks, nobody does.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # some network file systems know no locks
    return True


def _leave_locks() -> None:
    """A forked process has no part in its parent's locks, which it would else hold beyond the parent's death."""
    for file in LOCKS:
        file.close()
    LOCKS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


def _versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What may change the digits of a figure: versions, the device, the number of threads."""
    plain = {key: environment.get(key) for key in ("genkit", "python", "device", "threads", "processes")}
    plugins = {f"plugin {name}": version for name, version in environment.get("plugins", {}).items()}
    return {**plain, **environment.get("packages", {}), **plugins}


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as YAML, which runs again as it is."""
    return write(recipe.to_plain())


def describe_environment(
    recipe: Recipe, device: torch.device, registry: Registry, processes: int = 1
) -> dict[str, Any]:
    """What a run's figures depend on beside its recipe."""
    return {
        "genkit": metadata.version("genkit-torch"),
        "plugins": {
            plugin.name: f"{plugin.distribution} {plugin.version}" for plugin in registry.plugins if not plugin.error
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in DISTRIBUTIONS} | {"torch": torch.__version__},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "launch": os.environ.get(LAUNCH),
        "seed": recipe.seed,
        "git": _git_state(),
    }


def device_name(device: torch.device) -> str:
    """A device with its model name, where it has one."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; ``None`` outside a repository."""
    commit = _git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
