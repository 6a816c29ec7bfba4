"""How long a run takes, over all of its sessions."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from genkit.engine.folder import read_json, replace_text
from genkit.errors import UsageError
from genkit.events import CheckpointWritten
from genkit.hookspecs import hookimpl


class Stopwatch:
    """Seconds that a run takes, kept in a file of its folder from one session to the next.

    It is written with every checkpoint and when the session ends. A session that was killed leaves the file saying
    that it goes on: what it did after its last checkpoint is not known.

    Args:
        path: The file.
        resumed: Whether there was a session before this one.

    Attributes:
        earlier: Seconds of earlier sessions, as far as they are known.
        at_least: Whether there were more of them.

    Raises:
        UsageError: The file cannot be written.
    """

    def __init__(self, path: Path, *, resumed: bool = False) -> None:
        self.path = path
        told = read_json(path)
        self.earlier = told.get("seconds", 0.0)
        self.at_least = resumed and (told.get("at_least", True) or told.get("running", True))
        self.began = time.perf_counter()
        self._write(running=True)

    def state(self) -> dict[str, Any]:
        """Seconds of all sessions until now, and whether there were more that are not known."""
        return {"seconds": self.earlier + time.perf_counter() - self.began, "at_least": self.at_least}

    @hookimpl
    def on_checkpoint(self, report: CheckpointWritten) -> None:
        """Writes down how long it took to get here."""
        self._write(running=True)

    def close(self) -> None:
        """Ends the session; where the file cannot be written, it is as if this had been killed."""
        with suppress(UsageError):
            self._write(running=False)

    def _write(self, *, running: bool) -> None:
        replace_text(self.path, json.dumps({**self.state(), "running": running}) + "\n")
