"""New plugins: whatever kind is asked for, what is written installs, passes its own tests, and trains as it is."""

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from genkit import PluginError, hookimpl
from genkit.cli import app
from genkit.component import kind_class
from genkit.plugin import Plugin
from genkit.registry import Registry, installed
from genkit.scaffold import plan
from genkit.scaffold.names import names_of
from genkit.scaffold.templates import Template, offered

ROOT = Path(__file__).parents[1]
OFFER = offered(installed())
KINDS = sorted(OFFER.templates)
CUT = ("data.train=64", "data.validation=32", "data.test=32", "train.batch_size=32", "train.epochs=1")  # two steps


def python(*words, path=(), cwd=None):
    """A finished Python process that finds what is in some folders."""
    known = [str(folder) for folder in path] + [os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)


def install(folder, site):
    """Makes a distribution findable as pip would: its metadata, as its pyproject says them, on the path."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["genkit.plugins"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[genkit.plugins]", *lines, ""]))
    return [folder, site]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A plugin with a component of every kind that has a template, as the command writes it; and where it is found."""
    folder = tmp_path_factory.mktemp("whole")
    words = [word for kind in KINDS for word in ("--kind", kind)]
    made = python("-m", "genkit", "new-plugin", "made-up", *words, cwd=folder)
    assert made.returncode == 0, made.stderr
    return SimpleNamespace(folder=folder / "made-up", path=install(folder / "made-up", folder / "site"))


# ---- what is written ---------------------------------------------------------------------------------------------


def test_every_kind_of_genkits_own_has_a_template_but_launchers():
    assert OFFER.problems == []
    own = {item.kind for item in installed().components() if item.plugin.distribution == "genkit-torch"}
    assert set(KINDS) == own - {"launcher"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_of_its_kind_and_names_its_check(kind):
    template = OFFER.templates[kind]
    component = importlib.import_module(template.module).Template
    assert kind_class(component).kind == kind
    module, _, function = template.check.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_new_plugin_passes_its_own_tests(whole):
    checked = python("-m", "pytest", "-q", "-p", "no:cacheprovider", path=whole.path, cwd=whole.folder)
    assert checked.returncode == 0, checked.stdout
    contracts = [len(importlib.import_module(OFFER.templates[kind].module).Template.examples) for kind in KINDS]
    passed = int(re.search(r"(\d+) passed", checked.stdout)[1])
    assert passed > sum(contracts) + len(KINDS), "a contract, a recipe or every docstring's example is not tried"


TRAIN = """
import json, sys
from pathlib import Path
import genkit
from typer.testing import CliRunner
from genkit.cli import app

recipes = sorted(Path("recipes").glob("*.yaml"))
checked = CliRunner().invoke(app, ["validate", *map(str, recipes)])
assert checked.exit_code == 0, checked.stderr
ends = {}
for path in recipes:
    end = genkit.run(path, overrides=sys.argv[2:], runs=sys.argv[1], device="cpu")
    records = genkit.read_records(end.folder / "metrics.jsonl")
    ends[path.stem] = [end.status, max(record.step for record in records)]
print(json.dumps({"validated": checked.stdout.splitlines(), "ends": ends}))
"""


def test_every_recipe_of_the_new_plugin_trains(whole, tmp_path):
    trained = python("-c", TRAIN, tmp_path, *CUT, path=whole.path, cwd=whole.folder)
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout.splitlines()[-1])
    assert told["validated"] == [f"recipes/made_up_{kind}.yaml: ok" for kind in KINDS]
    assert told["ends"] == {f"made_up_{kind}": ["finished", 2] for kind in KINDS}
    for kind in KINDS:
        resolved = (tmp_path / f"made_up_{kind}" / "recipe.yaml").read_text()
        assert "use: made_up" in resolved, f"the recipe of the new {kind} does not use it"


def test_the_new_plugin_is_clean(whole):
    for words in (["check", "--extend-select", "ANN,B,I,UP,RUF"], ["format", "--check"]):
        looked = python("-m", "ruff", *words, "--no-cache", ".", cwd=whole.folder)
        assert looked.returncode == 0, looked.stdout


def test_nothing_of_a_template_is_left(whole):
    for path in filter(Path.is_file, whole.folder.rglob("*")):
        if path.suffix != ".pyc":  # of the new plugin's own tests
            assert "template" not in path.read_text().lower(), path


def test_the_parts_of_a_plugin_of_several_kinds_are_told_apart(whole):
    files = {str(path.relative_to(whole.folder)) for path in whole.folder.rglob("*") if path.is_file()}
    common = {"pyproject.toml", "README.md", ".gitignore", "made_up/__init__.py", "tests/test_contract.py"}
    parts = {file for kind in KINDS for file in (f"made_up/{kind}.py", f"recipes/made_up_{kind}.yaml")}
    assert {file for file in files if "__pycache__" not in file} == common | parts
    registered = (whole.folder / "made_up/__init__.py").read_text()
    assert 'register("made_up", "made_up.backbone:MadeUpBackbone", kind="backbone")' in registered
    assert (
        'register("made_up", "made_up.adversarial_loss:MadeUpAdversarialLoss", kind="adversarial_loss")' in registered
    )
    readme = (whole.folder / "README.md").read_text()
    assert all(f"| {kind} | `made_up` | `made_up/{kind}.py` |" in readme for kind in KINDS)


def test_one_kind_is_enough_and_its_test_notices_what_breaks_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["new-plugin", "my-resnet"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("wrote my-resnet, a plugin with\n  a backbone 'my_resnet': my-resnet/my_resnet/")
    assert [line.strip() for line in result.stdout.splitlines()[-3:]] == [
        "pip install --editable '.[test]'",
        "python -m pytest",
        "genkit run recipes/my_resnet.yaml",
    ]
    assert sorted(os.listdir()) == ["my-resnet"]
    folder = tmp_path / "my-resnet"
    source = (folder / "my_resnet/backbone.py").read_text()
    refusal = "        refuse_context(self, context)\n"
    assert refusal in source
    (folder / "my_resnet/backbone.py").write_text(source.replace(refusal, ""))
    path = install(folder, tmp_path / "site")
    checked = python("-m", "pytest", "-q", "-p", "no:cacheprovider", path=path, cwd=folder)
    assert checked.returncode == 1, checked.stdout
    assert "a context is ignored; use it, or refuse it with refuse_context" in checked.stdout


def test_a_new_plugins_project_says_what_pip_and_genkit_need(tmp_path):
    folder = plan("My.Res_net", ["objective"], installed(), OFFER).write(tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == folder.name == "My.Res_net"
    assert project["project"]["dependencies"] == ["genkit-torch"]
    assert project["project"]["entry-points"] == {"genkit.plugins": {"my_res_net": "my_res_net"}}
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["my_res_net", "my_res_net.*"]
    assert 'GENKIT_API = ">=1.0,<2"' in (folder / "my_res_net/__init__.py").read_text()
    assert "class MyResNet(Objective):" in (folder / "my_res_net/objective.py").read_text()


# ---- what is refused ---------------------------------------------------------------------------------------------


def refusal(*words):
    """The one clear message of a plugin that must not be made, which leaves nothing."""
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(app, ["new-plugin", *words])
    assert isinstance(result.exception, SystemExit), f"a traceback would be shown: {result.exception!r}"
    assert (result.exit_code, result.stdout) == (2, "")
    assert sorted(Path().rglob("*")) == before
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["my resnet"], "name 'my resnet': no distribution can be called so; letters, digits and single hyphens"),
        ([""], "name '': no distribution can be called so"),
        (["../outside"], "name '../outside': no distribution can be called so"),
        (["3d-net"], "name '3d-net': its module would be '3d_net', which is no identifier: begin with a letter"),
        (["lambda"], "name 'lambda': its module would be 'lambda', which is a word of Python's own"),
        (["none"], "name 'none': its module would be 'none', which is a word of Python's own"),
        (["random"], "name 'random': its module would be 'random', which is a module of Python's standard library"),
        (["tests"], "name 'tests': its module would be 'tests', which is the name of another folder of every plugin"),
        (["mlp"], "plugin 'backbones' of genkit-torch "),
        (["ELBO", "--kind", "sampler", "--kind", "objective"], "plugin 'vae' of genkit-torch "),
        (["backbones"], "plugin 'backbones' of genkit-torch "),
        (["Genkit_Torch"], "distribution genkit-torch "),
        (["torch"], "distribution torch "),
        (["genkit.flow"], "module 'genkit_flow' can be imported already, from "),
        (["shape"], "name 'shape': its class 'Shape' would hide what it is made of; choose another"),
        (["my-resnet", "--kind", "bakbone"], "no kind 'bakbone'; did you mean 'backbone'?; there are templates for "),
        (
            ["my-resnet", "--kind", "launcher"],
            "kind 'launcher', of plugin 'launchers' of genkit-torch, has no template",
        ),
        (["my-resnet", "--kind", "model", "--kind", "model"], "kind 'model' is given 2 times"),
        (["my-resnet", "--directory", "gone"], "gone/my-resnet cannot be written: No such file or directory"),
        (["my-resnet", "--directory", "file"], "file/my-resnet cannot be written: Not a directory"),
        (["there"], "there exists: choose another name or another --directory"),
    ],
)
def test_a_plugin_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("there").mkdir()
    assert refusal(*words).startswith(message)


def test_a_name_that_a_distribution_without_a_plugin_has_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metadata = tmp_path / "some_thing-4.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Some.Thing\nVersion: 4.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert refusal("some-thing") == "distribution Some.Thing 4.2 is installed; choose another name"


def test_a_disk_that_is_full_halfway_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, written = Path.write_text, []

    def fill(path, text, **options):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fill)
    assert refusal("my-resnet") == "my-resnet cannot be written: No space left on device"
    assert len(written) == 3
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("name", "module", "cls"),
    [
        ("my-resnet", "my_resnet", "MyResnet"),
        ("MyResNet", "myresnet", "MyResNet"),
        ("a.b_c--d", "a_b_c_d", "ABCD"),
        ("x2", "x2", "X2"),
    ],
)
def test_names_are_derived(name, module, cls):
    names = names_of(name)
    assert (names.distribution, names.module, names.cls) == (name, module, cls)


# ---- what plugins offer ------------------------------------------------------------------------------------------


class Offering:
    """A plugin with a hook."""

    def __init__(self, offer):
        self.offer = offer

    @hookimpl
    def register_templates(self, register):
        self.offer(register)


@pytest.fixture
def registry():
    """A registry of its own, with genkit's hooks and the plugin of the core's templates."""
    made = Registry(type(installed().manager)("genkit"))
    made.manager.add_hookspecs(importlib.import_module("genkit.hookspecs"))
    add(made, Plugin("templates", "genkit_templates", "genkit-torch", "1"), importlib.import_module("genkit_templates"))
    return made


OTHER = Plugin("other", "other", "other-dist", "1")


def add(registry, plugin, module):
    """Has a module take part as a plugin."""
    registry.plugins.append(plugin)
    registry.manager.register(module, name=f"{plugin.distribution}:{plugin.name}")


HEAD = "from genkit import Component\nclass Template(Component"


def fails(register):
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("offer", "problem"),
    [
        (fails, "RuntimeError: out of order"),
        (
            lambda register: register("backbone", "other.backbone"),
            "PluginError: plugin 'templates' of genkit-torch 1 offers a template of kind 'backbone' already",
        ),
        (
            lambda register: register("kernel", "kernel"),
            "PluginError: template of kind 'kernel': a module within a package is wanted, 'kernel' given",
        ),
    ],
)
def test_a_plugin_that_offers_in_vain_is_named_and_harms_nobody(registry, offer, problem):
    add(registry, OTHER, Offering(offer))
    found = offered(registry)
    (fault,) = found.problems
    assert str(fault).startswith(f"plugin 'other' of other-dist 1 (other) offers templates in vain: {problem}")
    assert sorted(found.templates) == sorted(importlib.import_module("genkit_templates").KINDS)


def test_the_command_names_a_plugin_that_offers_in_vain_and_goes_on(registry, tmp_path, monkeypatch):
    add(registry, OTHER, Offering(fails))
    monkeypatch.setattr("genkit.registry.installed", lambda: registry)
    result = CliRunner().invoke(app, ["new-plugin", "my-resnet", "--directory", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("warning: plugin 'other' of other-dist 1 (other) offers templates in vain: Runtime")
    assert [path.name for path in tmp_path.iterdir()] == ["my-resnet"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "cannot be read: thing.py: "),
        ({"thing.py": "class Thing: ..."}, "cannot be imported: AttributeError"),
        ({"thing.py": "import nothing_at_all"}, "cannot be imported: ModuleNotFoundError"),
        ({"thing.py": f"{HEAD}, kind='thing'): ..."}, "is of a kind that names no check"),
        ({"thing.py": f"{HEAD}, kind='thing', check='a:b'): ..."}, "cannot be read: thing.yaml: "),
    ],
)
def test_a_template_that_is_not_there_is_its_plugins_fault(tmp_path, monkeypatch, files, message):
    package = tmp_path / "probe_offers"
    package.mkdir()
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("probe_offers", "probe_offers.thing"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    template = Template("thing", "probe_offers.thing", OTHER)
    with pytest.raises(
        PluginError, match=rf"other-dist 1 \(other\) offers a template of kind 'thing'.* that {message}"
    ):
        plan("new-one", ["thing"], installed(), type(OFFER)({"thing": template})).write(tmp_path)
    assert not (tmp_path / "new-one").exists()


def test_without_any_template_no_kind_can_be_had():
    with pytest.raises(PluginError, match=r"has no template; there are templates for no kind$"):
        plan("new-one", ["backbone"], installed(), type(OFFER)())
