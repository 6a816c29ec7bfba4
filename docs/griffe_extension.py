"""Has mkdocstrings read genkit's docstrings: formulas and roles as Markdown, examples as code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

from markup import to_markdown


class Docstrings(griffe.Extension):
    """Translates each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called once for each module, class, function and attribute."""
        if obj.docstring is not None:
            text = to_markdown(obj.docstring.value, _public)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def _public(target: str) -> str | None:
    """A reference to a public class; whether a name is one shows in its spelling, and in the page's own list."""
    name = target.rpartition(".")[2]
    return f"[genkit.{name}]" if f"::: genkit.{name}\n" in _page() else None


def _page() -> str:
    return (Path(__file__).parent / "reference" / "api.md").read_text(encoding="utf-8")
