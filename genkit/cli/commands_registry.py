"""Commands that show what is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genkit.cli.app import PlainCommand, command

if TYPE_CHECKING:
    from genkit.registry import Registry


@command("list-plugins", PlainCommand)
def list_plugins(
    kind: Annotated[str | None, typer.Option(help="Only components of this kind.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists every plugin, broken ones with the reason, and every component by kind."""
    from genkit.registry import installed

    registry = installed()
    if kind is not None:
        registry.check_kind(kind)
    if as_json:
        import json

        typer.echo(json.dumps(_listing(registry, kind), indent=2))
    else:
        _print_listing(registry, kind)


def _listing(registry: Registry, kind: str | None) -> dict[str, Any]:
    components = [
        {
            "kind": r.kind,
            "name": registry.written(r),
            "summary": r.summary,
            "target": r.target,
            "plugin": r.plugin.name,
            "distribution": r.plugin.distribution,
        }
        for r in registry.components(kind)
    ]
    left_out = [{**asdict(plugin), "reason": reason} for plugin, reason in registry.left_out.items()]
    plugins = [asdict(plugin) for plugin in registry.plugins]
    return {"plugins": plugins, "left_out": left_out, "components": components}


def _print_listing(registry: Registry, kind: str | None) -> None:
    plugins = [
        (p.name, p.distribution, p.version, "does not work, see below" if p.error else p.location or p.module)
        for p in registry.plugins
    ]
    plugins += [(p.name, p.distribution, p.version, f"not loaded: {why}") for p, why in registry.left_out.items()]
    components = [(r.kind, registry.written(r), r.summary) for r in registry.components(kind)]
    if kind is None:
        _print_columns(("plugin", "distribution", "version", "from"), plugins)
        typer.echo()
    _print_columns(("kind", "name", "summary"), components)
    for complaint in registry.complaints():
        typer.echo(f"warning: {complaint}", err=True)
    for note in registry.shared():
        typer.echo(f"note: {note}", err=True)


def _print_columns(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns that fit a terminal, or whole lines where the reader is another program."""
    if sys.stdout is not None and sys.stdout.isatty():
        from genkit.cli.tables import print_table

        print_table(headers, rows)
        return
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (headers, *rows))
    typer.echo("\n".join("  ".join(cells).rstrip() for cells in padded))  # in one call, since each one flushes


@command("describe")
def describe(
    kind: Annotated[str, typer.Argument(help="A kind, such as model or backbone.")],
    name: Annotated[str, typer.Argument(help="A component's name.")],
) -> None:
    """Shows a component: what it is, its recipe keys, what it can do or needs, and a recipe snippet."""
    from genkit.registry import installed

    registry = installed()
    registration = registry.get(kind, name)  # before torch is imported: a misspelt name is told at once
    from genkit.cli.describe import describe_component

    describe_component(registration, registry)
