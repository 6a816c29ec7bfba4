"""What a step must be to be recorded once and replayed: it waits for no value and takes nothing from the host."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import genkit
from genkit.dataset import Batch
from genkit.engine.assembly import dry_build
from genkit.objective import Progress
from genkit.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
META = torch.device("meta")


class FromHost(TorchDispatchMode):
    """Notes every operation that brings values of the host, other than single numbers, to the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        result = func(*args, **(kwargs or {}))
        there = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.device == META]
        if there and any(tensor.device.type == "cpu" and tensor.dim() for tensor in tensors):
            self.found.append(str(func))
        return result


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_losses_wait_for_no_value_and_take_nothing_from_the_host(path, monkeypatch):
    """On a device without memory: asking for a value fails there."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which that device has not
    recipe = load_recipe(path)
    parts = dry_build(recipe)
    size = recipe.train.batch_size
    batch = Batch(torch.rand(size, *parts.spec.shape, device=META), torch.zeros(size, dtype=torch.int64, device=META))
    now = Progress(torch.zeros((), device=META), torch.zeros((), device=META))
    players = parts.objective.players(parts.model)
    for turn in parts.objective.turns(parts.model):
        with FromHost() as host:
            loss = turn.loss(batch, now)
            loss.total.backward(inputs=list(players[turn.player]))
        assert host.found == []
        assert all(value.device == META for value in (loss.total, *loss.terms.values()))


@pytest.mark.parametrize("binarize", ["none", "threshold", "dynamic"])
def test_preparing_a_batch_stays_on_the_device(binarize):
    split = genkit.build("dataset", {"use": "mnist", "binarize": binarize}).split("train")
    with FromHost() as host:
        x = split.prepare(torch.zeros(4, 1, 28, 28, dtype=torch.uint8, device=META))
    assert (x.device, host.found) == (META, [])


def test_what_waits_or_comes_from_the_host_is_noticed():
    x = torch.zeros(2, device=META)
    with pytest.raises(RuntimeError, match="meta tensors"), FromHost():
        x.sum().item()
    with FromHost() as host:
        x + torch.ones(2).to(META)
        x + torch.tensor(2.0)
    assert host.found == ["aten._to_copy.default"]
