"""Reads the examples of a map-style source batch by batch, in this process or in workers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from genkit.dataset import Split
from genkit.engine.seeds import derive_seed, preserved, seed_all
from genkit.errors import GenkitError

HOST = torch.device("cpu")
AHEAD = 2
"""Batches that each worker reads ahead."""

HELD = {signal.SIGINT, signal.SIGTERM} if sys.platform == "linux" else {signal.SIGINT}
"""Signals that end a run, and no worker of it."""


class Reader:
    """Reads batches of a split that is no tensor.

    Workers are started for each pass over the data and end with it: some 30 to 50 ms each, which is nothing beside
    the reading of data that does not fit into memory. What can be kept is read but once.

    Args:
        split: The split.
        workers: Processes that read; 0 reads in this one.
        device: Where batches will go; if to a GPU, they are read into memory that it can copy from by itself.
    """

    def __init__(self, split: Split, workers: int, device: torch.device) -> None:
        self.split = split
        self.workers = workers
        self.device = device

    def read(self, batches: Sequence[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw examples and labels of each batch, on the host; no global random number is drawn.

        Args:
            batches: The indices of each batch.
            seed: Where the random numbers of examples that are not fixed come from.

        Raises:
            DataError: An example cannot be read.
        """
        if not batches:
            return
        drawn_from = HOST if self.split.fixed else self.device  # seeding reaches the device's generator too
        with signals_held():
            arriving = iter(self._loader(batches, seed))
        try:
            for _ in batches:
                with preserved(drawn_from):
                    found = next(arriving)
                if isinstance(found, GenkitError):
                    raise found
                yield found[0], found[1]
        except Exception as error:
            if self.workers:  # the loader's frames would keep the workers alive as long as somebody keeps the error
                raise error.with_traceback(None) from error.__cause__
            raise
        finally:
            with signals_held():
                del arriving  # ends the workers

    def _loader(self, batches: Sequence[Tensor], seed: int) -> DataLoader[Any]:
        workers = min(self.workers, len(batches))
        return DataLoader(
            Batches(self.split.source, None if self.split.fixed else seed),
            batch_size=None,  # an item is a batch already
            sampler=[indices.tolist() for indices in batches],
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=leave_signals,
            generator=torch.Generator(),  # workers' seeds must not come from the training's stream
        )


class Batches(TorchDataset[Any]):
    """A source whose items are whole batches.

    An error that is meant for users is returned, not raised: from a worker it would come with a traceback in its text.

    Args:
        source: The map-style source of ``(example, label)`` pairs.
        seed: What each example is read under, together with its index; ``None`` where nothing is drawn.
    """

    def __init__(self, source: Any, seed: int | None) -> None:
        self.source = source
        self.seed = seed

    def __getitem__(self, indices: list[int]) -> Any:
        """The stacked examples and labels at these indices, or why they cannot be had."""
        try:
            return default_collate([self._example(index) for index in indices])
        except GenkitError as error:
            return error

    def _example(self, index: int) -> Any:
        if self.seed is not None:
            seed_all(derive_seed(self.seed, index))
        return self.source[index]


# ---- signals -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """The signals that end a run wait; processes that are started meanwhile are born deaf to them.

    Another thread may take a signal that this one does not: then its handler still runs in the main thread.
    """
    waiting: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    handlers = {n: signal.signal(n, lambda number, frame: waiting.append(number)) for n in HELD} if main else {}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


def leave_signals(worker: int) -> None:
    """Lets a worker end only when the run has no more need of it.

    Ctrl-C on a terminal, and what batch systems send, reach every process of a run. The one that trains still wants
    the batch that it waits for, and ends its workers itself, by a message or, if one hangs, by SIGTERM. A batch that it
    breaks off to take is no worker's concern: the thread that hands batches over would print a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    sys.excepthook = _report_unless_broken_off
    if sys.platform == "linux":
        threading.Thread(target=_obey_parent, daemon=True).start()


def _report_unless_broken_off(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _obey_parent() -> None:
    if sys.platform == "linux":
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)
