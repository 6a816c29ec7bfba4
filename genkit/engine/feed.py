"""Feeds batches: from memory, or read by workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from genkit.dataset import Batch, Split
from genkit.engine.pool import Pool
from genkit.engine.reading import Reader
from genkit.engine.seeds import derive_seed
from genkit.engine.transfer import Transfer


@dataclass(frozen=True)
class Ticket:
    """A batch on the device that is not prepared yet.

    Attributes:
        values: The places of resident examples, or raw examples.
        labels: Their classes, where the examples are not resident and have any.
        weight: What the batch counts for, see :class:`genkit.Batch`.
    """

    values: Tensor
    labels: Tensor | None = None
    weight: float = 1.0


def part_of(indices: Tensor, rank: int, ranks: int) -> Tensor:
    """One rank's part of a batch; where there are fewer examples than ranks, one that counts nothing."""
    part = indices.tensor_split(ranks)[rank]
    return part if len(part) else indices[:1]


class Feed:
    """One split on the device; evaluators see it as a :class:`genkit.DataView`.

    A split that is one tensor lives on the device, and is shuffled and gathered there. Any other is read example by
    example, each once if there is a pool for them, else in every pass. All are prepared on the device. Batches are the
    same to the bit, wherever they come from.

    Args:
        split: The split.
        device: Where batches go.
        workers: Processes that read a split that is no tensor.
        pool: Where the examples of such a split stay.
    """

    def __init__(self, split: Split, device: torch.device, workers: int = 0, pool: Pool | None = None) -> None:
        self.split = split
        self.device = device
        self.workers = workers
        self.pool = pool
        self.resident = split.source.to(device) if isinstance(split.source, Tensor) else None
        self.labels = split.labels.to(device) if split.labels is not None else None
        self.send = Transfer(device)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def held_bytes(self) -> int:
        """What the examples take in memory, once they are there."""
        held = self.resident if self.pool is None else self.pool.raw
        return 0 if held is None else held.nbytes

    @property
    def manner(self) -> str:
        """Where the examples are and who reads them, in words."""
        if self.resident is not None:
            return f"on {self.device}"
        readers = f"{self.workers} worker{'s' * (self.workers > 1)}" if self.workers else "the training process"
        kept = "" if self.pool is None else f"kept on {self.pool.place} as uint8, "
        return f"{kept}read once by {readers}" if kept else f"streamed by {readers}"

    def steps(self, batch_size: int, drop_last: bool) -> int:
        """Batches in one epoch."""
        return len(self) // batch_size if drop_last else math.ceil(len(self) / batch_size)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their fixed order."""
        return map(self.open, self._draw(torch.arange(len(self)), batch_size, seed=0))

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
        """All examples in the epoch's own order: the :meth:`tickets` of the same arguments, opened."""
        tickets = self.tickets(
            batch_size, seed=seed, epoch=epoch, drop_last=drop_last, skip=skip, rank=rank, ranks=ranks
        )
        return map(self.open, tickets)

    def tickets(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        drop_last: bool = False,
        skip: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Ticket]:
        """An epoch's batches before they are gathered and prepared.

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
            yield from self._draw(order, batch_size, seed=order_seed)
            return
        parts = [part_of(indices, rank, ranks) for indices in order.split(batch_size)]
        shares = [len(indices.tensor_split(ranks)[rank]) * ranks / len(indices) for indices in order.split(batch_size)]
        own = self._draw(torch.cat(parts), [len(part) for part in parts], seed=order_seed)
        for ticket, share in zip(own, shares, strict=True):
            yield replace(ticket, weight=share)

    def open(self, ticket: Ticket) -> Batch:
        """Gathers and prepares a batch, all of it on the device."""
        if self.resident is None:
            return Batch(self.split.prepare(ticket.values), ticket.labels, ticket.weight)
        labels = None if self.labels is None else self.labels.index_select(0, ticket.values)
        return Batch(self.split.prepare(self.resident.index_select(0, ticket.values)), labels, ticket.weight)

    def _draw(self, order: Tensor, sizes: int | list[int], seed: int) -> Iterator[Ticket]:
        if not len(order):
            return
        if self.resident is None:
            yield from self._read(order, sizes, seed)
            return
        for indices in order.to(self.device).split(sizes):
            yield Ticket(indices)

    def _read(self, order: Tensor, sizes: int | list[int], seed: int) -> Iterator[Ticket]:
        read = partial(Reader(self.split, self.workers, self.device).read, seed=seed)
        found = read(order.split(sizes)) if self.pool is None else self.pool.read(order, sizes, read)
        for raw, labels in found:
            labelled = bool((labels >= 0).all())
            yield Ticket(self.send(raw), self.send(labels) if labelled else None)
