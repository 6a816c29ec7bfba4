"""The processes that train one model together, as torch's launcher starts them."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, _world  # pyright: ignore[reportPrivateUsage]
from torch.distributed.rendezvous import rendezvous

from genkit.errors import GenkitError, UsageError

set_timeout = getattr(dist, "set_timeout", None) or distributed_c10d._set_pg_timeout  # older torch has no public one

PATIENCE = datetime.timedelta(days=1)
"""How long ranks wait for the one that evaluates."""
CONNECTION = datetime.timedelta(seconds=30)
"""How long they try to reach each other."""
SETTLING = 0.1
"""Seconds after which torch's threads have let go of their last messages, for which they need the interpreter."""
ATTEMPTS = 5
"""How often they try: on a busy machine gloo now and then loses a connection while it is being made."""


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

    @property
    def leader(self) -> bool:
        """Whether this process writes and judges."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether each flag is raised on any rank. Every rank must ask."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
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
        dist.all_reduce(values)
        return values / self.size

    def told(self, message: Any = None) -> Any:
        """What the leader says, small and plain. Every rank must listen."""
        if self.size == 1:
            return message
        box = [message]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of all ranks, by rank, of the same names and shapes on each. Every rank must give."""
        if self.size == 1:
            return [tensors]
        every: list[dict[str, Tensor]] = [{} for _ in range(self.size)]
        for name, tensor in tensors.items():
            own = tensor.contiguous().view(-1).view(torch.uint8)
            parts = [torch.empty_like(own) for _ in every]
            dist.all_gather(parts, own)
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

    Raises:
        UsageError: There are fewer GPUs than processes.
        GenkitError: The processes cannot reach each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    if device.type == "cuda":
        there, wanted = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", size))
        if wanted > there:
            raise UsageError(f"{wanted} processes on this machine need a GPU each, and it has {there}")
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    _connect("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(device, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
        time.sleep(SETTLING)


def _connect(backend: str) -> None:
    """Joins the processes' default group; all of them try again until it has worked for all.

    Raises:
        GenkitError: It did not.
    """
    store, rank, size = next(rendezvous("env://"))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the store still has the addresses of those who died
    failure: RuntimeError | None = None
    for attempt in range(ATTEMPTS):
        own, failure = PrefixStore(f"genkit/{start}/{attempt}", store), None
        _world.group_count = 0  # groups are named by their number: who failed has counted one that others gave up
        try:
            dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=CONNECTION)
        except RuntimeError as error:
            failure = error
        own.set(f"connected/{rank}", "no" if failure else "yes")
        if all(own.get(f"connected/{other}") == b"yes" for other in range(size)):
            set_timeout(PATIENCE)
            return
        if dist.is_initialized():
            dist.destroy_process_group()
    raise GenkitError(f"rank {rank} of {size} could not be connected with the others: {failure or 'others failed'}")
