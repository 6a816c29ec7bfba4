"""The templates of new components, as plugins offer them."""

from __future__ import annotations

import importlib.resources
import io
import re
import tokenize
from dataclasses import dataclass, field

from genkit.errors import PluginError
from genkit.registry import Registry

CLASS = "Template"
NAME = "template"


@dataclass(frozen=True)
class Template:
    """What a new component of a kind starts from.

    Attributes:
        kind: The kind's name.
        module: The module whose source it is; its recipe lies beside it.
        check: The check of the kind's contract, ``module:function``.
        owner: The plugin that offers it, as messages name it.
    """

    kind: str
    module: str
    check: str
    owner: str

    def component(self, name: str, cls: str) -> str:
        """The source of a component with the given name in recipes, and class.

        Raises:
            PluginError: The plugin does not hold what it offers.
        """
        source = self._read(".py")
        if not re.search(rf"^class {CLASS}\(", source, re.MULTILINE):
            raise PluginError(f"{self._label}: there is no class {CLASS} in it")
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

    @property
    def _label(self) -> str:
        return f"{self.owner}: the template of kind {self.kind!r} ({self.module})"

    def _read(self, suffix: str) -> str:
        package, _, stem = self.module.rpartition(".")
        try:
            return importlib.resources.files(package).joinpath(stem + suffix).read_text(encoding="utf-8")
        except (OSError, ValueError, ImportError, TypeError) as error:
            raise PluginError(f"{self._label}: {stem}{suffix} cannot be read: {error}") from error


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
        problems: What plugins offered in vain, one sentence each.
    """

    templates: dict[str, Template] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, template: Template) -> None:
        """Adds a template.

        Raises:
            PluginError: There is one of this kind.
        """
        other = self.templates.get(template.kind)
        if other is not None:
            raise PluginError(f"there is a template of kind {template.kind!r} already, from {other.owner}")
        if not (re.fullmatch(r"\w+(\.\w+)+", template.module) and re.fullmatch(r"[\w.]+:\w+", template.check)):
            raise PluginError(
                f"template of kind {template.kind!r}: a module within a package and a check 'module:function' are "
                f"wanted, {template.module!r} and {template.check!r} given"
            )
        self.templates[template.kind] = template


def offered(registry: Registry) -> Offer:
    """Asks every plugin for its templates, each apart: one that fails takes nobody else's away."""
    offer = Offer()
    manager = registry.manager
    for label, plugin in manager.list_name_plugin():
        others = [other for other in manager.get_plugins() if other is not plugin]
        owner = "plugin {1!r} of {0}".format(*label.split(":", 1)) if ":" in label else f"plugin {label!r}"

        def register(kind: str, module: str, *, check: str, owner: str = owner) -> None:
            offer.add(Template(kind, module, check, owner))

        try:
            manager.subset_hook_caller("register_templates", others)(register=register)
        except (Exception, SystemExit) as error:
            offer.problems.append(f"{owner}: register_templates: {type(error).__name__}: {error}")
    return offer
