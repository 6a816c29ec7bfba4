"""Documentation that can drift is held to the code: hooks, recipe keys, the tutorial."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genkit import hookspecs
from genkit.recipe.recipe import Entry, Recipe, Served, Train
from genkit.recipe.schema import options_of

DOCS = Path(__file__).parents[1] / "docs"
HOOKS = {
    name: f"{name}({', '.join(inspect.signature(function).parameters)})"
    for name, function in vars(hookspecs).items()
    if getattr(function, "genkit_spec", None) is not None
}


def test_every_hook_is_a_heading_with_its_signature():
    headings = re.findall(r"^## (.+)$", (DOCS / "hooks.md").read_text(), re.MULTILINE)
    assert len(HOOKS) >= 8
    assert headings == list(HOOKS.values())


@pytest.mark.parametrize("owner", [Recipe, Train, Entry, Served], ids=lambda owner: owner.__name__)
def test_every_recipe_key_is_documented_with_its_default(owner):
    page = (DOCS / "recipes.md").read_text()
    for name, option in options_of(owner).items():
        row = re.search(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert row, f"{owner.__name__}.{name} is not in docs/recipes.md"
        assert option.description, f"{owner.__name__}.{name} has no description"
        if isinstance(option.default, int | float | str):
            shown = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
            assert f"`{shown}`" in row[0], f"the default of {name} is {shown}"


def test_tutorial_runs(tmp_path):
    """The tutorial's plugin, its recipe line and its test, as written."""
    page = (DOCS / "writing-a-plugin.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (module,) = [block for block in blocks if "class Laplace" in block]
    (test,) = [block for block in blocks if "def test_" in block]
    (entry,) = re.findall(r"`evaluate: (\{near: .*?\}\})`", page)
    (tmp_path / "tutorial.py").write_text(module)
    (tmp_path / "test_tutorial.py").write_text(test)
    metadata = tmp_path / "tutorial-1.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text("[genkit.plugins]\ntutorial = tutorial\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tutorial\nVersion: 1\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tutorial.py"]
    checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "1 passed" in checked.stdout
    recipe = DOCS.parent / "recipes" / "vae_mlp.yaml"
    command = [sys.executable, "-c", "from genkit.cli import main; main()", "show", str(recipe), f"evaluate={entry}"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "kernel: {use: laplace, scale: 50.0}" in shown.stdout, shown.stderr
