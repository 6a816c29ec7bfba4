"""The command line. ``genkit --help`` imports no torch; each command imports what it needs when it runs."""

import warnings

from genkit.cli import commands_recipes, commands_registry, commands_runs  # noqa: F401  (they register themselves)
from genkit.cli.app import app


def main() -> None:
    """The entry point of the ``genkit`` command."""
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    app()
