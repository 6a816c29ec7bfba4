"""What the README says is true: its code is run, its files are there, its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ["data.train=128", "data.validation=32", "data.test=32", "train.epochs=1", "train.batch_size=32"]


def block(language, marker):
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if marker in b]
    return found


@pytest.fixture
def plugin(tmp_path):
    """The README's plugin, installed as pip would: a module and its metadata."""
    (tmp_path / "my_backbone.py").write_text(block("python", "register_components"))
    toml = block("toml", "genkit.plugins")
    group, entry = re.search(r'entry-points\."(.+)"\]\n(.+)', toml).groups()
    metadata = tmp_path / "my_backbone-0.1.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-backbone\nVersion: 0.1\n")
    return tmp_path


def genkit(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", "from genkit.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_backbone_plugin_is_a_few_lines_of_code_and_works(plugin):
    code = re.sub('""".*?"""', "", block("python", "register_components"), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    listing = json.loads(genkit(plugin, "list-plugins", "--kind", "backbone", "--json").stdout)
    assert {"wide": "One wide hidden layer."}.items() <= {
        c["name"]: c["summary"] for c in listing["components"]
    }.items()
    recipe = str(ROOT / "recipes" / "vae_mlp.yaml")
    trained = genkit(plugin, "run", recipe, "model.encoder=wide", "model.encoder.width=16", "--name", "wide", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert "lower bound" in trained.stdout
    wrong = genkit(plugin, "show", recipe, "model.encoder=wide", "model.encoder.width=2.5")
    assert wrong.returncode == 2
    assert "model.encoder.width" in wrong.stderr


def test_readme_plugin_keeps_the_contract(plugin):
    check = "from genkit.testing import check_backbone, factory; check_backbone(factory('backbone', 'wide'))"
    environment = {**os.environ, "PYTHONPATH": str(plugin)}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)


def test_python_example_runs(tmp_path):
    code = block("python", "from_python").replace(
        'overrides=["train.epochs=1", "data.train=2048"]', f"overrides={TINY}"
    )
    script = code.replace('"recipes/vae_mlp.yaml"', repr(str(ROOT / "recipes" / "vae_mlp.yaml")))
    assert script != code
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lower bound" in done.stdout


def test_recipe_is_the_shipped_one():
    shown, shipped = (
        yaml.safe_load(block("yaml", "seed: 42")),
        yaml.safe_load((ROOT / "recipes/vae_mlp.yaml").read_text()),
    )
    for section in ("seed", "data", "model", "objective", "sampler", "train"):
        assert shown[section] == shipped[section]
    assert shown["evaluate"].items() <= shipped["evaluate"].items()


def test_every_command_shown_exists():
    from typer.main import get_command

    from genkit.cli import app

    commands = set(get_command(app).commands)
    shown = set(re.findall(r"^\$ (?:.venv/bin/)?genkit ([a-z-]+)", README, re.MULTILINE))
    assert shown == commands


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert missing == []


def test_the_tree_lists_every_folder():
    (tree,) = [block for block in README.split("```") if "component.py" in block]
    for folder in (*(ROOT / "plugins").glob("genkit_*"), ROOT / "genkit" / "engine", ROOT / "genkit" / "recipe"):
        if folder.is_dir() and not folder.name.endswith(".egg-info"):
            assert f"{folder.name}/" in tree
