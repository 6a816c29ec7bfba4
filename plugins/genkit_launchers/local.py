"""Runs on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from pydantic import PositiveInt

from genkit import Job, Launcher


class Local(Launcher):
    """So many runs at a time on this machine, each with its share of the cores and a GPU in turn.

    Args:
        jobs: Runs at a time.
    """

    def __init__(self, *, jobs: PositiveInt = 1) -> None:
        self.jobs = jobs

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, int], None, None]:
        """Carries out jobs; yields each with its exit code."""
        waiting = list(jobs)
        running: dict[int, tuple[Job, subprocess.Popen[Any]]] = {}
        try:
            while waiting or running:
                for place in range(self.jobs):
                    if waiting and place not in running:
                        job = waiting.pop(0)  # of its own group: the terminal's signals reach it through here alone
                        running[place] = job, job.start(env=self.environment(place), start_new_session=True)
                ended = [place for place, (_, process) in running.items() if process.poll() is not None]
                for place in ended:
                    job, process = running.pop(place)
                    yield job, process.returncode
                if not ended:
                    time.sleep(0.05)
        finally:
            for _, process in running.values():
                process.send_signal(signal.SIGTERM)
            for _, process in running.values():
                process.wait()

    def environment(self, place: int) -> Mapping[str, str]:
        """What tells a run which share of the machine is its own."""
        given = dict(os.environ)
        if self.jobs > 1:
            cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
            given.setdefault("OMP_NUM_THREADS", str(max(1, cores // self.jobs)))
        gpus = torch.cuda.device_count()
        if gpus > 1:
            names = given.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
            given["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
        return given
