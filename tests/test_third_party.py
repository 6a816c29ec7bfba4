"""Other people's plugins, for real: two distributions are built and installed with genkit into a new environment."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml

import genkit
from genkit import testing

ROOT = Path(__file__).parents[1]
THIRD_PARTY = Path(__file__).parent / "third_party"
PACKAGES = {"genkit-residual": "residual_net", "genkit-energy-distance": "energy_distance"}
RESIDUAL_RECIPE = "genkit-residual/recipes/vae_residual.yaml"
ENERGY_RECIPE = "genkit-energy-distance/recipes/energy_distance.yaml"
SMALL = ["data.train=64", "data.validation=32", "data.test=32", "train.epochs=2", "train.batch_size=32"]
JUDGED = "evaluate={bpd: {use: bits_per_dim, every: 1}}"
PICTURED = "evaluate={samples: {use: sample_grid, at: [2], rows: 2, columns: 2}}"
TINY = "{use: mlp, hidden_dims: [16]}"


# ---- what they import --------------------------------------------------------------------------------------------


def foreign_names(source, package):
    """What a plugin takes from genkit that is not public, or from packages that are none of its business."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    modules = {alias.name for node in imports for alias in node.names}
    taken = {(node.module or "", alias.name) for node in from_imports(tree) for alias in node.names}
    taken |= {("genkit", name) for name in attributes_of(tree, "genkit")}
    return sorted({f"import {name}" for name in modules if not free(name, package)}) + sorted(
        f"{name} of {module}" for module, name in taken if not public(module, name, package)
    )


def from_imports(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def attributes_of(tree, module):
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
    return {node.attr for node in nodes if node.value.id == module}


def free(module, package):
    """Whether a module may be imported whole."""
    top = module.partition(".")[0]
    others = {"torch", "pydantic", "pytest", "scipy", package}
    return module in ("genkit", "genkit.testing") or top in others or top in sys.stdlib_module_names


def public(module, name, package):
    """Whether a name may be taken from a module: of genkit's, its face and that of its testing kit."""
    if module.partition(".")[0] != "genkit":
        return free(module, package)
    faces = {"genkit": {*genkit.__all__, "testing"}, "genkit.testing": set(testing.__all__)}
    return name in faces.get(module, ())


SOURCES = sorted(THIRD_PARTY.glob("*/*/*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(THIRD_PARTY)))
def test_they_take_nothing_but_genkits_public_names(path):
    package = PACKAGES[path.relative_to(THIRD_PARTY).parts[0]]
    assert foreign_names(path.read_text(), package) == []


def test_there_are_sources_of_both():
    assert {path.parts[-3] for path in SOURCES} == set(PACKAGES)
    assert {path.name for path in SOURCES} >= {"__init__.py", "residual.py", "objective.py", "test_residual.py"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from genkit import Backbone, _LAZY", ["_LAZY of genkit"]),
        ("from genkit.objective import MODEL", ["MODEL of genkit.objective"]),
        ("from genkit.testing import check_backbone, common", ["common of genkit.testing"]),
        ("import genkit.engine", ["import genkit.engine"]),
        ("import genkit\ngenkit.registry.installed()", ["registry of genkit"]),
        ("from genkit_backbones.layers import Activation", ["Activation of genkit_backbones.layers"]),
        ("import genkit_metrics, numpy", ["import genkit_metrics", "import numpy"]),
        ("def f():\n    from genkit import engine", ["engine of genkit"]),
        ("import math, genkit\nfrom own.part import thing\ngenkit.Batch", []),
    ],
)
def test_what_is_not_public_is_seen(line, found):
    assert foreign_names(line, "own") == found


# ---- a new environment -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """A new environment, in which genkit and two plugins are installed from wheels.

    Attributes:
        folder: Where it is.
        work: Where its commands are run.
        wheels: What was built.
    """

    folder: Path
    work: Path
    wheels: Path

    @property
    def python(self):
        return str(self.folder / "bin" / "python")

    def variables(self):
        """Nothing of the tests' own environment but what keeps them from taking each other's cores."""
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        home, cache = str(self.work / "home"), str(self.work / "cache")
        path = os.pathsep.join([str(self.folder / "bin"), "/usr/bin", "/bin"])
        return {"PATH": path, "HOME": home, "XDG_CACHE_HOME": cache, "COLUMNS": "120", **kept}

    def run(self, *words, code=0):
        """Runs a command as somebody would who has only this environment; its output and its errors."""
        done = subprocess.run(
            words, cwd=self.work, env=self.variables(), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def genkit(self, *words, code=0):
        """Runs genkit; what it prints, its errors included."""
        done = self.run("genkit", *words, code=code)
        return done.stdout + done.stderr

    def pip(self, *words):
        """Runs pip, which finds its registry by the settings of whoever runs the tests."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GENKIT"))}
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *words]
        subprocess.run(command, cwd=self.work, env=inherited, capture_output=True, check=True, timeout=300)

    def install(self, *names):
        """Installs wheels; what they depend on is there already."""
        files = [str(path) for name in names for path in self.wheels.glob(f"{name.replace('-', '_')}-*.whl")]
        assert len(files) == len(names)
        self.pip("install", "--no-deps", *files)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A new environment: its own genkit and plugins, built here; torch and the like are those of the tests."""
    base = tmp_path_factory.mktemp("third_party")
    made = Environment(base / "env", base / "work", base / "wheels")
    (made.work / "home").mkdir(parents=True)
    venv.create(made.folder, symlinks=True)  # pip is borrowed as well: a copy of it takes four seconds
    borrow(made)
    made.pip("install", "setuptools>=77")  # what builds is new enough, whatever came with the environment
    sources = [genkit_source(base / "genkit"), *(copied(THIRD_PARTY / name, base / name) for name in PACKAGES)]
    made.pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made.wheels), *map(str, sources))
    made.install("genkit-torch", "genkit-residual", "energy-distance")
    return made


def borrow(made):
    """Puts the tests' packages at the end of the new environment's path.

    A folder that a ``.pth`` file names has no ``.pth`` files of its own read: an editable genkit in it is not found.
    """
    (packages,) = (made.folder / "lib").glob("python*/site-packages")
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "zz_borrowed.pth").write_text("".join(f"{folder}\n" for folder in folders))


def copied(source, target):
    """A copy, since building leaves its traces beside the source."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")))


def genkit_source(target):
    for folder in ("genkit", "plugins"):
        copied(ROOT / folder, target / folder)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, target / file)
    return target


@pytest.fixture(scope="module")
def without_residual(environment, trained):
    """The environment after the residual backbone was uninstalled: for the last tests of this file."""
    environment.pip("uninstall", "-y", "genkit-residual")
    return environment


@pytest.fixture(scope="module")
def trained(environment):
    """A run of two epochs whose encoder is somebody else's, by one line."""
    recipe = str(ROOT / "recipes" / "vae_mlp.yaml")
    small = [*SMALL, f"model.decoder={TINY}", JUDGED]
    environment.genkit("run", recipe, "--name", "theirs", "--device", "cpu", *small, "model.encoder=residual")
    return environment.work / "runs" / "theirs"


def figures(run, name):
    """The values of a figure, in their order."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record["value"] for record in records if record["name"] == name]


def test_building_leaves_no_trace_in_the_source(environment):
    assert not [path for name in ("build", "*.egg-info") for path in THIRD_PARTY.rglob(name)]


def test_the_new_environment_has_a_genkit_of_its_own(environment):
    code = (
        "import genkit, residual_net, energy_distance as e; print(genkit.__file__, residual_net.__file__, e.__file__)"
    )
    places = environment.run(environment.python, "-c", code).stdout.split()
    assert all(Path(place).is_relative_to(environment.folder / "lib") for place in places)
    assert len(places) == 3


def test_they_are_listed_with_their_distributions(environment):
    listing = environment.genkit("list-plugins")
    assert "does not work" not in listing
    assert re.search(r"^residual_net +genkit-residual +0\.1\.0 ", listing, re.MULTILINE)
    assert re.search(r"^energy_distance +energy-distance +0\.2\.0 ", listing, re.MULTILINE)
    assert re.search(r"^backbone +residual +A residual network between vectors and images", listing, re.MULTILINE)
    kernels = environment.genkit("list-plugins", "--kind", "kernel")
    assert re.findall(r"^kernel +(\w+)", kernels, re.MULTILINE) == ["euclidean", "gaussian", "laplacian"]


def test_a_backbone_is_described_with_its_keys_and_where_it_comes_from(environment):
    text = environment.genkit("describe", "backbone", "residual")
    assert "residual_net.residual:Residual, from genkit-residual 0.1.0" in text
    for key in ("width", "channels", "depth", "activation", "dropout"):
        assert re.search(rf"^ *{key} ", text, re.MULTILINE), f"{key} is not described"
    assert "use: residual" in text


def test_an_objective_is_described_with_the_kind_that_it_is_made_of(environment):
    text = environment.genkit("describe", "objective", "energy_distance")
    assert "from energy-distance 0.2.0" in text
    assert "SamplesDifferentiably" in text
    assert re.search(r"^ *kernel .*euclidean", text, re.MULTILINE)


def test_the_schema_knows_their_keys(environment):
    environment.genkit("schema", "-o", "schema.json")
    schema = json.loads((environment.work / "schema.json").read_text())
    schema = jsonschema.Draft202012Validator(schema)
    residual, energy = (yaml.safe_load((THIRD_PARTY / name).read_text()) for name in (RESIDUAL_RECIPE, ENERGY_RECIPE))
    schema.validate(residual)
    schema.validate(energy)
    residual["model"]["encoder"]["chanels"] = residual["model"]["encoder"].pop("channels")
    energy["objective"]["kernel"] = {"use": "mlp"}
    assert not schema.is_valid(residual)
    assert not schema.is_valid(energy)


def test_their_recipes_are_valid(environment):
    recipes = [str(THIRD_PARTY / name) for name in (RESIDUAL_RECIPE, ENERGY_RECIPE)]
    assert environment.genkit("validate", *recipes).count(": ok") == 2


def test_a_misspelt_key_of_theirs_is_told_with_the_right_one(environment):
    text = environment.genkit("validate", str(THIRD_PARTY / RESIDUAL_RECIPE), "model.decoder.dept=2", code=2)
    assert "model.decoder.dept" in text
    assert "'depth'" in text


@pytest.mark.parametrize(
    ("plugin", "rows"),
    [
        ("genkit-residual", {"backbone residual": 2}),
        (
            "energy_distance",
            {"kernel euclidean": 2, "kernel gaussian": 2, "kernel laplacian": 2, "objective energy_distance": 3},
        ),
    ],
)
def test_every_component_keeps_the_contract_of_its_kind(environment, plugin, rows):
    """By the distribution's name and by the plugin's; each kind is checked by the check that it names itself."""
    text = environment.genkit("check-plugin", plugin)
    loading = 1  # a row for how the plugin itself was loaded
    assert f"{loading + sum(rows.values())} passed, 0 failed, 0 not checked" in text
    for component, count in rows.items():
        kind, name = component.split()
        checks = re.findall(rf"^\W*{kind}\W+{name}\W.*check_{kind}\W+passed", text, re.MULTILINE)
        assert len(checks) == count, text


@pytest.mark.parametrize("name", PACKAGES)
def test_their_own_tests_pass(environment, name):
    tests = copied(THIRD_PARTY / name / "tests", environment.work / name / "tests")
    shutil.copy(THIRD_PARTY / name / "pyproject.toml", tests.parent)
    words = [environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests.parent)]
    summary = environment.run(*words).stdout.splitlines()[-1]
    assert re.fullmatch(r"\d{2,} passed in .*", summary)


def test_one_line_swaps_our_network_for_theirs(environment, trained):
    recipe = yaml.safe_load((trained / "recipe.yaml").read_text())
    assert recipe["model"]["encoder"]["use"] == "residual"
    assert recipe["model"]["encoder"]["depth"] == 1
    losses = figures(trained, "model/loss/epoch")
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert all(map(math.isfinite, figures(trained, "bpd")))
    environment.genkit("sample", "runs/theirs", "-n", "4", "-o", "theirs.png")
    assert (environment.work / "theirs.png").stat().st_size > 0


def test_a_run_records_which_distributions_served_it(trained):
    served = yaml.safe_load((trained / "recipe.yaml").read_text())["served_by"]
    assert served["genkit-residual"] == {
        "version": "0.1.0",
        "components": {"residual_net": ["backbone residual"]},
    }
    assert "model vae" in served["genkit-torch"]["components"]["vae"]
    assert "energy-distance" not in served


def test_their_objective_trains_our_model_by_one_line(environment):
    words = [*SMALL, f"model.decoder={TINY}", f"model.encoder={TINY}", PICTURED, "objective=energy_distance"]
    recipe = str(ROOT / "recipes" / "vae_mlp.yaml")
    environment.genkit("run", recipe, "--name", "energy", "--device", "cpu", *words)
    distances = figures(environment.work / "runs" / "energy", "model/squared_distance/epoch")
    assert len(distances) == 2
    assert distances[1] < distances[0]


def test_one_line_swaps_the_kernel(environment):
    words = [*SMALL, f"model.network={TINY}", PICTURED, "objective.kernel={use: laplacian, scales: [0.5]}"]
    recipe = str(THIRD_PARTY / ENERGY_RECIPE)
    environment.genkit("run", recipe, "--name", "laplacian", "--device", "cpu", *words)
    run = environment.work / "runs" / "laplacian"
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert resolved["objective"] == {"use": "energy_distance", "kernel": {"use": "laplacian", "scales": [0.5]}}
    distances = figures(run, "model/squared_distance/epoch")
    assert len(distances) == 2
    assert all(0 < value < 2 for value in distances)  # a kernel between 0 and 1 gives no more


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "runs/theirs/recipe.yaml"),
        ("run", "--resume", "runs/theirs"),
        ("sample", "runs/theirs", "-n", "4", "-o", "nothing.png"),
        ("evaluate", "runs/theirs"),
    ],
    ids=lambda words: words[0],
)
def test_a_run_whose_plugin_is_gone_names_it(without_residual, words):
    text = " ".join(without_residual.genkit(*words, code=2).split())
    assert "backbone 'residual'" in text
    assert "genkit-residual 0.1.0" in text
    assert "'residual_net'" in text
    assert "pip install genkit-residual==0.1.0" in text
    assert "Traceback" not in text
    assert not (without_residual.work / "nothing.png").exists()


def test_a_plugin_works_after_another_has_gone(without_residual):
    text = without_residual.genkit("list-plugins")
    assert "residual_net" not in text
    assert "does not work" not in text
    recipes = [str(THIRD_PARTY / name) for name in (ENERGY_RECIPE, RESIDUAL_RECIPE)]
    text = without_residual.genkit("validate", *recipes, code=2)
    assert f"{recipes[0]}: ok" in text
    assert f"{recipes[1]}: ok" not in text
    assert "no backbone is called 'residual'" in text
