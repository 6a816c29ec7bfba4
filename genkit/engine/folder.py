"""A run's folder: what is in it and where."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from genkit.engine.checkpoint import checkpoint_exists
from genkit.errors import UsageError
from genkit.recipe import Recipe
from genkit.recipe.source import write
from genkit.registry import Registry

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

    def create(self, recipe: Recipe, environment: Mapping[str, Any]) -> None:
        """Makes the folder with what is known before training.

        Raises:
            UsageError: It exists or cannot be written.
        """
        self.check_free()
        try:
            self.checkpoints.mkdir(parents=True)
            self.recipe.write_text(recipe_text(recipe), encoding="utf-8")
            self.environment.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise UsageError(f"{self.path} cannot be written: {error}") from error

    def check_free(self) -> None:
        """Raises ``UsageError`` before anything is built if the name is taken."""
        if self.path.exists():
            resume = f"continue it with genkit run --resume {self.path}"
            here = resume if checkpoint_exists(self.last) else "remove it: it holds no checkpoint to go on from"
            raise UsageError(f"{self.path} exists: give the run another --name, or {here}")

    def check_run(self) -> None:
        """Raises ``UsageError`` if this is no run's folder."""
        if not self.recipe.is_file():
            runs = sorted(entry.name for entry in self.path.parent.glob("*") if (entry / "recipe.yaml").is_file())
            beside = f"; runs beside it: {', '.join(runs)}" if runs else ""
            raise UsageError(f"{self.path} is no run: it has no recipe.yaml{beside}")


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as YAML, which runs again as it is."""
    return write(recipe.to_plain())


def describe_environment(recipe: Recipe, device: torch.device, registry: Registry) -> dict[str, Any]:
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
