"""Checkpoints: complete or not there, and never a pickle."""

import json
from pathlib import Path

import pytest
import torch

from genkit import CheckpointError
from genkit.engine import checkpoint as module
from genkit.engine.checkpoint import (
    Checkpoint,
    checkpoint_exists,
    copy_checkpoint,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)


def made(value):
    return Checkpoint({"w": torch.full((2,), float(value))}, {"s": torch.tensor(value)}, {"number": value})


def test_round_trip_keeps_every_bit(tmp_path):
    tied = torch.randn(3)
    given = Checkpoint({"a": tied, "b": tied, "c": torch.randn(2, 2).T}, {"x": torch.arange(3)}, {"pi": 0.1 + 0.2})
    write_checkpoint(tmp_path / "last", given)
    back = read_checkpoint(tmp_path / "last")
    assert all(torch.equal(back.weights[k], given.weights[k]) for k in given.weights)
    assert torch.equal(back.state["x"], torch.arange(3))
    assert back.facts["pi"] == 0.1 + 0.2


def test_second_takes_the_place_of_the_first(tmp_path):
    for value in (1, 2):
        write_checkpoint(tmp_path / "last", made(value))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_full_disk_leaves_the_previous_one(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "last", made(1))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device; the previous one stands"):
        write_checkpoint(tmp_path / "last", made(2))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_death_between_the_two_renames_is_survived(tmp_path):
    write_checkpoint(tmp_path / "last", made(1))
    (tmp_path / "last").rename(tmp_path / "last.previous")
    assert read_checkpoint(tmp_path / "last").facts["number"] == 1
    write_checkpoint(tmp_path / "last", made(2))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 2


def test_second_death_between_the_renames_is_survived_too(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "last", made(1))
    (tmp_path / "last").rename(tmp_path / "last.previous")
    rename = Path.rename

    def die(self, target):
        if self.name == "last.new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "last", made(2))
    assert checkpoint_exists(tmp_path / "last")
    assert read_checkpoint(tmp_path / "last").facts["number"] == 1


def test_copy_is_untouched_by_the_next_write(tmp_path):
    write_checkpoint(tmp_path / "last", made(1))
    copy_checkpoint(tmp_path / "last", tmp_path / "best")
    write_checkpoint(tmp_path / "last", made(2))
    assert read_checkpoint(tmp_path / "best").facts["number"] == 1


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncate", "remove", "overwrite"])
def test_damage_is_told(tmp_path, name, damage):
    write_checkpoint(tmp_path / "last", made(1))
    path = tmp_path / "last" / name
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:10] if damage == "truncate" else b"\x80\x04}.")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "last")


def test_missing_and_foreign_formats_are_told(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "last")
    write_checkpoint(tmp_path / "last", made(1))
    (tmp_path / "last" / "state.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        read_checkpoint(tmp_path / "last")


def test_foreign_weights_are_told():
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_weights(torch.nn.Linear(2, 2), {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "this network")
