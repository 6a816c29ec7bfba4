"""Ctrl-C and SIGTERM: a request to end after the current step, or at once where nothing can be lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Leaves a computation in the middle; for :meth:`StopRequest.at_once` alone."""


class StopRequest:
    """Notes the first signal and lets the loop end cleanly; a second one interrupts wherever it comes.

    A launcher of several processes passes on to each the signal that all of them had from the terminal already, and
    kills those that do not end in time: under one, a second signal changes nothing.

    Attributes:
        signal: The signal that asked; 0 if none did.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}
        self._at_once = False

    def __bool__(self) -> bool:
        return self.signal != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """For what changes nothing that lasts: the first signal breaks it off.

        Raises:
            Stopped: Somebody asked, now or before.
        """
        try:
            self._at_once = True
            if self:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and "TORCHELASTIC_RUN_ID" in os.environ:
            return
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        if self._at_once:
            raise Stopped
