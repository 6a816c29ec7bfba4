"""The contract of launchers."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from genkit.component import Factory
from genkit.errors import RecipeError, UsageError
from genkit.launcher import Job, Launcher
from genkit.testing.common import NotChecked
from genkit.testing.component import contract
from genkit.testing.keeping import unseeded, untouched

CODES = {"first": 0, "second": 3, "third": 1}
SECONDS = 20
QUICK = "import os; print('in', os.getcwd()); raise SystemExit({code})"
WAITS = """
import pathlib, time
for _ in range(100):
    time.sleep(0 if pathlib.Path("started").exists() else 0.01)
"""
PATIENT = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path("asked").touch()
    time.sleep(0.2)
    pathlib.Path("ended").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)  # which may take its place
pathlib.Path("started").touch()
time.sleep({seconds})
"""


@contract
def check_launcher(build: Factory[Launcher]) -> None:
    """Checks a launcher with jobs that are real, short processes, as far as this machine has what it needs.

    Each job is carried out in its folder, writes to its log, and is yielded once with its own exit code. Closed early,
    the launcher asks the jobs that still run to end with SIGTERM, and waits for them.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
        NotChecked: What it needs is not there.
    """
    with untouched(build.name), unseeded(build.name):
        launcher = build()
    for check in (_check_jobs, _check_closing):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            try:
                check(launcher, Path(place).resolve(), build.name)
            except RecipeError:
                raise
            except UsageError as error:
                raise NotChecked(str(error)) from error


def _job(place: Path, name: str, program: str) -> Job:
    return Job(name, (sys.executable, "-c", program), place, place / "logs" / f"{name}.txt")


def _check_jobs(launcher: Launcher, place: Path, what: str) -> None:
    jobs = [_job(place, name, QUICK.format(code=code)) for name, code in CODES.items()]
    ended = list(launcher.run(jobs))
    for job, _ in ended:
        assert any(job is own for own in jobs), (
            f"{what}: it yields {job!r}, which is none of the jobs that it was given"
        )
    names = sorted(job.name for job, _ in ended)
    assert names == sorted(CODES), (
        f"{what}: of the jobs {', '.join(sorted(CODES))} it yields {', '.join(names) or 'none'}"
    )
    for job, code in ended:
        assert code == CODES[job.name], f"{what}: a job that ends with exit code {CODES[job.name]} is told with {code}"
        assert job.log.is_file(), f"{what}: what a job prints is not in its log"
        text = job.log.read_text(encoding="utf-8")
        assert f"in {place}" in text, f"{what}: a job is not carried out in its folder, or its log lacks what it prints"


def _check_closing(launcher: Launcher, place: Path, what: str) -> None:
    """A short job ends as soon as a long one is under way, or after a second, where one runs at a time."""
    jobs = [_job(place, "short", WAITS), _job(place, "long", PATIENT.format(seconds=SECONDS))]
    with closing(launcher.run(jobs)) as ended:
        next(ended)
        running = (place / "started").exists()
    if running:
        waited = (place / "ended").exists()
        asked = _comes(place / "asked")
        assert asked, f"{what}: closed early, it does not ask a job that runs to end with SIGTERM"
        _comes(place / "ended")  # nothing is left behind
        assert waited, f"{what}: closed early, it does not wait for the jobs that it asks to end"


def _comes(path: Path) -> bool:
    """Whether a file is there within two seconds."""
    end = time.monotonic() + 2
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path.exists()
