"""Batches: every example once an epoch, in an order that only the seed and the epoch decide, from memory or workers."""

import functools
import operator

import pytest
import torch
from torch.utils.data import Dataset

from genkit import Split
from genkit.engine.feed import Feed
from genkit.engine.pool import Pool

CPU = torch.device("cpu")
SIZE = 10


class Streamed(Dataset):
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return torch.tensor([index], dtype=torch.uint8), index % 3


@pytest.fixture(params=["resident", "streamed", "workers", "kept", "kept by workers"])
def feed(request):
    if request.param == "resident":
        values = torch.arange(SIZE, dtype=torch.uint8).view(-1, 1)
        return Feed(Split(values, torch.Tensor.float, torch.arange(SIZE) % 3), CPU)
    pool = Pool(SIZE, (1,), CPU, CPU) if "kept" in request.param else None
    return Feed(Split(Streamed(), torch.Tensor.float), CPU, 2 * ("workers" in request.param), pool)


def seen(batches):
    return [[int(v) for v in batch.x.flatten()] for batch in batches]


def test_every_example_once(feed):
    batches = seen(feed.epoch(4, seed=1, epoch=0))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(functools.reduce(operator.iadd, batches, [])) == list(range(SIZE))


def test_order_is_the_seeds_and_the_epochs(feed):
    first = seen(feed.epoch(4, seed=1, epoch=0))
    assert seen(feed.epoch(4, seed=1, epoch=0)) == first
    assert seen(feed.epoch(4, seed=1, epoch=1)) != first
    assert seen(feed.epoch(4, seed=2, epoch=0)) != first


def test_the_order_is_the_same_wherever_examples_come_from(feed):
    order = seen(feed.epoch(4, seed=1, epoch=0))
    assert order == [[4, 9, 0, 5], [8, 3, 1, 2], [6, 7]]


def test_skipping_goes_on_where_it_left(feed):
    assert seen(feed.epoch(4, seed=1, epoch=3, skip=2)) == seen(feed.epoch(4, seed=1, epoch=3))[2:]
    assert seen(feed.epoch(4, seed=1, epoch=3, skip=3)) == []


def test_last_batch_can_be_dropped(feed):
    assert seen(feed.epoch(4, seed=1, epoch=0, drop_last=True)) == seen(feed.epoch(4, seed=1, epoch=0))[:2]
    assert (feed.steps(4, True), feed.steps(4, False)) == (2, 3)


def test_evaluation_order_is_fixed_and_labels_follow(feed):
    for _ in range(2):
        batches = list(feed.batches(4))
        assert seen(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert batches[1].labels.tolist() == [1, 2, 0, 1]


def test_two_passes_at_a_time_do_not_disturb_each_other(feed):
    pairs = zip(feed.batches(3), feed.epoch(3, seed=1, epoch=0), strict=True)
    one, other = zip(*pairs, strict=True)
    assert seen(one) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert seen(other) == seen(feed.epoch(3, seed=1, epoch=0))


def test_a_pass_can_be_broken_off(feed):
    for _ in range(3):
        assert seen([next(feed.batches(4))]) == [[0, 1, 2, 3]]
    assert seen(feed.batches(5)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_reading_moves_no_global_random_number(feed):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    list(feed.epoch(4, seed=1, epoch=0))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("examples", [32, 33, 11])
def test_ranks_share_each_batch(ranks, examples):
    """Every example is in one rank's part, weights make the mean of the parts' means that of the batch."""
    feed = Feed(Split(torch.arange(examples).unsqueeze(1), torch.Tensor.float), torch.device("cpu"))
    whole = list(feed.epoch(5, seed=1, epoch=2, skip=1))
    parts = [list(feed.epoch(5, seed=1, epoch=2, skip=1, rank=rank, ranks=ranks)) for rank in range(ranks)]
    for index, batch in enumerate(whole):
        own = [part[index] for part in parts]
        assert torch.equal(torch.cat([one.x for one in own if one.weight]), batch.x)
        means = torch.stack([one.x.mean() * one.weight for one in own])
        assert means.mean().item() == pytest.approx(batch.x.mean().item(), rel=1e-6)
    assert all(len(part) == len(whole) for part in parts)


def test_ranks_get_the_same_parts_wherever_examples_come_from(feed):
    values = torch.arange(SIZE).view(-1, 1)
    resident = Feed(Split(values, torch.Tensor.float), CPU)
    for epoch in range(2):
        for rank in range(3):
            place = {"seed": 1, "epoch": epoch, "rank": rank, "ranks": 3}
            own = list(feed.epoch(4, **place))
            assert seen(own) == seen(resident.epoch(4, **place))
            assert [batch.weight for batch in own] == [batch.weight for batch in resident.epoch(4, **place)]
