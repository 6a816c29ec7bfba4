"""The files that all new plugins have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genkit.plugin import API_CONSTANT, PLUGIN_API
from genkit.registry import GROUP, OWN_DISTRIBUTION
from genkit.scaffold.names import Names
from genkit.scaffold.templates import Template

WIDTH = 120
API = f">={PLUGIN_API},<{int(PLUGIN_API.partition('.')[0]) + 1}"  # the range that the templates are written for


@dataclass(frozen=True)
class Part:
    """One component of a new plugin.

    Attributes:
        template: What it starts from.
        name: Its name in recipes, and the package that it lives in.
        cls: Its class.
        recipe: The path of the recipe that uses it.
    """

    template: Template
    name: str
    cls: str
    recipe: str

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.template.kind

    @property
    def module(self) -> str:
        """Its module, ``my_resnet.backbone``."""
        return f"{self.name}.{self.kind}"

    @property
    def file(self) -> str:
        """The path of its module."""
        return f"{self.name}/{self.kind}.py"

    @property
    def words(self) -> str:
        """Its kind as prose has it, with an article.

        Example:
            >>> from genkit.plugin import Plugin
            >>> Part(Template("adversarial_loss", "", Plugin("", "", "", "")), "", "", "").words
            'an adversarial loss'
        """
        article = "an" if self.kind[0] in "aeiou" else "a"
        return f"{article} {self.kind.replace('_', ' ')}"


GITIGNORE = """\
*.egg-info/
.pytest_cache/
__pycache__/
build/
dist/
runs/
"""


def listed(parts: Sequence[Part]) -> str:
    """The components' kinds as a list in prose: a backbone, an objective and a sampler."""
    words = [part.words for part in parts]
    return " and ".join(text for text in (", ".join(words[:-1]), words[-1]) if text)


def pyproject(names: Names, parts: Sequence[Part]) -> str:
    """What pip reads, with the entry point that genkit finds the plugin by."""
    return f"""\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{names.distribution}"
version = "0.1.0"
description = "{listed(parts).capitalize()} for genkit."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["{OWN_DISTRIBUTION}"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."{GROUP}"]
{names.module} = "{names.module}"

[tool.setuptools.packages.find]
include = ["{names.module}", "{names.module}.*"]

[tool.ruff]
line-length = {WIDTH}

[tool.ruff.lint.isort]
known-first-party = ["genkit*", "{names.module}"]

[tool.pytest.ini_options]
testpaths = ["tests", "{names.module}"]
addopts = "--doctest-modules"
"""


def init(names: Names, parts: Sequence[Part]) -> str:
    """The module that the entry point names: it says where the components are, and imports none of them."""
    lines = (f'    register("{p.name}", "{p.module}:{p.cls}", kind="{p.kind}")\n' for p in parts)
    return f'''\
"""{listed(parts).capitalize()} for genkit.

genkit imports this module whenever it looks for plugins: keep it light, and import torch elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genkit import hookimpl

if TYPE_CHECKING:
    from genkit.hookspecs import Register

{API_CONSTANT} = "{API}"  # the plugin API that this is written for


@hookimpl
def register_components(register: Register) -> None:
    """Registers each component under the name that recipes use; its module is imported when it is first used."""
{"".join(lines)}'''


def test(names: Names, parts: Sequence[Part]) -> str:
    """The test: every component keeps the contract of its kind, every recipe is right."""
    checks = {part.kind: part.template.check.split(":") for part in parts}
    imports = [("genkit.recipe", "load_recipe"), ("genkit.testing", "factory"), *map(tuple, checks.values())]
    imports += [(part.module, part.cls) for part in parts]
    bodies = (_contract_test(part, checks[part.kind][1]) for part in parts)
    return f'''\
"""Every component keeps the contract of its kind, and every recipe is right."""

from pathlib import Path

import pytest

{_import_lines(imports)}
RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))

{"".join(bodies)}
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_key_of_a_recipe_is_right(path: Path) -> None:
    assert load_recipe(path).to_plain()
'''


def _contract_test(part: Part, check: str) -> str:
    return f'''
@pytest.mark.parametrize("options", {part.cls}.examples)
def test_the_{part.kind}_keeps_its_contract(options: dict) -> None:
    {check}(factory("{part.kind}", {{"use": "{part.name}", **options}}))

'''


def _import_lines(imports: Iterable[tuple[str, ...]]) -> str:
    r"""Import statements, sorted and wrapped as ruff has them.

    Example:
        >>> _import_lines([("b", "z"), ("b", "y"), ("a", "x")])
        'from a import x\nfrom b import y, z\n'
    """
    modules: dict[str, set[str]] = {}
    for module, name in imports:
        modules.setdefault(module, set()).add(name)
    text = ""
    for module, found in sorted(modules.items()):
        line = f"from {module} import {', '.join(sorted(found))}"
        rows = "".join(f"    {name},\n" for name in sorted(found))
        text += f"{line}\n" if len(line) <= WIDTH else f"from {module} import (\n{rows})\n"
    return text


def readme(names: Names, parts: Sequence[Part]) -> str:
    """What it is, and what to do with it."""
    rows = "".join(f"| {p.kind} | `{p.name}` | `{p.file}` | `{p.recipe}` |\n" for p in parts)
    runs = "".join(f"$ genkit run {part.recipe}\n" for part in parts)
    code, first = ", ".join(f"`{part.file}`" for part in parts), parts[0]
    return f"""\
# {names.distribution}

{listed(parts).capitalize()} for genkit.

| kind | name in recipes | code | a recipe that uses it |
|---|---|---|---|
{rows}
## Install

In this folder, into the environment that genkit is in:

```console
$ pip install --editable '.[test]'
$ genkit list-plugins            # {names.module} is among them
```

## Run

```console
{runs}$ genkit describe {first.kind} {first.name}      # its keys, read off the constructor
```

In any other recipe, name it where {" or ".join(part.words for part in parts)} stands: `use: {first.name}`.

## Check

```console
$ python -m pytest                       # the contracts, the examples in docstrings, the recipes
$ genkit check-plugin {names.distribution}
$ genkit validate recipes/*.yaml
```

## Change it

1. Write your own method into {code}.
   The docstring of the class that it inherits says step by step what genkit expects; the checks say what is not kept.
2. Whatever a recipe should be able to set is a keyword-only argument of the constructor, with an annotation, a default
   and a line in `Args:`. There is nothing else to declare.
3. Options that the tests should try as well go into the class attribute `examples`, a tuple of mappings.
4. A further component is a further file, and a further line in `{names.module}/__init__.py`.
5. Before others use it: give it a version, an author and a license in `pyproject.toml`.
"""
