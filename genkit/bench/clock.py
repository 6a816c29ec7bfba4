"""Taking times, of a whole loop and of what is in it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genkit.bench.loops import Engine, Loop


def now(device: torch.device) -> float:
    """The time in seconds, when a device has done all that it was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def time_of(loop: Loop, device: torch.device, steps: int) -> float:
    """What so many steps take, in seconds."""
    began = now(device)
    loop.take(steps)
    return now(device) - began


class Clock:
    """Adds up the time that is spent in some functions; where one calls another, in the outer one.

    Args:
        device: Whose work counts.

    Attributes:
        seconds: The time by the functions' names.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running = False

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time taken."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                return function(*args, **kwargs)
            self._running, began = True, now(self.device)
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += now(self.device) - began
                self._running = False

        return wrapped


def engine_shares(engine: Engine, device: torch.device, steps: int) -> dict[str, float]:
    """The shares of the engine's time in losses, in backward passes, in optimizers' steps, and outside of these.

    On an accelerator the host waits after each of them, which it does not in an undisturbed step. The engine is no
    use for other times afterwards.
    """
    clock, step = Clock(device), engine.trainer.step
    step.turns = [replace(turn, loss=clock.timed("loss", turn.loss)) for turn in step.turns]
    for player in step.players.values():
        player.optimizer.step = clock.timed("optimizer", player.optimizer.step)  # pyright: ignore[reportAttributeAccessIssue]
    backward = Tensor.backward
    Tensor.backward = clock.timed("backward", backward)
    try:
        total = time_of(engine, device, steps)
    finally:
        Tensor.backward = backward
    shares = {name: clock.seconds[name] / total for name in ("loss", "backward", "optimizer")}
    return {**shares, "outside": 1 - sum(shares.values())}
