"""The page on testing names every public check and part, and its example of a check works as written."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from genkit import Component, Factory, testing
from genkit.component import kind_class
from genkit.registry import installed

PAGE = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_on_the_page(name):
    assert re.search(rf"`{name}[`(]", PAGE) or f"from genkit.testing import check_backbone, {name}" in PAGE


@pytest.mark.parametrize("kind", installed().kinds())
def test_the_check_of_every_kind_is_in_a_table(kind):
    module, _, function = kind_class(installed().components(kind)[0].load()).check.partition(":")
    name = function if module == "genkit.testing" else f"{module}.{function}"
    assert re.search(rf"^\| `{re.escape(name)}` \| .+ \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", [*testing.__all__, *sorted({*re.findall(r"`(genkit_\w+\.testing\.\w+)`", PAGE)})])
def test_every_public_name_has_a_docstring(name):
    module, _, attribute = f"genkit.testing.{name}".rpartition(".") if "." not in name else name.rpartition(".")
    assert (getattr(importlib.import_module(module), attribute).__doc__ or "").strip()


class Kernel(Component, kind="kernel_of_a_page"):
    """Abstract kernel."""


class Laplace(Kernel):
    """Sound."""

    def __init__(self):
        pass

    def __call__(self, x, y):
        return torch.exp(-(x - y).abs().sum(1))


class Lopsided(Laplace):
    """Not symmetric."""

    def __init__(self):
        super().__init__()

    def __call__(self, x, y):
        return super().__call__(x, 2 * y)


class Draws(Laplace):
    """By chance."""

    def __init__(self):
        super().__init__()

    def __call__(self, x, y):
        return torch.rand(len(x))


def test_the_pages_check_catches_what_it_says():
    (source,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def check_kernel" in block]
    names = {}
    exec(source, names)
    check = names["check_kernel"]
    check(Factory("laplace", {}, Laplace))
    for cls, message in ((Lopsided, "it is not symmetric"), (Draws, "draws random numbers")):
        with pytest.raises(AssertionError, match=message):
            check(Factory("broken", {}, cls))
