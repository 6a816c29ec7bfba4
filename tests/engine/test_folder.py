"""A run's folder: made whole, locked, and its notes replaced whole."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import toy

import genkit
from genkit import Record, RunEnd, UsageError
from genkit.engine.checkpoint import Checkpoint, write_checkpoint
from genkit.engine.folder import RunFolder, describe_environment, disk_usage, recipe_text, replace_text
from genkit.recipe import load_recipe

CPU = torch.device("cpu")


@pytest.fixture
def recipe():
    """A recipe of toys."""
    return load_recipe(toy.RECIPE, (), toy.registry())


@pytest.fixture
def folder(tmp_path, recipe):
    """A run's folder as it is before training."""
    made = RunFolder(tmp_path / "run")
    made.create(recipe, describe_environment(recipe, CPU, toy.registry()))
    return made


def refuse(*args, **options):
    raise OSError(28, "No space left on device")


# ---- making it ---------------------------------------------------------------------------------------------------


def test_a_new_folder_has_all_that_is_known(folder, recipe):
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "environment.json", "recipe.yaml"]
    assert folder.recipe.read_text() == recipe_text(recipe)
    assert json.loads(folder.environment.read_text())["seed"] == 3
    assert [path.name for path in folder.path.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["write_text", "rename", "mkdir"])
def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path, recipe, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(Path, name, refuse)
        with pytest.raises(UsageError, match=r"run cannot be written: .*No space left on device"):
            RunFolder(tmp_path / "run").create(recipe, {})
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_left_as_it_is(folder, recipe):
    before = folder.environment.read_text()
    with pytest.raises(UsageError, match="exists: give the run another --name, or continue it with"):
        folder.create(recipe, {})
    assert folder.environment.read_text() == before


# ---- the lock ----------------------------------------------------------------------------------------------------

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_that_trains_is_in_the_way_until_it_dies(folder):
    pytest.importorskip("fcntl")
    words = [sys.executable, "-S", "-c", HOLD, str(folder.path / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=r"run is being trained by another process$"), folder.locked():
            raise AssertionError("two at a time")
        other.kill()
        other.wait()
        with folder.locked():
            pass


def test_the_lock_is_held_inside_and_free_afterwards(folder):
    pytest.importorskip("fcntl")
    with folder.locked(), pytest.raises(UsageError, match="by another process"), RunFolder(folder.path).locked():
        raise AssertionError("two at a time")
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError
    with folder.locked():
        pass


def test_a_file_system_without_locks_is_no_obstacle(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unknown(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with folder.locked():
        pass


def test_a_lock_that_cannot_be_opened_is_an_error_of_ours(folder):
    (folder.path / ".lock").mkdir()
    with pytest.raises(genkit.GenkitError, match="cannot be written"), folder.locked():
        raise AssertionError("not locked")


def test_a_killed_runs_children_are_not_in_the_way(folder):
    """Such as the workers that read its data, which take some seconds to notice."""
    pytest.importorskip("fcntl")
    reader, writer = os.pipe()
    with folder.locked():
        worker = forked(reader, writer)
    try:
        with folder.locked():
            pass
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(worker, 0)


def test_the_lock_outlives_whoever_reads_the_folder(folder, tmp_path):
    """Such as an observer that uploads or copies all that is there."""
    pytest.importorskip("fcntl")
    with folder.locked():
        shutil.copytree(folder.path, tmp_path / "copy")
        words = [sys.executable, "-S", "-c", HOLD.replace("LOCK_EX", "LOCK_EX | fcntl.LOCK_NB")]
        done = subprocess.run([*words, str(folder.path / ".lock")], stdin=subprocess.DEVNULL, capture_output=True)
    assert b"BlockingIOError" in done.stderr


def forked(reader, writer):
    """A forked process that does nothing, once it is there, until the pipe is closed."""
    up, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: they have no part in this
        number = os.fork()
    if not number:
        os.close(writer)
        os.write(there, b"!")
        os.read(reader, 1)
        os._exit(0)
    os.read(up, 1)
    os.close(up)
    os.close(there)
    return number


# ---- notes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["write_text", "replace"])
def test_a_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, name):
    path = tmp_path / "note.json"
    replace_text(path, "one")
    with monkeypatch.context() as patch:
        patch.setattr(Path, name, refuse)
        with pytest.raises(UsageError, match=r"note.json cannot be written: .*No space"):
            replace_text(path, "two")
    assert path.read_text() == "one"
    replace_text(path, "two")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("note.json", "two")]


def test_resumptions_are_noted_one_after_another(folder, recipe):
    before = json.loads(folder.environment.read_text())
    now = describe_environment(recipe, CPU, toy.registry())
    assert folder.note_resumption(6, now, {}) == []
    other = {**now, "threads": 64, "packages": {**now["packages"], "torch": "9.9"}, "plugins": {"toys": "toy 1"}}
    assert folder.note_resumption(9, other, {"train.epochs": 4}) == [
        f"threads was {now['threads']}, is 64",
        f"torch was {torch.__version__}, is 9.9",
        "plugin toys was None, is toy 1",
    ]
    after = json.loads(folder.environment.read_text())
    assert after.pop("resumed") == [
        {"step": 6, "recipe": {}, "environment": {}},
        {
            "step": 9,
            "recipe": {"train.epochs": 4},
            "environment": {"threads": 64, "torch": "9.9", "plugin toys": "toy 1"},
        },
    ]
    assert after == before


@pytest.mark.parametrize("text", ["", "{", None], ids=["empty", "cut off", "gone"])
def test_an_environment_that_is_lost_is_no_obstacle(folder, recipe, text):
    folder.environment.unlink() if text is None else folder.environment.write_text(text)
    now = describe_environment(recipe, CPU, toy.registry())
    assert f"torch was None, is {torch.__version__}" in folder.note_resumption(6, now, {})
    assert len(json.loads(folder.environment.read_text())["resumed"]) == 1


def test_a_result_is_read_as_it_was_written(folder):
    assert folder.read_result() is None
    records = [Record(6, 2, "test", "cost", 0.1 + 0.2, "nats", "exact", "lower", 0.0), Record(6, 2, "", "count", 3)]
    folder.write_result(RunEnd("finished", folder.path, records, 1.5), {"seconds": 4.5, "at_least": False})
    end = folder.read_result()
    assert (end.status, end.folder, list(end.records), end.seconds) == ("finished", folder.path, records, 1.5)
    assert end.message == f"{folder.path} is finished already"
    assert json.loads(folder.result.read_text())["time"] == {"seconds": 4.5, "at_least": False}
    folder.result.write_text(folder.result.read_text()[:30])
    assert folder.read_result() is None


# ---- what is there -----------------------------------------------------------------------------------------------


def test_kept_checkpoints_are_named_in_order(folder):
    names = ["last", "epoch-0002", "epoch-0010", "epoch-12345", "best"]
    for name in names:
        write_checkpoint(folder.checkpoints / name, Checkpoint({"w": torch.zeros(1)}))
    for name in ("epoch-0003.new", "epoch-0004.previous", "epoch-final", "mine"):
        (folder.checkpoints / name).mkdir()
    (folder.checkpoints / "best").rename(folder.checkpoints / "best.previous")  # the machine died here
    assert folder.epochs() == [2, 10, 12345]
    assert folder.kept() == ["best", "last", "epoch-0002", "epoch-0010", "epoch-12345"]


def test_files_with_several_names_take_their_place_once(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "one").write_bytes(bytes(1000))
    (tmp_path / "inner" / "other").write_bytes(bytes(30))
    os.link(tmp_path / "one", tmp_path / "inner" / "again")
    assert disk_usage(tmp_path) == 1030
    assert disk_usage(tmp_path / "gone") == 0


def test_what_is_no_run_is_told_with_the_runs_beside_it(folder):
    (folder.path.parent / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is no run: it has no recipe.yaml; runs beside it: run$"):
        RunFolder(folder.path.parent / "empty").check_run()
    folder.check_run()
