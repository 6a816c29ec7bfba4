"""Turns the docstrings' markup, Google style with reStructuredText roles and formulas, into Markdown.

Formulas become ``$...$`` and ``$$...$$``, which the site and GitHub both render.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_DISPLAY = re.compile(r"^([ \t]*)\.\. math::\s*(\S.*(?:\n\1[ \t]+\S.*)*)", re.MULTILINE)
_CODE = re.compile(r"^([ \t]*)\.\. code-block:: (\w+)\n\n((?:\1[ \t]+.*\n?|[ \t]*\n)+)", re.MULTILINE)
_SECTION = re.compile(r"^(\w+):\n((?:[ \t]+.*(?:\n|$)|[ \t]*\n)+)", re.MULTILINE)
LEFT_OUT = ("Args", "Attributes", "Example")


def to_markdown(docstring: str, link: Callable[[str], str | None] = lambda name: None) -> str:
    r"""Markdown for a docstring, its sections left as they are.

    Args:
        docstring: The text, cleaned of its indentation.
        link: The address of a name that a role refers to; ``None`` for names without one.

    Example:
        >>> to_markdown("The latent :math:`z` of ``x``, see :meth:`~a.B.encode`.")
        'The latent $z$ of `x`, see `encode`.'
        >>> to_markdown(".. math:: a +\n    b\n\nMore.")
        '\n$$\na + b\n$$\n\n\nMore.'
    """
    text = _CODE.sub(_fenced, _DISPLAY.sub(_display, docstring))
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = re.sub(r":\w+:`([^`]*)`", lambda match: _reference(match[1], link), text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def prose(docstring: str, link: Callable[[str], str | None] = lambda name: None) -> str:
    r"""Markdown for what a docstring says beside its tables and examples.

    Example:
        >>> prose("A thing.\n\nArgs:\n    size: How large.\n\nReferences:\n    A paper,\n    1999.")
        'A thing.\n\n**References.** A paper, 1999.'
    """

    def section(match: re.Match[str]) -> str:
        name, body = match[1], " ".join(match[2].split())
        return "" if name in LEFT_OUT else f"**{name}.** {body}\n\n"

    return re.sub(r"\n{3,}", "\n\n", to_markdown(_SECTION.sub(section, docstring), link)).strip()


def cell(text: str) -> str:
    r"""Markdown that may stand in a table.

    Example:
        >>> cell("a | b, $|x|$")
        'a \\| b, $\\vert x\\vert $'
    """
    bars = re.sub(r"\$[^$]*\$", lambda match: re.sub(r"\\?\|", _bar, match[0]), " ".join(text.split()))
    return re.sub(r"(?<!\\)\|", r"\\|", bars)


def _bar(match: re.Match[str]) -> str:
    return r"\Vert " if match[0] == r"\|" else r"\vert "


def _display(match: re.Match[str]) -> str:
    indent, body = match[1], " ".join(match[2].split())
    return f"\n{indent}$$\n{indent}{body}\n{indent}$$\n"


def _fenced(match: re.Match[str]) -> str:
    indent, language, code = match.groups()
    lines = [line.removeprefix(indent + "    ") for line in code.rstrip().split("\n")]
    return "\n".join(f"{indent}{line}".rstrip() for line in (f"```{language}", *lines, "```")) + "\n\n"


def _reference(target: str, link: Callable[[str], str | None]) -> str:
    name = target.rpartition(".")[2] if target.startswith("~") else target
    address = link(target.lstrip("~"))
    return f"[`{name}`]{address}" if address else f"`{name}`"
