"""The pool: what has been read once is never read again, and what is gathered is what was read."""

import pytest
import torch
from torch.utils.data import Dataset

from genkit import Split
from genkit.engine.feed import Feed
from genkit.engine.pool import Pool

CPU = torch.device("cpu")
SIZE = 20


class Counted(Dataset):
    """Counts how often each example is read, in memory that workers share."""

    def __init__(self):
        self.reads = torch.zeros(SIZE, dtype=torch.int64).share_memory_()

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        self.reads[index] += 1
        return torch.tensor([[index, 255 - index]], dtype=torch.uint8), index % 4 - 1


def kept(workers=0):
    source = Counted()
    return source, Feed(Split(source, torch.Tensor.float), CPU, workers, Pool(SIZE, (1, 2), CPU, CPU))


def indices_of(batches):
    found = [batch.x[:, 0, 0].long() for batch in batches]
    assert all(torch.equal(batch.x[:, 0, 1].long(), 255 - part) for batch, part in zip(batches, found, strict=True))
    return torch.cat(found).tolist() if found else []


@pytest.mark.parametrize("workers", [0, 2])
def test_each_example_is_read_once(workers):
    source, feed = kept(workers)
    for epoch in range(3):
        assert sorted(indices_of(list(feed.epoch(6, seed=1, epoch=epoch)))) == list(range(SIZE))
        assert indices_of(list(feed.batches(7))) == list(range(SIZE))
    assert source.reads.tolist() == [1] * SIZE


def test_the_first_batch_does_not_wait_for_the_others():
    source, feed = kept()
    batches = feed.epoch(6, seed=1, epoch=0)
    first = indices_of([next(batches)])
    assert source.reads.nonzero().flatten().tolist() == sorted(first)


def test_a_run_that_is_resumed_within_an_epoch_reads_the_rest_of_it_first():
    source, feed = kept()
    rest = indices_of(list(feed.epoch(6, seed=1, epoch=0, skip=2)))
    assert len(rest) == 8
    assert source.reads.nonzero().flatten().tolist() == sorted(rest)
    assert sorted(indices_of(list(feed.epoch(6, seed=1, epoch=1)))) == list(range(SIZE))
    assert source.reads.tolist() == [1] * SIZE


def test_a_rank_reads_only_its_own_parts():
    source, feed = kept()
    own = indices_of(list(feed.epoch(6, seed=1, epoch=0, rank=1, ranks=2)))
    assert len(own) == 10
    assert source.reads.nonzero().flatten().tolist() == sorted(own)
    list(feed.epoch(6, seed=1, epoch=1, rank=1, ranks=2))
    assert source.reads.max() == 1


def test_a_pass_that_was_broken_off_leaves_what_it_read():
    source, feed = kept()
    batches = feed.batches(6)
    next(batches), next(batches)
    del batches
    assert indices_of(list(feed.batches(8))) == list(range(SIZE))
    assert source.reads.tolist() == [1] * SIZE


def test_labels_are_kept_and_those_that_are_none_too():
    _, feed = kept()
    for _ in range(2):
        labels = [batch.labels for batch in feed.batches(2)]
        assert [None if own is None else own.tolist() for own in labels[:4]] == [None, [1, 2], None, [1, 2]]


def test_what_was_gathered_is_not_the_pool_itself():
    _, feed = kept()
    for batch in feed.batches(SIZE):
        batch.x.zero_()
    assert indices_of(list(feed.batches(SIZE))) == list(range(SIZE))


def test_from_the_host_to_a_gpu_batches_are_gathered_in_pinned_memory(monkeypatch):
    made, empty = [], torch.empty

    def noted(*shape, pin_memory=False, **options):
        made.append((shape, pin_memory))
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", noted)
    pool = Pool(SIZE, (1, 2), CPU, torch.device("cuda"))
    assert made == [((SIZE, 1, 2), False), ((SIZE,), False)]
    source = Counted()

    def read(batches):
        return ((torch.stack([source[i][0] for i in own]), own - 1) for own in batches)

    order = torch.tensor([4, 1, 7, 2, 3])
    parts = list(pool.read(order, [3, 2], read))
    assert made[2:] == [((3, 1, 2), True), ((2, 1, 2), True)]
    assert torch.cat([raw for raw, _ in parts])[:, 0, 0].tolist() == order.tolist()
    assert torch.cat([labels for _, labels in parts]).tolist() == (order - 1).tolist()
