"""Where examples stay: as the recipe says, or where there is room; and what is said of it."""

import pytest
import torch
import toy
from torch.utils.data import Dataset

import genkit
from genkit import RecipeError, Split
from genkit.engine import machine, placement
from genkit.engine.assembly import read_feeds
from genkit.engine.placement import DEVICE_SHARE, HOST_SHARE, describe, kept_shape, place_for, pools_for
from genkit.recipe import load_recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def memory(monkeypatch):
    """Sets how much is free on a GPU and on the host."""

    def have(gpu, host):
        monkeypatch.setattr(placement, "free_bytes", lambda device: gpu if device.type == "cuda" else host)

    return have


@pytest.mark.parametrize(
    ("need", "device", "wanted", "place"),
    [
        (DEVICE_SHARE * 1000, GPU, "auto", GPU),
        (DEVICE_SHARE * 1000 + 1, GPU, "auto", CPU),
        (HOST_SHARE * 2000, GPU, "auto", CPU),
        (HOST_SHARE * 2000 + 1, GPU, "auto", None),
        (HOST_SHARE * 2000, CPU, "auto", CPU),
        (HOST_SHARE * 2000 + 1, CPU, "auto", None),
        (1000, GPU, "device", GPU),
        (1001, GPU, "device", None),
        (2000, GPU, "host", CPU),
        (2001, GPU, "host", None),
        (2000, CPU, "device", CPU),
    ],
)
def test_where_there_is_room(memory, need, device, wanted, place):
    memory(1000, 2000)
    assert place_for(need, device, wanted) == place


class Photos(Dataset):
    def __init__(self, size=10, dtype=torch.uint8):
        self.size, self.dtype = size, dtype

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.zeros(3, 2, 2, dtype=self.dtype), -1


def splits_of(**options):
    return {"train": Split(Photos(), **options), "test": Split(Photos(5)), "validation": Split(torch.zeros(4, 3, 2, 2))}


def recipe_of(cache):
    return load_recipe(toy.RECIPE, [f"train.cache={cache}"], toy.registry())


def test_only_bytes_that_stay_the_same_can_be_kept():
    assert kept_shape(Split(Photos())) == (3, 2, 2)
    assert kept_shape(Split(Photos(dtype=torch.float32))) is None
    assert kept_shape(Split(Photos(), fixed=False)) is None


@pytest.mark.parametrize(
    ("cache", "host", "kept"),
    [
        ("auto", 2 * 15 * 12, ["train", "test"]),
        ("auto", 2 * 15 * 12 - 1, []),
        ("none", 10**9, []),
        ("device", 15 * 12, ["train", "test"]),
        ("host", 15 * 12, ["train", "test"]),
    ],
)
def test_all_streamed_splits_find_room_or_none(memory, cache, host, kept):
    memory(0, host)
    pools = pools_for(recipe_of(cache), splits_of(), CPU)
    assert list(pools) == kept
    assert [pools[name].raw.shape for name in kept] == [(10, 3, 2, 2), (5, 3, 2, 2)][: len(kept)]


@pytest.mark.parametrize("cache", ["device", "host"])
def test_what_does_not_fit_where_it_is_wanted_is_refused(memory, cache):
    memory(0, 15 * 12 - 1)
    with pytest.raises(RecipeError) as caught:
        pools_for(recipe_of(cache), splits_of(), CPU)
    assert str(caught.value) == (
        f"command line train.cache={cache}: train.cache: bits cannot be kept on the {cache}: its examples take "
        "180 bytes as bytes, and 179 bytes are free; auto or none would do"
    )


def test_what_cannot_be_kept_is_streamed_or_refused(memory):
    memory(0, 10**9)
    splits = splits_of(fixed=False)
    assert list(pools_for(recipe_of("auto"), splits, CPU)) == ["test"]
    with pytest.raises(RecipeError, match="bits cannot be kept on the host: only bytes that are the same each time"):
        pools_for(recipe_of("host"), splits, CPU)
    assert pools_for(recipe_of("host"), {"train": splits["validation"]}, CPU) == {}


class Album(genkit.Dataset):
    """Photos to train on, and tensors to validate on."""

    spec = genkit.DataSpec((3, 2, 2), levels=256)

    def split(self, name):
        return splits_of().get(name)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.workers=2"], "15 examples kept on cpu as uint8, read once by 2 workers (180 bytes)"),
        (["train.workers=1", "train.cache=none"], "15 examples streamed by 1 worker"),
        (["train.workers=0", "train.cache=none"], "15 examples streamed by the training process"),
        (["train.cache=none"], "15 examples streamed by 5 workers"),
    ],
)
def test_the_choice_in_words(monkeypatch, memory, overrides, said):
    memory(0, 10**9)
    monkeypatch.setattr("genkit.engine.assembly.usual_workers", lambda: 5)
    recipe = load_recipe(toy.RECIPE, [*overrides, "train.batch_size=5"], toy.registry())
    found = describe(read_feeds(recipe, Album(), CPU))
    assert sorted(found.split("; ")) == [said, "4 examples on cpu (192 bytes)"]


# ---- the machine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "ranks", "workers"), [(1, 1, 1), (6, 1, 6), (64, 1, 8), (64, 16, 4), (2, 4, 1)])
def test_usual_workers(monkeypatch, cores, ranks, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert machine.usual_workers() == workers


def test_ranks_share_the_hosts_memory(monkeypatch):
    monkeypatch.setattr(machine, "host_bytes", lambda: 1200)
    monkeypatch.setattr(machine, "limits", lambda: iter([5000, 900]))
    assert machine.free_bytes(CPU) == 900
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert machine.free_bytes(CPU) == 300


def test_the_hosts_memory_is_known():
    assert 10**8 < machine.host_bytes() < 10**14


def test_a_system_that_says_nothing(monkeypatch):
    monkeypatch.setattr(machine, "_text", lambda path: "")
    assert machine.host_bytes() > 10**8  # all that there is
    assert list(machine.limits()) == []

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("os.sysconf", unknown)
    assert machine.free_bytes(CPU) == 0


@pytest.mark.parametrize(
    ("line", "files", "found"),
    [
        ("0::/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "700\n", "memory.max": "900"}, [700, 900]),
        ("0::/gone", {"memory.max": "500\n"}, [500]),
        ("5:cpu:/x\n4:memory:/x", {"memory/x/memory.limit_in_bytes": "300\n", "memory.max": "1"}, [300]),
        ("0::/", {}, []),
    ],
)
def test_limits_of_control_groups(tmp_path, line, files, found):
    (tmp_path / "membership").write_text(line)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    assert list(machine.limits(tmp_path / "membership", tmp_path / "groups")) == found
