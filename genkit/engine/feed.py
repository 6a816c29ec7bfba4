"""Feeds batches: from memory on the device, or streamed through workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from genkit.dataset import Batch, Split
from genkit.engine.seeds import derive_seed


def part_of(indices: Tensor, rank: int, ranks: int) -> Tensor:
    """One rank's part of a batch; where there are fewer examples than ranks, one that counts nothing."""
    part = indices.tensor_split(ranks)[rank]
    return part if len(part) else indices[:1]


class Feed:
    """One split on the device; evaluators see it as a :class:`genkit.DataView`.

    A split that is one tensor lives on the device, and is shuffled, gathered and prepared there. Any other is
    read by a torch data loader and prepared on the device.

    Args:
        split: The split.
        device: Where batches go.
        workers: Processes that read a streamed split.
    """

    def __init__(self, split: Split, device: torch.device, workers: int = 0) -> None:
        self.split = split
        self.device = device
        self.workers = workers
        self.resident = split.source.to(device) if isinstance(split.source, Tensor) else None
        self.labels = split.labels.to(device) if split.labels is not None else None

    def __len__(self) -> int:
        return len(self.split)

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Batches in one epoch."""
        return len(self) // batch_size if drop_last else math.ceil(len(self) / batch_size)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their fixed order."""
        yield from self._gather(torch.arange(len(self)), batch_size, seed=0)

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        drop_last: bool = False,
        skip: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Batch]:
        """All examples in the epoch's own order.

        The order comes from the seed and the epoch alone, so that a resumed run finds its place by skipping.

        Args:
            batch_size: Examples in a batch.
            seed: The run's seed.
            epoch: Which epoch.
            drop_last: Leave out the last, smaller batch.
            skip: Batches to leave out at the start.
            rank: Which part of each batch is wanted.
            ranks: How many parts a batch has.
        """
        order_seed = derive_seed(seed, "order", epoch)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(order_seed))
        end = self.steps(batch_size, drop_last) * batch_size
        order = order[skip * batch_size : end]
        if ranks == 1 or not len(order):
            yield from self._gather(order, batch_size, seed=order_seed)
            return
        parts = [part_of(indices, rank, ranks) for indices in order.split(batch_size)]
        shares = [len(indices.tensor_split(ranks)[rank]) * ranks / len(indices) for indices in order.split(batch_size)]
        own = self._gather(torch.cat(parts), [len(part) for part in parts], seed=order_seed + rank)
        for batch, share in zip(own, shares, strict=True):
            yield replace(batch, weight=share)

    def _gather(self, order: Tensor, sizes: int | list[int], seed: int) -> Iterator[Batch]:
        if not len(order):
            return
        if self.resident is None:
            yield from self._stream([part.tolist() for part in order.split(sizes)], seed)
            return
        for indices in order.to(self.device).split(sizes):
            labels = None if self.labels is None else self.labels.index_select(0, indices)
            yield Batch(self.split.prepare(self.resident.index_select(0, indices)), labels)

    def _stream(self, batches: list[list[int]], seed: int) -> Iterator[Batch]:
        loader = DataLoader(
            self.split.source,  # pyright: ignore[reportArgumentType]
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),  # workers' seeds must not come from the training's stream
        )
        for raw, labels in loader:
            x = self.split.prepare(raw.to(self.device, non_blocking=True))
            labelled = bool((labels >= 0).all())
            yield Batch(x, labels.to(self.device, non_blocking=True) if labelled else None)
