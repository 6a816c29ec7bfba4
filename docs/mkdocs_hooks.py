"""Has MkDocs write formulas as MathML, which browsers show without a script: the site needs no network.

A formula that cannot be translated, and markup that nothing has rendered, end the build.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
_VERBATIM = re.compile(r"<(pre|code|math|script|style)\b.*?</\1>", re.DOTALL)
_LEFT_OVER = re.compile(r":\w+:`|\.\. \w+::|`|\$\S|^&gt;&gt;&gt; |\\[(\[]|\[[\w.]+\]\[\w", re.MULTILINE)
_SPACE = '<mspace width="0.17em"/>'
_FUNCTION = r"<mi>(?:log|ln|exp|sin|cos|tanh)</mi>"


def on_page_content(content: str, page: Any, **kwargs: Any) -> str:
    """Called with the HTML of a page's text, before the template goes around it."""
    where = page.file.src_uri
    content = _INLINE.sub(lambda match: mathml(match[1], "inline", where), content)
    content = _DISPLAY.sub(lambda match: mathml(match[1], "block", where), content)
    text = re.sub(r"<[^>]*>", "", _VERBATIM.sub("", content))
    if left := _LEFT_OVER.search(text):
        around = text[max(0, left.start() - 60) : left.end() + 60]
        raise PluginError(f"{where}: markup that is not rendered: {around!r}")
    return content


def mathml(escaped: str, display: str, where: str) -> str:
    """One formula, with a thin space around the names of functions, which MathML sets none around.

    Raises:
        PluginError: There is a command in it that cannot be translated.
    """
    formula = html.unescape(escaped).strip()
    translated = convert(formula, display=display)
    if "\\" in translated or "<mi>&</mi>" in translated:
        raise PluginError(f"{where}: this formula has a command that latex2mathml does not know: {formula}")
    after = re.sub(rf"({_FUNCTION})(?=<mi>|<mrow>|<mfrac>|<msub|<mn>|<mover>)", rf"\1{_SPACE}", translated)
    return re.sub(rf"(</(?:mi|mn|msub|msup|msubsup|mfrac|mrow)>)(?={_FUNCTION})", rf"\1{_SPACE}", after)
