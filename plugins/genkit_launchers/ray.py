"""Runs handed to Ray."""

from __future__ import annotations

import importlib
import signal
import time
from collections.abc import Generator, Sequence
from typing import Any

from pydantic import NonNegativeFloat

from genkit import Job, Launcher, UsageError

ENDED = 128 + signal.SIGTERM


class Flag:
    """Tells tasks wherever they run that they are to end; one that has not begun does not begin."""

    def __init__(self) -> None:
        self.up = False

    def raise_it(self) -> None:
        """Has all tasks end."""
        self.up = True

    def is_up(self) -> bool:
        """Whether they are to end."""
        return self.up


def carry_out(job: Job, flag: Any) -> int:
    """Runs a job, and asks it to end when the flag goes up; returns its exit code."""
    ray = importlib.import_module("ray")
    if ray.get(flag.is_up.remote()):
        return ENDED
    process = job.start(start_new_session=True)
    while process.poll() is None:
        if ray.get(flag.is_up.remote()):
            process.send_signal(signal.SIGTERM)
            return process.wait()
        time.sleep(0.5)
    return process.returncode


class Ray(Launcher):
    """Each run is a task of Ray's, with the extra ``ray``.

    Args:
        address: A cluster's address, or ``auto`` for the one of the environment; without one Ray is started here.
        cpus: Cores of a run.
        gpus: GPUs of a run, a fraction if several share one.
    """

    def __init__(
        self, *, address: str | None = None, cpus: NonNegativeFloat = 1.0, gpus: NonNegativeFloat = 0.0
    ) -> None:
        self.address = address
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, int], None, None]:
        """Carries out jobs; yields each with its exit code.

        Raises:
            UsageError: Ray or its cluster is not there.
        """
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise UsageError("launcher ray needs Ray: pip install 'genkit-torch[ray]'") from error
        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        except ConnectionError as error:
            raise UsageError(f"launcher ray: no cluster at {self.address!r}: {error}") from error
        flag = ray.remote(Flag).options(num_cpus=0).remote()
        task = ray.remote(carry_out).options(max_retries=3, **self.resources)
        sent = {task.remote(job, flag): job for job in jobs}
        try:
            while sent:
                (first,), _ = ray.wait(list(sent))
                yield sent.pop(first), _code(ray, first)
        finally:
            ray.get(flag.raise_it.remote())
            if sent:
                ray.wait(list(sent), num_returns=len(sent))
            ray.shutdown()


def _code(ray: Any, one: Any) -> int:
    try:
        return ray.get(one)
    except ray.exceptions.RayError:  # its machine was lost too often
        return 1
