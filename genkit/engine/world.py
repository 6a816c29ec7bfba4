"""The processes that train one model together, as torch's launcher starts them."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = datetime.timedelta(days=1)
"""How long ranks wait for the one that evaluates."""


class World:
    """One process among those that train together; alone, unless a launcher says otherwise.

    Args:
        device: Where this process trains.
        rank: Its number; the first one, the leader, writes and judges for all.
        size: How many there are.

    Attributes:
        restarted: Whether a launcher started the processes again, after one of them had died.
    """

    def __init__(self, device: torch.device, rank: int = 0, size: int = 1) -> None:
        self.device = device
        self.rank = rank
        self.size = size
        self.restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        self._talk: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if size > 1 else None

    @property
    def leader(self) -> bool:
        """Whether this process writes and judges."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is raised on any rank. Every rank must ask."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self._talk)
        return tuple(bool(flag) for flag in raised)

    def every(self, condition: Tensor) -> Tensor:
        """Whether a condition on the device, bool with shape :math:`()`, holds on every rank. Every rank must ask."""
        if self.size == 1:
            return condition
        holds = condition.int()
        dist.all_reduce(holds, dist.ReduceOp.MIN)
        return holds.bool()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks of a tensor on the host. Every rank must ask."""
        if self.size == 1:
            return values
        dist.all_reduce(values, group=self._talk)
        return values / self.size

    def told(self, message: Any = None) -> Any:
        """What the leader says, small and plain. Every rank must listen."""
        if self.size == 1:
            return message
        box = [message]
        dist.broadcast_object_list(box, src=0, group=self._talk)
        return box[0]

    def gather(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of all ranks, by rank, of the same names and shapes on each. Every rank must give."""
        if self.size == 1:
            return [tensors]
        every: list[dict[str, Tensor]] = [{} for _ in range(self.size)]
        for name, tensor in tensors.items():
            own = tensor.contiguous().view(-1).view(torch.uint8)
            parts = [torch.empty_like(own) for _ in every]
            dist.all_gather(parts, own, group=self._talk)
            for rank, part in zip(every, parts, strict=True):
                rank[name] = part.view(tensor.dtype).view(tensor.shape)
        return every

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces tensors by their means over all ranks, in place. Every rank must give."""
        if self.size > 1:
            for tensor in tensors:
                tensor.copy_(self.mean(tensor.detach().cpu().double()))  # what is the same everywhere stays as it is


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """This process's part in the world that torch's launcher has described in the environment.

    Args:
        device: A kind of device; of several the one with this process's number on its machine is taken.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(device, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
