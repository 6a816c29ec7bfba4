"""Recipes: from YAML to a checked, resolved :class:`Recipe`."""

from genkit.recipe.check import check, load_recipe
from genkit.recipe.recipe import Entry, Recipe, Train

__all__ = ["Entry", "Recipe", "Train", "check", "load_recipe"]
