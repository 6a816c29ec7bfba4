"""A new plugin as files: planned, then written as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genkit.errors import PluginError, closest
from genkit.registry import Registry
from genkit.scaffold import texts
from genkit.scaffold.names import Names, check_free, names_of
from genkit.scaffold.templates import Offer, Template
from genkit.scaffold.texts import Part


@dataclass(frozen=True)
class Distribution:
    """A new plugin that is not written yet.

    Attributes:
        names: What it goes by.
        parts: Its components.
    """

    names: Names
    parts: tuple[Part, ...]

    def files(self) -> dict[str, str]:
        """The text of each file, by its path within the distribution's folder.

        Raises:
            PluginError: A template cannot be read.
        """
        names, module = self.names, self.names.module
        common = {
            "pyproject.toml": texts.pyproject(names, self.parts),
            "README.md": texts.readme(names, self.parts),
            ".gitignore": texts.GITIGNORE,
            f"{module}/__init__.py": texts.init(names, self.parts),
            "tests/test_contract.py": texts.test(names, self.parts),
        }
        components = {part.file: part.template.component(part.name, part.cls) for part in self.parts}
        recipes = {part.recipe: part.template.recipe(part.name, part.cls) for part in self.parts}
        return dict(sorted({**common, **components, **recipes}.items()))

    def write(self, directory: Path) -> Path:
        """Writes the distribution's folder, as a whole or not at all.

        Args:
            directory: Where the folder is made.

        Returns:
            The folder.

        Raises:
            PluginError: The folder exists, or cannot be written.
            PluginError: A template cannot be read.
        """
        files, folder = self.files(), directory / self.names.distribution
        try:
            if folder.exists() or folder.is_symlink():
                raise PluginError(f"{folder} exists: choose another name or another --directory")
            with tempfile.TemporaryDirectory(prefix=".", dir=directory) as unfinished:
                whole = Path(unfinished, folder.name)
                for path, text in files.items():
                    (whole / path).parent.mkdir(parents=True, exist_ok=True)
                    (whole / path).write_text(text, encoding="utf-8")
                whole.rename(folder)
        except OSError as error:
            raise PluginError(f"{folder} cannot be written: {error.strerror or error}") from error
        return folder


def plan(name: str, kinds: Sequence[str], registry: Registry, offer: Offer) -> Distribution:
    """Plans a new plugin.

    Args:
        name: The distribution's name.
        kinds: The kinds of its components, one of each.
        registry: What is installed.
        offer: The templates that there are.

    Raises:
        PluginError: A name or a kind cannot be served.
    """
    names = names_of(name)
    templates = [_template(kind, registry, offer) for kind in kinds]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise PluginError(f"kind {kind!r} is given {kinds.count(kind)} times: a plugin begins with one of a kind")
    check_free(names, list(kinds), registry)
    parts = tuple(_part(names, template, alone=len(kinds) == 1) for template in templates)
    for part in parts:
        if part.cls in part.template.words():
            raise PluginError(f"name {name!r}: its class {part.cls!r} would hide what it is made of; choose another")
    return Distribution(names, parts)


def _template(kind: str, registry: Registry, offer: Offer) -> Template:
    if kind in offer.templates:
        return offer.templates[kind]
    there = f"; there are templates for {', '.join(sorted(offer.templates)) or 'no kind'}"
    if kind not in registry.kinds():
        hint = closest(kind, [*registry.kinds(), *offer.templates]).partition(" (allowed")[0]
        raise PluginError(f"no kind {kind!r}{hint}{there}")
    makers = sorted({f"{r.plugin.name!r} of {r.plugin.distribution}" for r in registry.components(kind)})
    raise PluginError(f"kind {kind!r}, of plugin {', '.join(makers)}, has no template{there}")


def _part(names: Names, template: Template, *, alone: bool) -> Part:
    """A component; where there are several, their classes and recipes are told apart by their kinds."""
    suffix = "" if alone else "".join(word.capitalize() for word in template.kind.split("_"))
    recipe = names.module if alone else f"{names.module}_{template.kind}"
    return Part(template, names.module, names.cls + suffix, f"recipes/{recipe}.yaml")
