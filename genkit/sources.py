"""Reads what modules say in their source, without importing or parsing them, which would take too long."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_CLASS = re.compile(  # one expression for all classes: compiling one for each takes half of a listing's time
    r"""\n[ \t]*class\ (\w+)\b[^:]*:(?:[ \t]*\#.*)?\s+   # the header, perhaps with a comment; ^ for \n is slow
        [rR]?(\"\"\"|'''|\"|')\s*(.*?)\s*(?:\2|$)      # the first line of its docstring""",
    re.MULTILINE | re.VERBOSE,
)


@cache
def summaries(module: str) -> dict[str, str]:
    """The first lines of all classes' docstrings in a module, by the classes' names."""
    found: dict[str, str] = {}
    for name, _, summary in _CLASS.findall("\n" + source(module)):
        found.setdefault(name, summary)
    return found


def stated(module: str, constant: str) -> str:
    """What a module assigns to a constant, a string on a line of its own; nothing if it does not."""
    match = re.search(rf"""^{constant}\s*(?::[^=\n]*)?=\s*(["'])(.*?)\1""", source(module), re.MULTILINE)
    return match[2] if match else ""


def location(module: str) -> str:
    """The file of a module that perhaps cannot be imported; nothing if it is not found."""
    try:
        spec = importlib.util.find_spec(module)
    except BaseException as error:
        return _nothing(error)
    return spec.origin or "" if spec else ""


def source(module: str) -> str:
    """A module's source; nothing if it has none that can be read, whatever its package does when it is imported."""
    try:
        return _beside_package(module) or _found(module)
    except BaseException as error:
        return _nothing(error)


def _nothing(error: BaseException) -> str:
    """No text, whatever a package raised while a module in it was searched; but an interrupt is not its affair."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return ""


def _beside_package(module: str) -> str:
    """The source of a module in an imported package's folder; nothing if it is not there.

    Python's own search takes longer than the reading: it imports the packages in between and asks every finder.
    """
    package, _, inner = module.partition(".")
    for folder in getattr(sys.modules.get(package), "__path__", ()) if inner else ():
        stem = os.path.join(folder, *inner.split("."))
        for path in (os.path.join(stem, "__init__.py"), f"{stem}.py"):  # in the order of Python's search
            with suppress(OSError), open(path, encoding="utf-8") as file:
                return file.read()
    return ""


def _found(module: str) -> str:
    """The source of a module that Python's own search finds."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
