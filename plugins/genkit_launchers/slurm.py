"""Runs handed to SLURM through submitit."""

from __future__ import annotations

import importlib
import signal
import time
from collections.abc import Generator, Sequence
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from genkit import Job, Launcher, UsageError

PAUSE = 0.2
"""Seconds between two looks at a run."""
WARNING = 80.0
"""Seconds that a run has to end in: submitit asks SLURM to say so 90 seconds ahead."""


class Command:
    """A job as submitit sends it: when its time is up or its node is taken away, it is put in the queue again."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> int:
        """Runs it; returns its exit code.

        SLURM's warning reaches every process of a job: the run leaves it to submitit, which calls :meth:`checkpoint`.
        """
        self.process = self.job.start(preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))
        while self.process.poll() is None:  # waiting would hold a lock that a signal's handler needs
            time.sleep(PAUSE)
        return self.process.returncode

    def checkpoint(self) -> Any:
        """Has the run write a checkpoint; returns what goes on in its place, the same command, which continues it."""
        self.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + WARNING
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(PAUSE)
        return importlib.import_module("submitit.helpers").DelayedSubmission(Command(self.job))


class Slurm(Launcher):
    """Each run is a job of SLURM's, with the extra ``slurm`` (submitit).

    Args:
        partition: SLURM's partition; its own default, if not given.
        account: The account that pays.
        hours: Longest time of a job; one that needs more is put in the queue again and goes on.
        cpus: Cores of a run.
        gpus: GPUs of a run.
        memory_gb: Memory of a run.
        at_once: Most jobs that run at the same time.
        cluster: ``local`` has submitit run the jobs on this machine, to try a sweep out.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        account: str | None = None,
        hours: PositiveFloat = 24.0,
        cpus: PositiveInt = 4,
        gpus: NonNegativeInt = 1,
        memory_gb: PositiveFloat | None = None,
        at_once: PositiveInt = 256,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        self.cluster = cluster
        wanted = {
            "timeout_min": round(60 * hours),
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem_gb": memory_gb,
            "slurm_array_parallelism": at_once,
            "slurm_partition": partition,
            "slurm_additional_parameters": {"account": account} if account else None,
        }
        self.parameters = {key: value for key, value in wanted.items() if value is not None}

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, int], None, None]:
        """Carries out jobs; yields each with its exit code.

        Raises:
            UsageError: submitit or SLURM is not there.
        """
        try:
            submitit = importlib.import_module("submitit")
        except ImportError as error:
            raise UsageError("launcher slurm needs submitit: pip install 'genkit-torch[slurm]'") from error
        try:
            executor = submitit.AutoExecutor(folder=jobs[0].log.parent / "slurm", cluster=self.cluster)
        except RuntimeError as error:
            raise UsageError(f"launcher slurm: {error}") from error
        executor.update_parameters(name=jobs[0].log.parent.parent.name, **self.parameters)
        with executor.batch():
            sent = [executor.submit(Command(job)) for job in jobs]
        yield from _ended(dict(zip(sent, jobs, strict=True)))


def _ended(sent: dict[Any, Job]) -> Generator[tuple[Job, int], None, None]:
    helpers = importlib.import_module("submitit.helpers")
    open_ones = dict(sent)
    try:
        for one in helpers.as_completed(list(sent)):
            error = one.exception()
            yield open_ones.pop(one), 1 if error is not None else one.result()
    finally:
        for one in open_ones:
            one.cancel()
