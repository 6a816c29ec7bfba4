"""What a plugin is, which of those that are installed are wanted, and which genkit they were written for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genkit.errors import PluginError, closest

PLUGIN_API = "1.0"
"""The number of the plugin API: the first part grows when a plugin may have to change, the second when it may gain."""

API_CONSTANT = "GENKIT_API"
"""What a plugin's module calls the range of API numbers that it was written for, such as ``">=1.0,<2"``."""

ONLY, WITHOUT, STRICT = "GENKIT_LOAD_PLUGINS", "GENKIT_NO_PLUGINS", "GENKIT_STRICT_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group ``genkit.plugins``.

    Attributes:
        name: The entry point's name.
        module: The module that it names.
        distribution: The installed package it came with.
        version: That package's version.
        location: The module's file; empty if it could not be found.
        error: Why it does not work; empty if it does.
        remedy: What to do about that.
        notes: What it does that a plugin should not, though it works.
    """

    name: str
    module: str
    distribution: str
    version: str
    location: str = ""
    error: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}".rstrip()

    def fault(self, message: str, remedy: str = "") -> PluginError:
        """An error that is this plugin's, with all that its author or its user must know."""
        return PluginError(
            message,
            plugin=self.name,
            distribution=self.distribution,
            version=self.version,
            file=self.location or self.module,
            remedy=remedy or self.usual_remedy,
        )

    @property
    def usual_remedy(self) -> str:
        """What helps with every plugin that does not work."""
        return f"mend, update or uninstall {self.distribution}, or leave it out with --no-plugin {self.name}"

    def complaints(self) -> list[PluginError]:
        """All that is wrong with it, each as an error."""
        failure = [self.fault(f"does not work: {self.error}", self.remedy)] if self.error else []
        return [*failure, *(self.fault(note) for note in self.notes)]

    def holds(self, file: str) -> bool:
        """Whether a file is its module's, or lies in the package that its module is."""
        own = Path(self.location)
        return Path(file) == own or (own.name == "__init__.py" and own.parent in Path(file).parents)

    def goes_by(self, name: str) -> bool:
        """Whether a name is its own or its distribution's."""
        return name == self.name or same_distribution(name, self.distribution)


def same_distribution(one: str, other: str) -> bool:
    """Whether two names are the same distribution's, as package indexes compare them.

    Example:
        >>> same_distribution("My_Resnet", "my-resnet")
        True
    """
    return _normalized(one) == _normalized(other)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Selection:
    """Which plugins are wanted, by their own or their distributions' names.

    Attributes:
        only: Just these; ``None`` for all.
        without: All but these.
    """

    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()

    @classmethod
    def of_environment(cls) -> Selection:
        """What ``GENKIT_LOAD_PLUGINS`` and ``GENKIT_NO_PLUGINS`` say."""
        return cls(_names(os.environ.get(ONLY, "")) or None, _names(os.environ.get(WITHOUT, "")))

    def reason_against(self, plugin: Plugin) -> str:
        """Why a plugin is not wanted; empty if it is."""
        if self.only is not None and not any(map(plugin.goes_by, self.only)):
            return f"{ONLY} does not name it"
        if any(map(plugin.goes_by, self.without)):
            return f"--no-plugin or {WITHOUT} names it"
        return ""

    def check(self, plugins: Iterable[Plugin]) -> None:
        """Checks that there is a plugin for each name.

        Raises:
            PluginError: There is none.
        """
        found = list(plugins)
        allowed = {name for plugin in found for name in (plugin.name, plugin.distribution)}
        for variable, names in ((ONLY, self.only or ()), (f"--no-plugin or {WITHOUT}", self.without)):
            for name in names:
                if not any(plugin.goes_by(name) for plugin in found):
                    raise PluginError(
                        f"{variable} names {name!r}, but no plugin or distribution of plugins that is installed is "
                        f"called so{closest(name, allowed)}"
                    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def is_strict() -> bool:
    """Whether every problem of a plugin is to end the program."""
    return os.environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no", "off")


def api_problem(stated: object) -> str:
    """Why a plugin that states this range of API numbers cannot be loaded; empty if it can.

    Example:
        >>> api_problem(">=2,<3")
        'it was written for the plugin API >=2,<3, and this genkit has 1.0'
        >>> api_problem(">=1.0,<2")
        ''
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415  (only where a plugin states one)

    try:
        fits = SpecifierSet(str(stated)).contains(PLUGIN_API)
    except InvalidSpecifier:
        return f"{API_CONSTANT} = {stated!r} is no range of versions; write '>=1.0,<2', for example"
    return "" if fits else f"it was written for the plugin API {stated}, and this genkit has {PLUGIN_API}"
