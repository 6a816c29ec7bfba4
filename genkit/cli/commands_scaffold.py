"""The command that makes a new plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli.app import command


@command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The distribution's name, such as my-resnet.")],
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A component's kind, backbone if none is said; any number of them."),
    ] = None,
    directory: Annotated[Path, typer.Option("--directory", help="Where the plugin's folder is made.")] = Path("."),
) -> None:
    """Makes a plugin of your own: a package with a component of each kind, a recipe, a test and a README."""
    from genkit.plugin import is_strict
    from genkit.registry import installed
    from genkit.scaffold import plan
    from genkit.scaffold.templates import offered

    registry = installed()
    offer = offered(registry)
    if offer.problems and is_strict():
        raise offer.problems[0]
    for problem in offer.problems:
        typer.echo(f"warning: {problem}", err=True)
    planned = plan(name, kind or ["backbone"], registry, offer)
    folder = planned.write(directory)
    typer.echo(f"wrote {folder}, a plugin with")
    for part in planned.parts:
        typer.echo(f"  {part.words} {part.name!r}: {folder / part.file}")
    typer.echo(f"\nIn {folder}:\n")
    runs = [f"genkit run {part.recipe}" for part in planned.parts]
    for line in ("pip install --editable '.[test]'", "python -m pytest", *runs):
        typer.echo(f"  {line}")
