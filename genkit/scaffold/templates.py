"""The templates of new components, as plugins offer them."""

from __future__ import annotations

import importlib
import importlib.resources
import io
import re
import tokenize
from dataclasses import dataclass, field
from functools import cached_property

from genkit.errors import PluginError, told
from genkit.isolation import watched
from genkit.plugin import Plugin
from genkit.registry import PASSED_ON, Registry

CLASS = "Template"
NAME = "template"


@dataclass(frozen=True)
class Template:
    """What a new component of a kind starts from.

    Attributes:
        kind: The kind's name.
        module: The module whose source it is; its recipe lies beside it.
        owner: The plugin that offers it.
    """

    kind: str
    module: str
    owner: Plugin

    @cached_property
    def check(self) -> str:
        """The check of the kind's contract, ``module:function``, as the kind names it.

        Raises:
            PluginError: The template cannot be imported, or its kind names no check.
        """
        self._read(".py")
        try:
            check = getattr(importlib.import_module(self.module), CLASS).check
        except PASSED_ON:
            raise
        except BaseException as error:
            raise self._fault(f"cannot be imported: {told(error)}") from error
        if not check:
            raise self._fault('is of a kind that names no check: class Kind(Component, kind="...", check="...")')
        return check

    def component(self, name: str, cls: str) -> str:
        """The source of a component with the given name in recipes, and class.

        Raises:
            PluginError: The plugin does not hold what it offers.
        """
        source = self._read(".py")
        if not re.search(rf"^class {CLASS}\(", source, re.MULTILINE):
            raise self._fault(f"has no class {CLASS}")
        return renamed(source, name, cls)

    def recipe(self, name: str, cls: str) -> str:
        """A recipe that uses the component.

        Raises:
            PluginError: The plugin does not hold what it offers.
        """
        return renamed(self._read(".yaml"), name, cls)

    def words(self) -> set[str]:
        """All names in the source's code, which a new class must not take."""
        tokens = tokenize.generate_tokens(io.StringIO(self._read(".py")).readline)
        return {token.string for token in tokens if token.type == tokenize.NAME}

    def _fault(self, message: str) -> PluginError:
        return self.owner.fault(f"offers a template of kind {self.kind!r} ({self.module}) that {message}")

    def _read(self, suffix: str) -> str:
        package, _, stem = self.module.rpartition(".")
        try:
            return importlib.resources.files(package).joinpath(stem + suffix).read_text(encoding="utf-8")
        except (OSError, ValueError, ImportError, TypeError) as error:
            raise self._fault(f"cannot be read: {stem}{suffix}: {error}") from error


def renamed(text: str, name: str, cls: str) -> str:
    """A template's text with the names of a component in the places of its own.

    Example:
        >>> renamed("class Template(Backbone):  # use: template", "wide", "Wide")
        'class Wide(Backbone):  # use: wide'
    """
    return re.sub(rf"\b{CLASS}\b", cls, re.sub(rf"\b{NAME}\b", name, text))


@dataclass
class Offer:
    """All templates that there are.

    Attributes:
        templates: By kind.
        problems: What plugins offered in vain.
    """

    templates: dict[str, Template] = field(default_factory=dict)
    problems: list[PluginError] = field(default_factory=list)

    def add(self, template: Template) -> None:
        """Adds a template.

        Raises:
            PluginError: There is one of this kind.
        """
        other = self.templates.get(template.kind)
        if other is not None:
            raise PluginError(f"{other.owner.label} offers a template of kind {template.kind!r} already")
        if not re.fullmatch(r"\w+(\.\w+)+", template.module):
            raise PluginError(
                f"template of kind {template.kind!r}: a module within a package is wanted, {template.module!r} given"
            )
        self.templates[template.kind] = template


def offered(registry: Registry) -> Offer:
    """Asks every plugin for its templates, each apart: one that fails takes nobody else's away."""
    offer = Offer()
    for plugin in registry.plugins:

        def register(kind: str, module: str, owner: Plugin = plugin) -> None:
            offer.add(Template(kind, module, owner))

        with watched() as conduct:
            try:
                registry.ask(plugin, "register_templates", register=register)
            except PASSED_ON:
                raise
            except BaseException as error:
                offer.problems.append(plugin.fault(f"offers templates in vain: {told(error)}"))
        offer.problems += [plugin.fault(f"{each} when it offered templates") for each in conduct.complaints()]
    return offer
