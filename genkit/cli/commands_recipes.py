"""Commands that read recipes without running them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genkit.cli.app import command, warn_of_plugins

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Overrides.")]


@command("validate")
def validate(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE|KEY.PATH=VALUE", help="Recipe files, and overrides for all of them."),
    ],
) -> None:
    """Checks recipes: every key, every name, and that the parts fit together. Trains nothing, reads no data."""
    from genkit.engine.assembly import dry_build
    from genkit.errors import DataError, RecipeError, UsageError
    from genkit.recipe import load_recipe

    warn_of_plugins()
    overrides = [text for text in arguments if "=" in text and not Path(text).exists()]
    recipes = [text for text in arguments if text not in overrides]
    if not recipes:
        raise UsageError(f"{' '.join(overrides)}: overrides of no recipe; name one before them")
    failed = []
    for name in recipes:
        try:
            dry_build(load_recipe(name, overrides))
            typer.echo(f"{name}: ok")
        except DataError as error:
            typer.echo(f"{name}: every key is right; whether the parts fit shows when the data is there: {error}")
        except RecipeError as error:
            failed += [problem for problem in error.problems if problem not in failed]
    if failed:
        raise RecipeError(failed)


@command("show")
def show(recipe: Annotated[str, typer.Argument(help="A recipe file.")], overrides: Overrides = None) -> None:
    """Prints a recipe resolved: parents merged, overrides applied, every default spelled out."""
    from genkit.engine.folder import recipe_text
    from genkit.recipe import load_recipe

    typer.echo(recipe_text(load_recipe(recipe, overrides or ())), nl=False)


@command("schema")
def schema(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")] = None,
) -> None:
    """Prints the JSON Schema of all recipes that the installed plugins allow, for editors to complete them."""
    import json

    from genkit.errors import UsageError
    from genkit.recipe import Entry, Recipe
    from genkit.recipe.schema import json_schema
    from genkit.registry import installed

    text = json.dumps(json_schema(installed(), Recipe, [Entry]), indent=2)
    if output is None:
        typer.echo(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error}") from error
    typer.echo(f"wrote {output}")
