"""Checkpoints: complete or not there, and never a pickle."""

import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import toy

from genkit import CheckpointError
from genkit.engine import Trainer, assemble
from genkit.engine import checkpoint as module
from genkit.engine.checkpoint import (
    Checkpoint,
    checkpoint_exists,
    copy_checkpoint,
    load_weights,
    read_checkpoint,
    read_facts,
    remove_checkpoint,
    write_checkpoint,
)
from genkit.engine.folder import RunFolder
from genkit.recipe import load_recipe
from genkit.registry import load_registry

FILES = ["model.safetensors", "state.json", "state.safetensors"]


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


def test_colleagues_may_read_what_the_umask_lets_them(tmp_path):
    umask = os.umask(0o027)
    try:
        write_checkpoint(tmp_path / "last", made(1))
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "last").iterdir()} == {0o640}


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


@pytest.mark.parametrize("name", FILES)
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


# ---- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path, name):
    write_checkpoint(tmp_path / "last", Checkpoint({"w": torch.rand(2)}, {"s": torch.rand(1)}, {"position": 3}))
    path = tmp_path / "last" / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        path.write_bytes(bytes(broken))
        with pytest.raises(CheckpointError, match=r"is damaged: |has format") as caught:
            read_checkpoint(tmp_path / "last")
        if name != "state.json":
            assert str(caught.value).endswith(f"last is damaged: {name} is not what was written there")
    path.write_bytes(whole)
    read_checkpoint(tmp_path / "last")


def write_json(path, change):
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts, indent=2))


CHANGES = {
    "a number": lambda facts: facts["position"].update(epoch=4),
    "a number's type": lambda facts: facts["position"].update(epoch=3.0),
    "a figure's last digit": lambda facts: facts.update(figure=0.3000000000000001),
    "one key less": lambda facts: facts.pop("figure"),
    "one key more": lambda facts: facts.update(averaging=True),
    "an item's place": lambda facts: facts["order"].reverse(),
    "no digest of the weights": lambda facts: facts["sha256"].pop("model.safetensors"),
    "another's digest": lambda facts: facts["sha256"].update({FILES[0]: facts["sha256"][FILES[2]]}),
    "a stranger's digest": lambda facts: facts["sha256"].update(other="00"),
}
WITHOUT_DIGESTS = {
    "none of its own": lambda facts: facts["sha256"].pop("state.json"),
    "none at all": lambda facts: facts.pop("sha256"),
    "nothing": lambda facts: facts.update(sha256=None),
    "a list": lambda facts: facts.update(sha256=[]),
}


def edited(folder, change):
    facts = {"position": {"epoch": 3}, "figure": 0.1 + 0.2, "order": [1, 2]}
    write_checkpoint(folder, Checkpoint({"w": torch.zeros(2)}, {}, facts))
    write_json(folder / "state.json", change)
    return folder


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("read", [read_facts, read_checkpoint])
def test_facts_that_were_edited_are_refused(tmp_path, read, change):
    with pytest.raises(CheckpointError, match=r"last is damaged: state.json is not what was written there$"):
        read(edited(tmp_path / "last", change))


@pytest.mark.parametrize("change", WITHOUT_DIGESTS.values(), ids=WITHOUT_DIGESTS)
def test_facts_without_digests_are_refused(tmp_path, change):
    with pytest.raises(CheckpointError, match=r"last is damaged: "):
        read_facts(edited(tmp_path / "last", change))


def test_facts_in_another_layout_are_the_same(tmp_path):
    write_checkpoint(tmp_path / "last", made(1))
    path = tmp_path / "last" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 1


def test_tensors_of_another_checkpoint_are_refused(tmp_path):
    """Each file is whole, but they do not belong together: what a copy that was cut off leaves."""
    for value in (1, 2):
        write_checkpoint(tmp_path / str(value), made(value))
    for name in ("model.safetensors", "state.safetensors"):
        shutil.copy(tmp_path / "1" / name, tmp_path / "2" / name)
    with pytest.raises(CheckpointError, match=r"damaged: model.safetensors and state.safetensors is not what was"):
        read_checkpoint(tmp_path / "2")


class Opens:
    """What a pickle would do if anybody loaded it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(tmp_path, monkeypatch):
    """Not even where the digests are those of the pickle."""
    folder, trap = tmp_path / "last", tmp_path / "opened"
    write_checkpoint(folder, made(1))
    (folder / "model.safetensors").write_bytes(pickle.dumps(Opens(trap)))

    def sign(facts):
        facts["sha256"]["model.safetensors"] = module._digest(folder / "model.safetensors")
        facts["sha256"]["state.json"] = module._digest_of_facts(facts)

    write_json(folder / "state.json", sign)
    assert read_facts(folder)["number"] == 1
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(folder)
    assert not trap.exists()

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(owner, name, refuse)
    write_checkpoint(folder, made(2))
    assert read_checkpoint(folder).facts["number"] == 2
    assert sorted(path.name for path in folder.iterdir()) == FILES


# ---- full disks --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_larger_than(size):
    """What a full disk does: the system refuses to write on. Python ignores the signal that comes with it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large(value):
    """Three files of 4, 8 and more than 16 kB."""
    facts = {"number": value, "words": ["padding"] * 2000}
    return Checkpoint({"w": torch.full((1000,), float(value))}, {"s": torch.zeros(2000)}, facts)


@pytest.mark.parametrize("size", [0, 2000, 6000, 12000], ids=["nothing", "weights", "state", "facts"])
def test_a_disk_that_is_full_at_any_file_leaves_the_previous_one(tmp_path, size):
    write_checkpoint(tmp_path / "last", large(1))
    with no_file_larger_than(size), pytest.raises(CheckpointError, match=r"File too large.*; the previous one stands$"):
        write_checkpoint(tmp_path / "last", large(2))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    write_checkpoint(tmp_path / "last", large(3))
    assert read_checkpoint(tmp_path / "last").facts["number"] == 3


def test_a_disk_that_was_always_full(tmp_path):
    with no_file_larger_than(2000), pytest.raises(CheckpointError, match=r"cannot be written: .*; there is none yet$"):
        write_checkpoint(tmp_path / "last", large(1))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_without_links_on_a_full_disk_leaves_the_previous_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(1, "no links here")))
    for value, name in ((1, "best"), (2, "last")):
        write_checkpoint(tmp_path / name, large(value))
    with no_file_larger_than(2000), pytest.raises(CheckpointError, match=r"best cannot be written: .*File too large"):
        copy_checkpoint(tmp_path / "last", tmp_path / "best")
    assert read_checkpoint(tmp_path / "best").facts["number"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last"]
    copy_checkpoint(tmp_path / "last", tmp_path / "best")
    assert read_checkpoint(tmp_path / "best").facts["number"] == 2
    assert not (tmp_path / "best" / FILES[0]).samefile(tmp_path / "last" / FILES[0])


def test_everything_is_on_disk_before_the_name_is_taken(tmp_path, monkeypatch):
    """Files and their folder are flushed before the rename, the folder above after it."""
    seen, flush, rename = [], module._flush, Path.rename
    monkeypatch.setattr(module, "_flush", lambda path: seen.append(f"flush {path.name}") or flush(path))
    monkeypatch.setattr(Path, "rename", lambda self, to: seen.append(f"rename {self.name}") or rename(self, to))
    write_checkpoint(tmp_path / "last", made(1))
    assert sorted(seen[:4]) == ["flush last.new", *(f"flush {name}" for name in FILES)]
    assert seen[3:] == ["flush last.new", "rename last.new", f"flush {tmp_path.name}"]


def test_removal_takes_everything_of_that_name(tmp_path):
    write_checkpoint(tmp_path / "epoch-0001", made(1))
    for name in ("epoch-0001.new", "epoch-0001.previous", "epoch-0002"):
        shutil.copytree(tmp_path / "epoch-0001", tmp_path / name)
    remove_checkpoint(tmp_path / "epoch-0001")
    assert not checkpoint_exists(tmp_path / "epoch-0001")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002"]


# ---- what does not fit -------------------------------------------------------------------------------------------


def trainer_of(folder, *overrides):
    recipe = load_recipe(toy.RECIPE, ["train.epochs=1", *overrides], toy.registry())
    return Trainer(assemble(recipe, torch.device("cpu")), RunFolder(folder), load_registry([]).manager)


def taken_from(folder):
    trainer_of(folder).run()
    return read_checkpoint(RunFolder(folder).last)


def test_another_shape_and_another_architecture_are_named(tmp_path):
    taken = taken_from(tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=r"does not fit this recipe's model: (?s:.*)network\.linear\.weight"
    ) as no:
        trainer_of(tmp_path / "wider", "data.dims=6").restore(taken)
    assert "[8, 8]" in str(no.value)
    assert "[6, 6]" in str(no.value)
    with pytest.raises(CheckpointError, match=r'Unexpected key\(s\) in state_dict: "network.linear.bias"'):
        trainer_of(tmp_path / "plain", "model.network.bias=false").restore(taken)
    fewer = {name: value for name, value in taken.weights.items() if name != "output.linear.bias"}
    with pytest.raises(CheckpointError, match=r'Missing key\(s\) in state_dict: "output.linear.bias"'):
        trainer_of(tmp_path / "again").restore(Checkpoint(fewer, taken.state, taken.facts))


def test_the_objectives_networks_must_fit_too(tmp_path):
    taken = taken_from(tmp_path / "run")
    state = {**taken.state, "objective.scale": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"does not fit this recipe's objective: (?s:.*)size mismatch for scale"):
        trainer_of(tmp_path / "run").restore(Checkpoint(taken.weights, state, taken.facts))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer.model.0.momentum_buffer", torch.zeros(8, 7), "'momentum_buffer' of parameter 0 does not fit"),
        ("optimizer.model.3.momentum_buffer", torch.zeros(4), "'momentum_buffer' of parameter 3 does not fit"),
        ("optimizer.model.4.momentum_buffer", torch.zeros(8), "'momentum_buffer' of parameter 4 does not fit"),
    ],
    ids=["another matrix", "another vector", "one parameter more"],
)
def test_an_optimizers_state_must_fit_too(tmp_path, name, value, message):
    taken = taken_from(tmp_path / "run")
    with pytest.raises(CheckpointError, match=message):
        trainer_of(tmp_path / "run").restore(Checkpoint(taken.weights, {**taken.state, name: value}, taken.facts))
