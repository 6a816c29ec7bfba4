"""What is installed: genkit's own plugins and recipes, all of them there and working."""

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from genkit.engine.assembly import dry_build
from genkit.recipe import Entry, Recipe, load_recipe
from genkit.recipe.schema import json_schema
from genkit.recipe.source import read
from genkit.registry import installed

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path for path in (ROOT / "plugins").glob("genkit_*") if (path / "__init__.py").is_file())
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def test_what_is_installed_works():
    registry = installed()
    assert registry.broken() == []
    assert {c.plugin.name for c in registry.components()} <= {plugin.name for plugin in registry.plugins}
    assert installed() is registry


def read_yaml(path):
    """What a recipe and those that it extends say."""
    return read(path).values


HEAVY = ("torch", "torchvision", "numpy", "pydantic", "yaml", "PIL", "tensorboard")


def test_plugins_and_their_listing_import_nothing_heavy():
    """One process imports them one after the other and says after which of them something heavy was there."""
    steps = [f"import {folder.name}" for folder in PLUGINS]
    steps += [
        "import genkit.registry; r = genkit.registry.installed(); assert not r.broken(), r.broken()",
        "[item.summary for item in r.components()]",
    ]
    code = "import sys\n" + "".join(
        f"{step}\nprint({step!r}, [m for m in {HEAVY} if m in sys.modules])\n" for step in steps
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [f"{step} []" for step in steps]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_genkits_own_loads_builds_and_reads_back(path):
    recipe = load_recipe(path)
    parts = dry_build(recipe)
    assert {str(parameter.device) for parameter in parts.model.parameters()} == {"meta"}
    assert list(parts.evaluators) == list(recipe.evaluate)
    assert load_recipe(recipe.to_plain()).to_plain() == recipe.to_plain()


def test_every_recipe_of_genkits_own_is_of_the_schema():
    schema = json_schema(installed(), Recipe, [Entry])
    validator = jsonschema.Draft202012Validator(schema)
    for path in RECIPES:
        written = read_yaml(path)
        assert [error.message for error in validator.iter_errors(written)] == [], path.name
    (flow,) = [read_yaml(path) for path in RECIPES if path.stem == "flow_toy"]
    assert not validator.is_valid({**flow, "model": {**flow["model"], "bijections": []}})  # one at least is wanted
    assert not validator.is_valid({**flow, "model": {**flow["model"], "bijections": [{"use": "mlp"}]}})


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"vae_mlp", "vae_cnn", "vae_manifold"}
