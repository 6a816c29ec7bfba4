"""The command line. ``genkit --help`` imports no torch; each command imports what it needs when it runs."""

import gc
import os
import sys
import warnings

from genkit.cli import (  # noqa: F401  (they register themselves)
    commands_authors,
    commands_bench,
    commands_recipes,
    commands_registry,
    commands_report,
    commands_runs,
    commands_scaffold,
    commands_sweeps,
)
from genkit.cli.app import app, narrowed, parted

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of the ``genkit`` command."""
    gc.freeze()  # what was imported stays to the end: searching it for garbage takes a fifth of a listing's time
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    common, own = parted(sys.argv[1:])
    try:
        narrowed(own)([*common, *own])
    except SystemExit as end:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave(end.code if isinstance(end.code, int) else 0)
        raise


def _leave(code: int) -> None:
    """Ends one of several processes without the interpreter's own end.

    A thread of torch's that still lets go of its last message would find no interpreter to do it with, and abort the
    process: its launcher would take a run that is finished for one that failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
