"""Commands for those who write plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli.app import command

if TYPE_CHECKING:
    from genkit.testing import Finding


@command("check-plugin")
def check_plugin(
    name: Annotated[str, typer.Argument(help="A plugin's name, or that of its distribution.")],
    component: Annotated[str | None, typer.Option(help="Only this component, as kind/name.")] = None,
) -> None:
    """Checks every component of an installed plugin against the contract of its kind."""
    from genkit.testing import inspect_plugin

    findings = inspect_plugin(name, component)
    _print_findings(findings)
    if all(finding.kind == "plugin" for finding in findings):
        typer.echo(f"\n{name} registers no component")
    failed = sum(finding.outcome == "failed" for finding in findings)
    open_ones = sum(finding.outcome == "not checked" for finding in findings)
    passed = len(findings) - failed - open_ones
    typer.echo(f"\n{passed} passed, {failed} failed, {open_ones} not checked")
    if failed:
        raise typer.Exit(1)


def _print_findings(findings: Sequence[Finding]) -> None:
    """One row for each component and each of its examples, and under the table why something did not pass."""
    from rich.text import Text

    from genkit.cli.tables import print_table

    colours = {"passed": "green", "failed": "red", "not checked": "yellow"}
    rows = [
        (f.kind, f.component, _options(f), f.check.rpartition(":")[2], Text(f.outcome, colours[f.outcome]))
        for f in findings
    ]
    print_table(("kind", "name", "options", "check", "outcome"), rows)
    for finding in findings:
        if finding.message:
            options = _options(finding)
            what = f"{finding.kind} {finding.component}{f' {options}' if options else ''}"
            typer.echo(f"\n{finding.outcome}: {what}\n  {finding.message}")


def _options(finding: Finding) -> str:
    """An example's options as a recipe writes them in one line."""
    import yaml

    from genkit.component import to_plain

    if not finding.options:
        return ""
    return yaml.safe_dump(to_plain(finding.options), default_flow_style=True, sort_keys=False, width=10_000).strip()
