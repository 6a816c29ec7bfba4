"""Tensors of which each process has a part, and how they are made whole."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_shard(tensor: Tensor) -> bool:
    """Whether this process has only its part of a tensor."""
    return dist.is_initialized() and isinstance(tensor, _kind())


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Every rank must ask."""
    return _any(tensor).full_tensor() if is_shard(tensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory."""
    return _any(tensor).to_local() if is_shard(tensor) else tensor


def part_like(tensor: Tensor, shard: Tensor) -> Tensor:
    """The part of a whole tensor that this process has of another one, itself shared out in the same way."""
    if not is_shard(shard):
        return tensor
    tensors = importlib.import_module("torch.distributed.tensor")
    like = _any(shard)
    moved = tensor.to(shard.device)
    return tensors.distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def on_host(tensors: Mapping[str, Tensor], kept: bool) -> dict[str, Tensor]:
    """A state dict in which nothing is shared out; what is goes to the host, on ranks that keep it. All must ask."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if kept or full is tensor:
            found[name] = full.cpu() if is_shard(tensor) else tensor
    return found


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of several tensors as one, with shape :math:`()`. Every rank must ask."""
    if not tensors:
        return torch.zeros(())
    kinds = [[t for t in tensors if is_shard(t)], [t for t in tensors if not is_shard(t)]]
    norms = [whole(nn.utils.get_total_norm(some, foreach=True)) for some in kinds if some]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()


@contextlib.contextmanager
def made_whole(*modules: nn.Module, here: bool = True, lasting: bool = False) -> Iterator[None]:
    """Has modules hold whole weights for a while. Every rank must enter.

    Args:
        modules: The modules.
        here: Whether this rank wants them; others only give their parts.
        lasting: Whether what is written into them meanwhile stays; every rank must write the same.
    """
    places = [
        (owner, name, parameter)
        for module in modules
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if is_shard(parameter)
    ]
    full: dict[int, nn.Parameter] = {}
    for owner, name, shard in places:
        if id(shard) not in full:
            full[id(shard)] = nn.Parameter(whole(shard.detach()), shard.requires_grad)
        if here:
            owner.register_parameter(name, full[id(shard)])
        else:
            full[id(shard)] = shard  # its memory is free again
    hooks = [
        every
        for module in modules
        for owner in module.modules()
        for every in (owner._forward_pre_hooks, owner._forward_hooks)
        if places and here
    ]
    before = [dict(every) for every in hooks]
    try:
        for every in hooks:  # torch's own would gather what is whole, and wait for ranks that do not compute
            for number in [number for number, hook in every.items() if _is_torchs(hook)]:
                del every[number]
        yield
    finally:
        for every, own in zip(hooks, before, strict=True):
            every.clear()
            every.update(own)  # in their order
        with torch.no_grad():
            for owner, name, shard in places if here else ():
                if lasting:
                    part(shard).copy_(part(part_like(owner.get_parameter(name).detach(), shard)))
                owner.register_parameter(name, shard)


@functools.cache
def _kind() -> type:
    """Torch's sharded tensor, which only processes that train together need to know."""
    return importlib.import_module("torch.distributed.tensor").DTensor


def _is_torchs(hook: Any) -> bool:
    """Whether a hook is one of FSDP2's."""
    return getattr(hook, "__module__", "").startswith("torch.distributed.fsdp")


def _any(shard: Tensor) -> Any:
    return shard
