"""Checkpoints: a folder of safetensors and JSON, complete or not there at all. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genkit.engine.shards import part_like
from genkit.errors import CheckpointError

WEIGHTS, STATE, FACTS = "model.safetensors", "state.safetensors", "state.json"
FORMAT = 2


@dataclass
class Checkpoint:
    """What a run needs to go on, or a model to be used.

    Attributes:
        weights: The model's state dict, as it is judged and sampled.
        state: All other tensors: optimizers, the objective's networks, random states.
        facts: All that is no tensor: the recipe, the place in training, the best so far.
    """

    weights: Mapping[str, Tensor]
    state: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint beside the one that is there, then takes its place.

    Raises:
        CheckpointError: It cannot be written; the one that was there stands.
    """
    new = folder.with_name(f"{folder.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_file(_owned(checkpoint.weights), new / WEIGHTS)
        save_file(_owned(checkpoint.state), new / STATE)
        digests = {name: _digest(new / name) for name in (WEIGHTS, STATE)}
        facts = {"format": FORMAT, "sha256": digests, **checkpoint.facts}
        facts["sha256"] = {**digests, FACTS: _digest_of_facts(facts)}
        (new / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        for name in (WEIGHTS, STATE):  # safetensors lets nobody but the owner read them, whatever the umask says
            (new / name).chmod((new / FACTS).stat().st_mode)
        _settle(new, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        stands = "the previous one stands" if checkpoint_exists(folder) else "there is none yet"
        raise CheckpointError(f"checkpoint {folder} cannot be written: {error}; {stands}") from error


def copy_checkpoint(source: Path, target: Path) -> None:
    """Makes a checkpoint available under a second name, without a second copy on disk where that is possible.

    Raises:
        CheckpointError: It cannot be written.
    """
    new = target.with_name(f"{target.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(_whole(source), new, copy_function=_link_or_copy)
        _settle(new, target)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise CheckpointError(f"checkpoint {target} cannot be written: {error}") from error


def checkpoint_exists(folder: Path) -> bool:
    """Whether there is a checkpoint, also where the machine died while a new one took its place."""
    return folder.is_dir() or _previous(folder).is_dir()


def remove_checkpoint(folder: Path) -> None:
    """Removes a checkpoint, and what a death in the middle of writing it may have left."""
    for path in (folder, _previous(folder), folder.with_name(f"{folder.name}.new")):
        shutil.rmtree(path, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Removes what deaths in the middle of writing left among some checkpoints; what stands in for one stays."""
    for path in folder.glob("*.new"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob("*.previous"):
        if path.with_suffix("").is_dir():
            shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint and makes sure that it is what was written.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    facts, folder = read_facts(folder), _whole(folder)
    try:
        changed = [name for name in (WEIGHTS, STATE) if facts["sha256"].get(name) != _digest(folder / name)]
        if changed:
            raise ValueError(f"{' and '.join(changed)} is not what was written there")
        return Checkpoint(load_file(folder / WEIGHTS), load_file(folder / STATE), facts)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {error}") from error


def read_facts(folder: Path) -> Mapping[str, Any]:
    """Reads what is no tensor of a checkpoint, the weights being left where they are.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    folder = _whole(folder)
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise CheckpointError(f"checkpoint {folder} has format {facts.get('format')}, this genkit reads {FORMAT}")
        if facts["sha256"][FACTS] != _digest_of_facts(facts):
            raise ValueError(f"{FACTS} is not what was written there")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {error}") from error
    return facts


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Loads a state dict.

    Raises:
        CheckpointError: It belongs to another network; the message lists what differs.
    """
    own = module.state_dict()
    fitting = {k: part_like(v, own[k]) if k in own and v.shape == own[k].shape else v for k, v in weights.items()}
    try:
        module.load_state_dict(fitting, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint does not fit {what}: {error}") from error


def _owned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses tensors that share memory, as tied weights do."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_facts(facts: Mapping[str, Any]) -> str:
    """The digest of all facts, the tensors' digests included."""
    tensors = {name: digest for name, digest in facts["sha256"].items() if name != FACTS}
    return hashlib.sha256(json.dumps({**facts, "sha256": tensors}, sort_keys=True).encode()).hexdigest()


def _settle(new: Path, folder: Path) -> None:
    """Flushes a new folder to disk and renames it into place; a reader finds the old one or the new."""
    for path in [*new.iterdir(), new]:
        _flush(path)
    if folder.exists():  # otherwise the previous one may be all that there is
        shutil.rmtree(_previous(folder), ignore_errors=True)
        folder.rename(_previous(folder))
    new.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(_previous(folder), ignore_errors=True)


def _whole(folder: Path) -> Path:
    """The folder, or the one before it if the machine died between the two renames."""
    return _previous(folder) if not folder.exists() and _previous(folder).exists() else folder


def _previous(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.previous")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
