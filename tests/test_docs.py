"""Documentation that can drift is held to the code: hooks, commands, components, recipe keys, the tutorial."""

import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import generate
import markup
import pytest
import reproductions
import typer
import yaml

import genkit
from genkit import hookspecs
from genkit.recipe.recipe import Entry, Published, Recipe, Served, Train
from genkit.recipe.schema import options_of

DOCS = Path(__file__).parents[1] / "docs"
HOOKS = {
    name: f"{name}({', '.join(inspect.signature(function).parameters)})"
    for name, function in vars(hookspecs).items()
    if getattr(function, "genkit_spec", None) is not None
}


def hook_gaps(page):
    """The hooks that a page says nothing of, those that it leaves out, and headings that are no hooks."""
    told = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", page, re.MULTILINE))
    silent = [hook for hook, text in told.items() if not text.strip()]
    known = HOOKS.values()
    return silent, [hook for hook in known if hook not in told], [hook for hook in told if hook not in known]


def test_every_hook_is_a_heading_with_its_signature_and_what_it_does():
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")
    assert len(HOOKS) >= 8
    assert hook_gaps(page) == ([], [], [])
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == list(HOOKS.values())
    assert all(inspect.getdoc(getattr(hookspecs, name)) for name in HOOKS)


def test_a_hook_that_is_not_documented_is_found_by_name():
    page = "# Hooks\n\n## on_step(report)\n\n## on_stepp(report)\n\nCalled.\n"
    silent, missing, unknown = hook_gaps(page)
    assert (silent, unknown) == (["on_step(report)"], ["on_stepp(report)"])
    assert "on_run_end(report)" in missing


@pytest.mark.parametrize("owner", [Recipe, Train, Entry, Published, Served], ids=lambda owner: owner.__name__)
def test_every_recipe_key_is_documented_with_its_default(owner):
    page = (DOCS / "recipes.md").read_text()
    for name, option in options_of(owner).items():
        row = re.search(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert row, f"{owner.__name__}.{name} is not in docs/recipes.md"
        assert option.description, f"{owner.__name__}.{name} has no description"
        if isinstance(option.default, int | float | str):
            shown = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
            assert f"`{shown}`" in row[0], f"the default of {name} is {shown}"


# ---- the references ----------------------------------------------------------------------------------------------


def test_every_command_component_and_public_name_is_documented():
    assert generate.undocumented() == []


def test_a_command_that_says_nothing_is_found_by_name():
    app = typer.Typer()

    @app.command("bare")
    def bare(word: str, size: int = 1, told: bool = typer.Option(False, help="Whether it is told.")):
        pass

    gaps = generate.command_gaps("genkit bare", typer.main.get_command(app))
    assert gaps[0] == "genkit bare has no docstring"
    assert "genkit bare: argument 'word'" in gaps
    assert "genkit bare: option 'size'" in gaps
    assert not any("told" in gap for gap in gaps)


def test_a_component_and_a_key_that_say_nothing_are_found_by_name():
    class Silent(genkit.Optimizer):
        def __init__(self, parameters, /, *, lr: float = 1.0):
            pass

    class Speaks(genkit.Optimizer):
        """Says what it is.

        Args:
            lr: The learning rate.
        """

        def __init__(self, parameters, /, *, lr: float = 1.0, decay: float = 0.0):
            pass

    silent = generate.component_gaps("optimizer", "silent", Silent)
    assert silent == ["optimizer 'silent' has no docstring", "optimizer 'silent': key 'lr'"]
    assert generate.component_gaps("optimizer", "speaks", Speaks) == ["optimizer 'speaks': key 'decay'"]


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_reference_is_what_the_code_says_now(name):
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == generate.PAGES[name](), f"docs/reference/{name} is not up to date: run python docs/generate.py"


def test_the_reference_leaves_out_what_is_not_ours(monkeypatch):
    registry = generate.installed()
    (ours,) = [r for r in registry.components("backbone") if r.name == "mlp"]
    foreign = SimpleNamespace(kind="backbone", name="foreign", plugin=SimpleNamespace(distribution="somebody-else"))
    monkeypatch.setattr(generate, "installed", lambda: SimpleNamespace(components=lambda: [foreign, ours]))
    assert generate.own_components() == [ours]


def test_the_command_reference_does_not_depend_on_the_terminal(monkeypatch):
    page = generate.commands_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert generate.commands_page() == page


def test_docstrings_become_markdown():
    examples = doctest.testmod(markup)
    assert (examples.attempted >= 4, examples.failed) == (True, 0)
    text = "A map.\n\n.. math::\n    z = x,\n    y = x\n\nSee :class:`~genkit.Backbone` and ``x``."
    shown = markup.to_markdown(text, lambda name: "(there)" if name == "genkit.Backbone" else None)
    assert shown.split("\n\n")[1].strip() == "$$\nz = x, y = x\n$$"
    assert shown.endswith("See [`Backbone`](there) and `x`.")


# ---- reproductions -----------------------------------------------------------------------------------------------


def test_the_table_of_reproductions_is_what_the_records_say_now():
    assert reproductions.PAGE.read_text(encoding="utf-8") == reproductions.page(), f"run {reproductions.COMMAND}"


def test_the_records_of_runs_are_their_files_and_name_no_machine():
    for record in reproductions.RECORDS.glob("*"):
        assert sorted(path.name for path in record.iterdir()) == ["environment.json", "recipe.yaml", "result.json"]
        environment = json.loads((record / "environment.json").read_text(encoding="utf-8"))
        for values in (environment, json.loads((record / "result.json").read_text(encoding="utf-8"))):
            assert reproductions.without_places(values) == values
        assert not set(environment) & set(reproductions.OF_THE_MACHINE)


# ---- the site ----------------------------------------------------------------------------------------------------


def pages_in(nav):
    for entry in nav:
        for item in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages_in(item) if isinstance(item, list) else [item]


def test_the_navigation_has_every_page_once_and_nothing_else():
    nav = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages_in(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_picture_is_shown_somewhere_and_small():
    readers = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in readers)
    for picture in (DOCS / "images").iterdir():
        assert f"images/{picture.name})" in text, picture.name
        assert picture.stat().st_size < 300_000, picture.name


def rendered(html):
    hooks = pytest.importorskip("mkdocs_hooks", reason="the site's packages are not installed: pip install '.[docs]'")
    return hooks.on_page_content(html, page=SimpleNamespace(file=SimpleNamespace(src_uri="page.md")))


def test_formulas_become_mathml():
    shown = rendered(r'<p>So <span class="arithmatex">\(D \log p(x \mid z)\)</span>.</p>')
    assert "<math" in shown
    assert "arithmatex" not in shown
    assert shown.count("<mspace") == 2  # around log, which would stick to its neighbours


@pytest.mark.parametrize(
    ("html", "what"),
    [
        (r'<span class="arithmatex">\(\unheardof x\)</span>', "unheardof"),
        ("<p>See :class:`Backbone`.</p>", "not rendered"),
        ("<p>.. math:: x</p>", "not rendered"),
        ("<p>A price of $x.</p>", "not rendered"),
        ("<p>See [genkit.run][genkit.run].</p>", "not rendered"),
    ],
)
def test_markup_that_is_not_rendered_ends_the_build(html, what):
    exceptions = pytest.importorskip("mkdocs.exceptions")
    with pytest.raises(exceptions.PluginError, match=what):
        rendered(html)
    assert rendered("<pre>$ genkit run :class:`x`</pre> <code>$x</code>")


# ---- the tutorial ------------------------------------------------------------------------------------------------

TUTORIAL = (DOCS / "writing-a-plugin.md").read_text(encoding="utf-8")


@pytest.fixture
def tutorial(tmp_path):
    """The tutorial's distribution, installed as pip would: its files, each under the path in its first line."""
    for path, code in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", TUTORIAL, re.DOTALL):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(code)
    (toml,) = re.findall(r"```toml\n# pyproject.toml\n(.*?)```", TUTORIAL, re.DOTALL)
    name, version, group, entry = re.search(
        r'name = "(.+)"\nversion = "(.+)"\n.*entry-points\."(.+)"\]\n(.+)\n', toml, re.DOTALL
    ).groups()
    metadata = tmp_path / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return tmp_path


def python(folder, *arguments):
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_tutorial_runs(tutorial):
    """The tutorial's components, its recipe line and its tests, as written."""
    assert {p.name for p in (tutorial / "my_resnet").iterdir()} == {
        *("__init__.py", "backbone.py", "kernel.py", "evaluator.py", "testing.py"),
    }
    checked = python(tutorial, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert checked.returncode == 0, checked.stdout
    assert "4 passed" in checked.stdout
    (entry,) = re.findall(r"`evaluate: (\{near: .*?\}\})`", TUTORIAL)
    recipe = str(DOCS.parent / "recipes" / "vae_mlp.yaml")
    small = ["data.train=128", "data.validation=32", "data.test=32", "train.epochs=1", "model.encoder.width=16"]
    words = [recipe, "model.encoder=my_resnet", f"evaluate={entry}", *small, "--name", "with_my_resnet"]
    trained = python(tutorial, "-m", "genkit", "run", *words)
    assert trained.returncode == 0, trained.stderr
    resolved = (tutorial / "runs" / "with_my_resnet" / "recipe.yaml").read_text()
    assert "kernel: {use: laplace, scale: 50.0}" in resolved
    assert '"name": "near"' in (tutorial / "runs" / "with_my_resnet" / "metrics.jsonl").read_text()


def test_tutorial_check_catches_a_broken_kernel(tutorial):
    broken = "from my_resnet.kernel import Kernel\n\n\nclass Far(Kernel):\n    '''Far is alike.'''\n\n"
    broken += "    def __init__(self):\n        pass\n\n    def __call__(self, x, y):\n"
    (tutorial / "broken.py").write_text(f"{broken}        return (x - y).flatten(1).abs().sum(1)\n")
    code = "from broken import Far; from genkit import Factory; from my_resnet.testing import check_kernel; "
    done = python(tutorial, "-c", f"{code}check_kernel(Factory('far', component=Far))")
    assert "two examples are more alike than one and itself" in done.stderr


def test_tutorial_shows_what_new_plugin_writes(tmp_path):
    made = python(tmp_path, "-m", "genkit", "new-plugin", "my-resnet", "--kind", "backbone")
    assert made.returncode == 0, made.stderr
    (shown,) = re.findall(r"\$ genkit new-plugin my-resnet --kind backbone\n(.*?)```", TUTORIAL, re.DOTALL)
    assert made.stdout == shown
    (tree,) = re.findall(r"```text\nmy-resnet/\n(.*?)```", TUTORIAL, re.DOTALL)
    folder = tmp_path / "my-resnet"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {line.split()[0] for line in tree.splitlines()} == files
