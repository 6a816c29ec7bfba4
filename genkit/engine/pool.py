"""Keeps decoded examples as bytes, so that each is read but once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from genkit.dataset import Shape

Read = Callable[[Sequence[Tensor]], Iterator[tuple[Tensor, Tensor]]]


class Pool:
    """The raw examples of one split, each read when it is first wanted.

    There is no waiting for the pool to be full: the first pass over the data reads the examples in its own order and
    puts them in their places, and every later one finds them there. With several ranks each fills a pool of its own,
    with what it needs.

    Args:
        count: Examples in the split.
        shape: One raw example, ``uint8``.
        place: Where they are kept: the device that batches go to, or the host.
        device: Where batches go. On the way to a GPU from the host, batches are gathered in memory that it copies from
            by itself, so that the pool can be ordinary memory.
    """

    def __init__(self, count: int, shape: Shape, place: torch.device, device: torch.device) -> None:
        self.place = place
        self.pinned = device.type == "cuda" and place.type == "cpu"
        self.raw = torch.empty(count, *shape, dtype=torch.uint8, device=place)
        self.labels = torch.empty(count, dtype=torch.int64)
        self.there = torch.zeros(count, dtype=torch.bool)

    def read(self, order: Tensor, sizes: int | list[int], read: Read) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw examples where they are kept, and labels on the host, of each batch.

        Args:
            order: The indices of all batches, on the host.
            sizes: The batches' sizes, or the one that all but the last have.
            read: Reads batches of examples onto the host.
        """
        batches = order.split(sizes)
        missing = ~self.there
        lacking = [indices[missing[indices]] for indices in batches] if missing.any() else [order[:0]] * len(batches)
        arriving = read([some for some in lacking if len(some)])
        for indices, places, some in zip(batches, order.to(self.place).split(sizes), lacking, strict=True):
            if len(some):
                self._put(some, *next(arriving))
            yield self._gather(places), self.labels[indices]

    def _put(self, indices: Tensor, raw: Tensor, labels: Tensor) -> None:
        self.raw[indices.to(self.place)] = raw.to(self.place, non_blocking=True)
        self.labels[indices] = labels
        self.there[indices] = True

    def _gather(self, indices: Tensor) -> Tensor:
        if not self.pinned:
            return self.raw.index_select(0, indices)
        staged = torch.empty(len(indices), *self.raw.shape[1:], dtype=torch.uint8, pin_memory=True)
        return torch.index_select(self.raw, 0, indices, out=staged)
