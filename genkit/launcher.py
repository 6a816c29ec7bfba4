"""Launchers: where the runs of a sweep are carried out."""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkit.component import Component


@dataclass(frozen=True)
class Job:
    """One run as a command.

    Attributes:
        name: The run's name.
        words: The command, program first. It continues what an earlier call began, so it may be called again.
        directory: Where it is called.
        log: The file for what it prints.
    """

    name: str
    words: tuple[str, ...]
    directory: Path
    log: Path

    def start(self, **options: Any) -> subprocess.Popen[Any]:
        """Starts it here, its output going to the end of its log; the options are those of ``Popen``."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(self.words, cwd=self.directory, stdout=log, stderr=log, **options)


class Launcher(Component, kind="launcher", check="genkit.testing:check_launcher"):
    """Abstract way to carry out the runs of a sweep.

    Implementing a launcher: hand each job to whoever schedules, and yield it with its exit code when it has ended, in
    the order in which jobs end. When the generator is closed before its end, ask the jobs that still run to end
    with SIGTERM or what takes its place, and wait for them: each writes a checkpoint.
    """

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, int], None, None]:
        """Carries out jobs; yields each with its exit code.

        Raises:
            UsageError: What it needs is not there.
        """
