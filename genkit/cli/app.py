"""The application and how its commands end: errors as messages, with the exit code that they carry."""

from __future__ import annotations

import copy
import functools
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import genkit
from genkit.errors import GenkitError
from genkit.plugin import WITHOUT

INTERRUPTED = 130


def _taken_as_it_is(parameters: list[Any]) -> list[Any]:
    """Lets values reach a command unchecked.

    Typer checks each value with pydantic, whose import takes as long as a listing does without it.
    """
    for parameter in parameters:
        check = parameter.callback or (lambda ctx, parameter, value: value)
        parameter.process_value = lambda ctx, value, check=check, own=parameter: check(ctx, own, value)
    return parameters


class PlainCommand(TyperCommand):
    """A command whose options are flags and optional words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, unchecked."""
        return _taken_as_it_is(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """All commands, with options that are flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, unchecked."""
        return _taken_as_it_is(super().get_params(ctx))


app = typer.Typer(
    cls=PlainGroup,
    help="Generative models of images that people can trust, take apart and extend.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass
class Settings:
    """What the global options say."""

    traceback: bool = False


settings = Settings()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genkit {genkit.__version__}")
        raise typer.Exit


@app.callback()
def root(
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where in the code an error comes from.")] = False,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option("--no-plugin", metavar="NAME", help="Load everything but this plugin, or this distribution."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Holds the options of all commands."""
    settings.traceback = traceback
    if "" in (no_plugin or ()):
        raise typer.BadParameter("the name of a plugin or of a distribution is wanted", param_hint="--no-plugin")
    if no_plugin:  # in the environment, for processes that this one starts
        os.environ[WITHOUT] = ",".join([*filter(None, [os.environ.get(WITHOUT)]), *no_plugin])


def command(name: str, cls: type[TyperCommand] = TyperCommand) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a command whose errors of genkit's own kind are shown as messages, without a traceback."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
                print(end="", flush=True)
            except GenkitError as error:
                if settings.traceback:
                    raise
                rank = os.environ.get("RANK", "0")
                whose = "error: " if rank == "0" else f"error of rank {rank}: "
                said = f"{typer.style(whose, fg='red', bold=True)}{error}\n"
                typer.echo(said, nl=False, err=True)  # in one piece: other processes speak as well
                raise typer.Exit(error.exit_code) from error
            except BrokenPipeError:
                # the reader has gone; what is still to be flushed at the interpreter's exit goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                typer.echo("interrupted", err=True)
                raise typer.Exit(INTERRUPTED) from None
            except Exception as error:
                _name_culprit(error)
                raise

        return app.command(name, cls=cls)(guarded)

    return register


def _name_culprit(error: Exception) -> None:
    """Notes under an error that is nobody's message which plugin's code it passed, if it was not genkit's own."""
    from genkit.registry import OWN_DISTRIBUTION, installed

    foreign = [plugin for plugin in installed().plugins if plugin.distribution != OWN_DISTRIBUTION and plugin.location]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for plugin in foreign:
            if plugin.holds(frame.filename):
                error.add_note(
                    f"in {plugin.label} ({frame.filename}:{frame.lineno}); whether its components keep their contracts "
                    f"says: genkit check-plugin {plugin.distribution}"
                )
                return


def parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Parts the options of all commands, wherever they stand, from the command with its own words.

    Example:
        >>> parted(["list-plugins", "--no-plugin", "toy", "--json"])
        (['--no-plugin=toy'], ['list-plugins', '--json'])
    """
    common: list[str] = []
    own: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return common, [*own, word, *rest]
        if word == "--no-plugin":
            common.append(f"{word}={next(rest, '')}")
        elif word == "--traceback" or word.startswith("--no-plugin="):
            common.append(word)
        else:
            own.append(word)
    return common, own


def warn_of_plugins() -> None:
    """Says once what is wrong with plugins, before anything runs."""
    from genkit.registry import installed

    if os.environ.get("RANK", "0") == "0":
        for complaint in installed().complaints():
            typer.echo(f"warning: {complaint}", err=True)


def narrowed(words: list[str]) -> typer.Typer:
    """The application with only the command that is called; with all of them where the first word names none.

    Typer reads the signatures of all commands that it is given, which takes longer than loading the plugins.
    """
    called = [info for info in app.registered_commands if info.name in words[:1]]
    narrow = copy.copy(app)
    narrow.registered_commands = called or app.registered_commands
    return narrow
