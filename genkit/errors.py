"""Every error that a user of genkit is meant to read.

A message says where, what was given and what would have been right. The command line shows the message
alone, without a traceback, and ends with the error's ``exit_code``: 2 for a request that cannot be served,
1 for a run that failed.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass


class GenkitError(Exception):
    """Base of all errors that genkit raises on purpose."""

    exit_code = 1


class UsageError(GenkitError):
    """A request that cannot be served as it was made: a taken run name, a device that is not there."""

    exit_code = 2


class DataError(GenkitError):
    """Data that is missing, unreadable or not what its description says."""

    exit_code = 2


class PluginError(GenkitError):
    """A plugin that cannot be loaded, or a component that does not keep its contract.

    Args:
        message: What is wrong.
        plugin: The plugin's name; like all that follows, empty where it is not known.
        distribution: The installed package that it came with.
        version: That package's version.
        file: Where it is.
        remedy: What to do.

    Example:
        >>> print(PluginError("does not work", plugin="a", distribution="a-dist", version="1", remedy="update it"))
        plugin 'a' of a-dist 1 does not work; update it
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        plugin: str = "",
        distribution: str = "",
        version: str = "",
        file: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.plugin = plugin
        self.distribution = distribution
        self.version = version
        self.file = file
        self.remedy = remedy

    def __str__(self) -> str:
        place = f" ({self.file})" if self.file else ""
        whose = f"plugin {self.plugin!r} of {self.distribution} {self.version}".rstrip() + f"{place} "
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{whose if self.plugin else ''}{self.message}{remedy}"


class CheckpointError(GenkitError):
    """A checkpoint that cannot be read or does not fit what it is loaded into."""


class TrainingDiverged(GenkitError):
    """A loss that is no longer a finite number."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a recipe.

    Attributes:
        path: The key's path, ``model.encoder.hidden_dims``; empty for the recipe as a whole.
        message: What was given and what would have been right.
        location: Where it stands: ``recipes/vae_mlp.yaml:7`` or ``command line``; empty if not known.
    """

    path: str
    message: str
    location: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.location, self.path) if part)
        return f"{where}: {self.message}" if where else self.message


class RecipeError(UsageError):
    """Everything that is wrong with a recipe, found in one pass.

    Example:
        >>> print(RecipeError([Problem("seed", "a whole number is wanted, 'x' given", "r.yaml:1")]))
        r.yaml:1: seed: a whole number is wanted, 'x' given
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if len(lines) == 1:
            return lines[0]
        return "\n".join([f"{len(lines)} problems in the recipe", *(f"  {line}" for line in lines)])


class MissingPlugin(RecipeError, PluginError):
    """A recipe's component is not there: the distribution that served it is not installed, or not loaded.

    Args:
        problems: Everything that is wrong with the recipe.
        plugin: The plugin that served it.
        distribution: The distribution that the plugin came with.
        version: That distribution's version.
    """

    def __init__(self, problems: Iterable[Problem], plugin: str, distribution: str, version: str) -> None:
        super().__init__(problems)
        PluginError.__init__(self, RecipeError.__str__(self), plugin=plugin, distribution=distribution, version=version)


def told(error: BaseException) -> str:
    """One line for an exception that is not genkit's own: its type, its message and the last line of code it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be told"
    if isinstance(error, SyntaxError):
        message, place = error.msg, f" ({error.filename}:{error.lineno})"
    return " ".join(f"{type(error).__name__}: {message}{place}".split())


def closest(given: str, allowed: Iterable[str]) -> str:
    """Ends a sentence with the closest match and what is allowed.

    Example:
        >>> closest("mpl", ["mlp", "cnn"])
        "; did you mean 'mlp'? (allowed: cnn, mlp)"
        >>> closest("unet", [])
        ''
    """
    names = sorted(set(allowed))
    match = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    hint = f"; did you mean {match[0]!r}?" if match else ""
    return f"{hint} (allowed: {', '.join(names)})" if names else hint
