"""Whole training steps, recorded once on the device and replayed: CUDA graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from genkit.errors import GenkitError
from genkit.recipe.recipe import Switch

Inputs = tuple[Tensor | None, ...]
Work = Callable[..., Tensor]

WARM_UP = 3
"""Steps taken before one is recorded: the first ones make optimizer states, moving averages, libraries' workspaces."""


class Device(Protocol):
    """What a recorder asks of a device."""

    def aside(self, work: Work, inputs: Inputs) -> Tensor:
        """Does some work on the stream that recordings are made on."""
        ...

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], None], Tensor]:
        """Records some work without doing it; returns what does it again, and where its result will be."""
        ...


class Cuda:
    """A CUDA device, with one side stream and one pool of memory for all recordings."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def aside(self, work: Work, inputs: Inputs) -> Tensor:
        """Does some work on the side stream, in its turn."""
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = work(*inputs)
        here.wait_stream(self.stream)
        return result

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], None], Tensor]:
        """Captures a graph; what other threads ask of the device meanwhile is none of its business."""
        graph: Any = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with capture:
            result = work(*inputs)
        return graph.replay, result


class Recorder:
    """Calls a function of tensors, and once it has been called often enough for their shapes, replays what it did.

    The function does all its work on the device: nothing in it waits for a value, nothing comes from the host but its
    arguments and what it reads from tensors that are changed in place. Every call before the recording, and every call
    after it, does the work once: the random numbers drawn and the weights moved are those of plain calls.

    Args:
        work: The function.
        switch: Whether to record.
        device: The device; ``None`` where nothing can be recorded.
        obstacle: Why nothing can be recorded; empty if it can be tried.

    Attributes:
        obstacle: Why nothing is recorded; empty while it is, or may be.

    Raises:
        GenkitError: ``switch`` is on and there is an obstacle.
    """

    def __init__(self, work: Work, switch: Switch, device: Device | None, obstacle: str = "") -> None:
        self.work = work
        self.switch: Switch = switch
        self.device = device
        self.obstacle = "train.cuda_graph is off" if switch == "off" else obstacle
        self._calls: Counter[Any] = Counter()
        self._recordings: dict[Any, tuple[Inputs, Callable[[], None], Tensor]] = {}
        if self.obstacle:
            self._stumble(self.obstacle)

    @property
    def recorded(self) -> int:
        """Recordings made, one for each combination of shapes."""
        return len(self._recordings)

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Does the work; the result is overwritten by the next call for the same shapes."""
        if self.obstacle or self.device is None:
            return self.work(*inputs)
        shapes = tuple(None if tensor is None else (tensor.shape, tensor.dtype) for tensor in inputs)
        if shapes not in self._recordings:
            self._calls[shapes] += 1
            if self._calls[shapes] <= WARM_UP or not self._record(shapes, inputs):
                return self.device.aside(self.work, inputs)
        places, replay, result = self._recordings[shapes]
        for place, tensor in zip(places, inputs, strict=True):
            if place is not None and tensor is not None:
                place.copy_(tensor, non_blocking=True)
        replay()
        return result

    def _record(self, shapes: Any, inputs: Inputs) -> bool:
        """Records the work for inputs of these shapes; returns whether that could be done."""
        assert self.device is not None
        places = tuple(None if tensor is None else tensor.clone() for tensor in inputs)
        try:
            replay, result = self.device.record(self.work, places)
        except RuntimeError as error:
            reason = error.__context__ or error  # what broke the recording off, or else the recording itself
            self._stumble(f"the step cannot be recorded: {str(reason).partition(chr(10))[0]}")
            return False
        self._recordings[shapes] = places, replay, result
        return True

    def _stumble(self, obstacle: str) -> None:
        self.obstacle = obstacle
        if self.switch == "on":
            raise GenkitError(f"train.cuda_graph is on, but {obstacle}")


def obstacle_to_graphs(device: torch.device, processes: int) -> str:
    """Why no step can be recorded here; empty if it can be tried."""
    if device.type != "cuda":
        return f"{device.type} has no CUDA graphs"
    return "several processes train together" if processes > 1 else ""
