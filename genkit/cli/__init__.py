"""The command line. ``genkit --help`` imports no torch; each command imports what it needs when it runs."""

import gc
import sys
import warnings

from genkit.cli import (  # noqa: F401  (they register themselves)
    commands_bench,
    commands_recipes,
    commands_registry,
    commands_runs,
    commands_sweeps,
)
from genkit.cli.app import app, narrowed

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of the ``genkit`` command."""
    gc.freeze()  # what was imported stays to the end: searching it for garbage takes a fifth of a listing's time
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    narrowed(sys.argv[1:])()
