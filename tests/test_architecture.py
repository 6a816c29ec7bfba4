"""What holds the code together: who may import whom, what the core may not know, what must stay instant."""

import ast
import importlib
import importlib.metadata
import re
from pathlib import Path

import pytest

import genkit

ROOT = Path(__file__).parents[1]
CORE = ROOT / "genkit"
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("genkit_*/__init__.py"))

# Each layer may import from its own and from those before it. A new module of the core needs a place here.
LAYERS = (
    {"errors", "isolation", "sources"},
    {"component", "units", "dataset", "model", "objective", "sampler", "evaluator", "backbone", "optimizer"}
    | {"cache", "events", "launcher", "picture"},
    {"conformance", "hookspecs", "plugin", "registry"},
    {"recipe"},
    {"engine"},
    {"runs", "bench", "sweep", "scaffold", "report"},
    {"testing"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FAMILIES = {"vae", "gan", "flow", "diffusion", "autoregressive"}
FOREIGN = {"default_flow_style"}  # PyYAML's name


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(CORE.rglob("*.py"))}
MODULES = sorted(name for name in TREES if name != "genkit")


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_nodes(tree, *, at_import=False):
    """Import statements; ``at_import``: only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if at_import and (is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from import_nodes(node, at_import=at_import)


def imported(tree, *, at_import=False):
    """Names of the imported modules; a name taken from a package is its module, if it is one."""
    for node in import_nodes(tree, at_import=at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else node.module


def rank(module):
    """The layer of a module of the core; the package itself is its face, which only the top may use."""
    parts = module.split(".")
    return RANK["cli"] if len(parts) == 1 else RANK[parts[1]]


def of_core(names):
    return {name for name in names if name.split(".")[0] == "genkit"}


def assert_acyclic(graph):
    def visit(name, path):
        assert name not in path, f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        for other in sorted(graph.get(name, ())):
            visit(other, [*path, name])

    for name in graph:
        visit(name, [])


def test_a_cycle_is_seen():
    with pytest.raises(AssertionError, match="cycle: b -> c -> b"):
        assert_acyclic({"a": {"b"}, "b": {"c"}, "c": {"b"}})


def test_every_module_has_a_layer():
    assert {name.split(".")[1] for name in MODULES} <= set(RANK)
    assert {path.stem for path in CORE.iterdir() if path.is_dir() and any(path.glob("*.py"))} <= set(RANK)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    """Also those inside functions and for type checking, but for what a hook's annotation names."""
    tree = TREES[module]
    upwards = {name for name in of_core(imported(tree)) if rank(name) > rank(module)}
    assert not upwards, f"{module} imports {sorted(upwards)}, which stand above it"


def test_the_face_imports_only_what_is_instant():
    assert of_core(imported(TREES["genkit"], at_import=True)) == {
        "genkit.component",
        "genkit.errors",
        "genkit.hookspecs",
        "genkit.plugin",
        "genkit.units",
    }


def test_modules_import_each_other_in_no_cycle():
    assert_acyclic({name: of_core(imported(TREES[name], at_import=True)) for name in MODULES})


@pytest.mark.parametrize("module", TREES)
def test_the_core_imports_no_plugin(module):
    tree = TREES[module]
    names = set(imported(tree)) | {text for text, _ in strings(tree)}
    assert not {name for name in names if re.match(r"genkit_[a-z]", name)}


# ---- the core knows no family ------------------------------------------------------------------------------------


def words(identifier):
    """``GenerativeModel_v2`` -> generative, model, v2: so that 'organ' holds no 'gan' and 'overflow' no 'flow'."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+", identifier)}


def docstrings(tree):
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0].value


def strings(tree):
    """String constants that are no docstrings, with their lines."""
    excluded = {id(node) for node in docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in excluded:
            yield node.value, node.lineno


def identifiers(tree):
    """Everything that is a name: of variables, attributes, parameters, keywords, functions, classes, modules."""
    fields = ("id", "attr", "arg", "name", "asname", "module")
    for node in ast.walk(tree):
        for field in fields:
            if isinstance(value := getattr(node, field, None), str):
                yield value, getattr(node, "lineno", 0)


@pytest.mark.parametrize("module", TREES)
def test_no_name_and_no_string_of_the_core_names_a_family(module):
    """Docstrings may: their examples name recipes."""
    tree = TREES[module]
    texts = [(text, line) for text, line in (*identifiers(tree), *strings(tree)) if text not in FOREIGN]
    assert not [f"line {line}: {text!r}" for text, line in texts if words(text) & FAMILIES]


@pytest.mark.parametrize(
    ("identifier", "family"),
    [
        ("vae", True),
        ("VAE", True),
        ("VAEEncoder", True),
        ("train_gan", True),
        ("GANLoss", True),
        ("is_flow", True),
        ("FlowModel", True),
        ("organ", False),
        ("workflow", False),
        ("overflow", False),
        ("began", False),
        ("Organ", False),
    ],
)
def test_the_rule_for_families(identifier, family):
    assert bool(words(identifier) & FAMILIES) is family


# ---- the face ----------------------------------------------------------------------------------------------------


def type_checked_names():
    found = {}
    for node in filter(is_type_checking, TREES["genkit"].body):
        for statement in import_nodes(node):
            found.setdefault(statement.module, []).extend(alias.asname or alias.name for alias in statement.names)
    return found


def test_the_lazy_names_are_those_of_type_checkers():
    assert {home: sorted(names) for home, names in type_checked_names().items()} == {
        home: sorted(names) for home, names in genkit._HOMES.items()
    }


@pytest.mark.parametrize("name", genkit.__all__)
def test_every_name_of_the_face_is_there(name):
    value = getattr(genkit, name)
    home = genkit._LAZY.get(name)
    if home is not None:
        assert value is getattr(importlib.import_module(home), name)
    assert name in dir(genkit)


def test_the_face_has_no_name_twice_and_no_other():
    assert len(genkit.__all__) == len(set(genkit.__all__))
    with pytest.raises(AttributeError, match="module 'genkit' has no attribute 'nothing'"):
        genkit.nothing  # noqa: B018
    assert genkit.__version__ == importlib.metadata.version("genkit-torch")


# ---- plugins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_has_a_docstring_and_an_entry_point(folder):
    tree = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    entries = importlib.metadata.entry_points(group="genkit.plugins")
    assert folder.name in {entry.module for entry in entries}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_uses_the_cores_public_names(folder):
    """No underscore, and nothing of the engine or the command line."""
    closed = ("genkit.engine", "genkit.cli")
    for path in folder.rglob("*.py"):
        for node in import_nodes(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or names[0]
            assert not module.startswith(closed), f"{path}:{node.lineno} imports {module}"
            if module.split(".")[0].startswith("genkit"):
                assert not [name for name in names if name.startswith("_")], f"{path}:{node.lineno}"


def test_plugins_import_each_other_in_no_cycle():
    graph = {}
    for folder in PLUGINS:
        names = {name for path in folder.rglob("*.py") for name in imported(ast.parse(path.read_text()))}
        graph[folder.name] = {name.split(".")[0] for name in names if name.startswith("genkit_")} - {folder.name}
    assert_acyclic(graph)
