"""The command line from outside: what it prints, how it ends, what it leaves on disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit.cli.app import narrowed
from genkit.registry import installed

TINY = """\
seed: 1
data: {use: mnist, binarize: threshold, train: 256, validation: 64, test: 64}
model:
  use: vae
  latent_dim: 2
  encoder: {use: mlp, hidden_dims: [8]}
  decoder: {use: mlp, hidden_dims: [8]}
objective: {use: elbo}
train: {epochs: 1, batch_size: 64, log_every: 2}
evaluate:
  bpd: {use: bits_per_dim, every: 1}
  samples: {use: sample_grid, rows: 2, columns: 2}
"""

#: The command as it is installed beside this Python, whatever is on the path.
COMMAND = str(Path(sys.executable).with_name("genkit"))


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def succeed(*words):
    result = invoke(*words)
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    return result.stdout


def fail(*words, code=2):
    """The one clear message of a command that must fail."""
    result = invoke(*words)
    assert isinstance(result.exception, SystemExit), f"a traceback would be shown: {result.exception!r}"
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ").rstrip("\n")


def contents():
    return sorted(str(path) for path in Path().rglob("*"))


def process_of(*words, **options):
    """A finished process of the command."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([COMMAND, *words], text=True, timeout=60, **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with a recipe."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run and what the command printed."""
    home = tmp_path_factory.mktemp("trained")
    (home / "tiny.yaml").write_text(TINY)
    printed = succeed("run", home / "tiny.yaml", "--runs", home / "runs")
    return home / "runs" / "tiny", printed


# ---- bad recipes and requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed:", "sede:", "bad.yaml:1: sede: there is no such key; did you mean 'seed'?"),
        ("seed: 1", "seed: 1\nseed: 2", "bad.yaml:2: seed: this key is given twice, first at bad.yaml:1"),
        ("epochs: 1", "epochs: '80'", "bad.yaml:9: train.epochs: should be a valid integer, '80' given"),
        ("epochs: 1", "epochs: true", "bad.yaml:9: train.epochs: should be a valid integer, True given"),
        ("[8]}\nobj", "[8, -8]}\nobj", "bad.yaml:7: model.decoder.hidden_dims.1: should be greater than 0, -8 given"),
        ("use: vae", "use: veá", "bad.yaml:4: model.use: no model is called 'veá'"),
        ("use: elbo", "use: eblo", "bad.yaml:8: objective.use: no objective is called 'eblo'; did you mean 'elbo'?"),
        (TINY, "", "bad.yaml: the recipe is empty"),
        (TINY, "- a\n", "bad.yaml: a recipe is a mapping of keys, list given"),
        (TINY, "a: [1\nb: 2\n", "bad.yaml:2: this is not YAML: expected ',' or ']', but got ':'"),
        (
            "train: 256",
            "train: 70000",
            "bad.yaml:2: data: mnist: train + validation is 70064, but MNIST has 60000 training images",
        ),
        (
            "latent_dim: 2",
            "likelihood: gaussian",
            "bad.yaml:5: model.likelihood: gaussian: this likelihood needs grey or continuous values",
        ),
    ],
)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_bad_recipe(folder, command, old, new, message):
    assert old in TINY
    Path("bad.yaml").write_text(TINY.replace(old, new, 1))
    before = contents()
    assert fail(command, "bad.yaml").startswith(message)
    assert contents() == before


def test_validate_gathers_the_problems_of_several_recipes(folder):
    Path("bad.yaml").write_text(TINY.replace("seed", "sede").replace("epochs: 1", "epochs: 0"))
    result = invoke("validate", "tiny.yaml", "bad.yaml", "gone.yaml")
    assert (result.exit_code, result.stdout) == (2, "tiny.yaml: ok\n")
    lines = result.stderr.splitlines()
    assert lines[0] == "error: 3 problems in the recipe"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == ["bad.yaml:1", "bad.yaml:9", "gone.yaml"]


def test_validate_takes_overrides_for_all_of_its_recipes(folder):
    Path("other.yaml").write_text(TINY)
    assert succeed("validate", "tiny.yaml", "other.yaml", "train.epochs=2") == "tiny.yaml: ok\nother.yaml: ok\n"
    said = fail("validate", "tiny.yaml", "other.yaml", "train.epohcs=2")
    assert said.startswith("command line train.epohcs=2: train.epohcs: there is no such key; did you mean 'epochs'?")
    assert said.count("epohcs=2") == 1
    assert fail("validate", "train.epochs=2") == "train.epochs=2: overrides of no recipe; name one before them"
    Path("a=b.yaml").write_text(TINY)
    assert succeed("validate", "a=b.yaml") == "a=b.yaml: ok\n"


def test_validate_says_what_it_cannot_know_without_the_data(folder):
    Path("mine.yaml").write_text(re.sub("data: .*", "data: {use: image_folder, path: gone, labels: folders}", TINY))
    printed = succeed("validate", "mine.yaml")
    assert printed.startswith("mine.yaml: every key is right; whether the parts fit shows when the data is there: ")
    assert "gone does not exist" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny.yml"], "tiny.yml: there is no such recipe; did you mean 'tiny.yaml'? (there are: tiny.yaml)"),
        (["tiny.yaml", "--device", "cuda:7"], "device 'cuda:7' is not there; this machine has: cpu"),
        (["tiny.yaml", "--device", "gpu"], "device 'gpu': auto, cpu, cuda, cuda:1 or mps is wanted"),
        (["tiny.yaml", "--device", "meta"], "device 'meta' is not there; this machine has: cpu"),
        (["tiny.yaml", "--runs", "tiny.yaml"], "tiny.yaml/tiny cannot be written: [Errno 20] Not a directory"),
        (
            ["tiny.yaml", "train.batch_size=257"],
            "command line train.batch_size=257: train.batch_size: a batch of 257 is larger than the training data, 256",
        ),
        (
            ["tiny.yaml", "train.optimizers.modle=sgd"],
            "command line train.optimizers.modle=sgd: train.optimizers.modle: elbo has no player 'modle'; did you mean",
        ),
        (
            ["tiny.yaml", "train.clip_norm={modle: 1}"],
            "command line train.clip_norm={{modle: 1}}: train.clip_norm.modle: elbo has no turn 'modle'; did you mean",
        ),
        (["tiny.yaml", "train.epochs"], "command line train.epochs: an override is written key.path=value"),
        (["tiny.yaml", "seed.x=1"], "command line seed.x=1: seed: has no keys below it: it is 1"),
        (
            ["tiny.yaml", "data={use: image_folder, path: empty}", "model.likelihood=gaussian"],
            "{folder}/empty: no image in this folder or below it; looked for .png, .jpg",
        ),
        (
            ["tiny.yaml", "data={use: image_folder, path: none}", "model.likelihood=gaussian"],
            "{folder}/none does not exist; path must name a folder of images",
        ),
        (
            ["tiny.yaml", "data={use: image_folder, path: tiny.yaml}", "model.likelihood=gaussian"],
            "{folder}/tiny.yaml is not a folder; path must name a folder of images",
        ),
        ([], "a recipe is wanted, or --resume RUN"),
        (["--resume", "empty"], "empty is no run: it has no recipe.yaml"),
        (["--resume", "gone"], "gone is no run: it has no recipe.yaml"),
        (["tiny.yaml", "--resume", "gone"], "--resume RUN takes the run's own recipe, and overrides beside"),
    ],
)
def test_a_run_that_cannot_be_served_leaves_nothing(folder, words, message):
    Path("empty").mkdir()
    before = contents()
    assert fail("run", *words).startswith(message.format(folder=folder))
    assert contents() == before


@pytest.fixture
def silent_model(monkeypatch):
    """Registers a model that can do nothing, from this module."""
    registry = installed()
    registration = next(iter(registry.components("model")))
    silent = type(registration)("model", "silent", f"{__name__}:Silent", registration.plugin)
    monkeypatch.setattr(registry, "_components", {**registry._components, ("model", "silent"): [silent]})


class Silent(genkit.GenerativeModel):
    """A model that can do nothing."""

    def __init__(self, spec, /) -> None:
        super().__init__(spec)


def test_an_objective_that_the_model_cannot_serve(folder, silent_model):
    Path("bad.yaml").write_text(re.sub(r"model:\n(  .*\n)+", "model: silent\n", TINY))
    lines = fail("run", "bad.yaml").splitlines()
    assert lines[0] == "3 problems in the recipe"
    wanted = [
        ("bad.yaml:4: objective: elbo needs a model with ", "LatentVariable", "vae"),
        ("bad.yaml: sampler: prior needs a model with ", "Decodes", "vae"),
        ("bad.yaml:7: evaluate.bpd: bits_per_dim needs a model with ", "HasLogProb", "vae"),
    ]
    for line, (start_of_line, capability, able) in zip(lines[1:], wanted, strict=True):
        assert line.strip().startswith(start_of_line)
        assert capability in line
        assert re.search(rf"which silent has not; models that would do: .*\b{able}\b", line)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (10**14, "tiny.yaml:3: model.prior: standard_normal: "),
        (10**26, f"command line model.latent_dim={10**26}: '{10**26}' is no int that can be used"),
    ],
)
def test_a_size_that_no_machine_has(folder, size, message):
    line = fail("run", "tiny.yaml", f"model.latent_dim={size}")
    assert line.startswith(message)
    assert "\n" not in line
    assert contents() == ["tiny.yaml"]


@pytest.mark.parametrize("name", ["../outside", "", "a/b"])
def test_a_runs_name_is_one_folder(folder, name):
    assert fail("run", "tiny.yaml", "--name", name).startswith(f"run name {name!r}: one folder's name is wanted, ")
    assert contents() == ["tiny.yaml"]


# ---- a run and what is done with it ------------------------------------------------------------------------------


def test_a_run_prints_its_figures_and_paths(trained):
    path, printed = trained
    assert re.search(r"^test +bpd +\d\.\d{4} +bits/dim +1 +lower bound; 2 levels", printed, re.MULTILINE)
    for name in ("recipe.yaml", "metrics.jsonl", "images", "tensorboard", "checkpoints"):
        assert f"{path / name}  (" in printed
        assert (path / name).exists()


def test_a_run_leaves_what_it_says(trained):
    path, _ = trained
    assert yaml.safe_load((path / "recipe.yaml").read_text())["model"]["encoder"]["hidden_dims"] == [8]
    environment = json.loads((path / "environment.json").read_text())
    assert (environment["seed"], environment["device"], environment["genkit"]) == (1, "cpu", genkit.__version__)
    for name in ("last", "best"):
        assert sorted(file.name for file in (path / "checkpoints" / name).iterdir()) == [
            "model.safetensors",
            "state.json",
            "state.safetensors",
        ]
    records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["split"], r["epoch"]) for r in records if r["name"] == "bpd"] == [
        ("validation", 0),
        ("validation", 1),
        ("test", 1),
    ]


def test_a_second_run_of_the_name_is_refused(trained):
    path, _ = trained
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    message = fail("run", path.parents[1] / "tiny.yaml", "--runs", path.parent)
    assert message == f"{path} exists: give the run another --name, or continue it with genkit run --resume {path}"
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_finished_run_resumes_to_its_end_without_new_figures(trained):
    path, _ = trained
    before = (path / "metrics.jsonl").read_text()
    assert "lower bound" in succeed("run", "--resume", path)
    assert (path / "metrics.jsonl").read_text() == before


def test_a_runs_own_recipe_runs_again(trained, folder):
    path, _ = trained
    printed = succeed("run", path / "recipe.yaml", "--dry-run")
    for row in (r"train +256 examples", r"validation +64 examples", r"steps +1 epochs of 4", r"device +cpu"):
        assert re.search(row, printed)
    assert contents() == ["tiny.yaml"]


def test_samples_as_picture_and_as_values(trained, folder):
    path, _ = trained
    words = ("sample", path, "-n", "5", "--seed", "3")
    printed = succeed(*words, "-o", "s.png", "--columns", "3", "--zoom", "1")
    assert printed == f"wrote 5 samples of {path} (best, seed 3) to s.png\n"
    with Image.open("s.png") as picture:
        assert 3 * 28 < picture.size[0] < 4 * 28
        assert 2 * 28 < picture.size[1] < 3 * 28
    succeed(*words, "-o", "a.npy")
    succeed(*words, "-o", "b.npy", "temperature=1.0", "output=draw")
    succeed(*words, "-o", "c.npy", "output=mean")
    draws, same, means = (np.load(name, allow_pickle=False) for name in ("a.npy", "b.npy", "c.npy"))
    assert draws.shape == (5, 1, 28, 28)
    assert draws.dtype == np.float32
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert np.array_equal(draws, same)
    assert 0 < means.min() < means.max() < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "s.jpg"], "s.jpg: a name that ends in .png or .npy is wanted"),
        (["-o", "gone/s.png"], "gone/s.png cannot be written: [Errno 2] No such file or directory"),
        (["-o", "gone/s.npy"], "gone/s.npy cannot be written: [Errno 2] No such file or directory"),
        (["temprature=0.5"], "sampler.temprature: there is no such key; did you mean 'temperature'?"),
        (["temperature=-1"], "sampler.temperature: should be greater than or equal to 0, -1 given"),
        (["temperature"], "command line sampler.temperature: an override is written key.path=value"),
        (["--sampler", "pior"], "sampler.use: no sampler is called 'pior'; did you mean 'prior'?"),
        (["--device", "cuda:7"], "device 'cuda:7' is not there; this machine has: cpu"),
    ],
)
def test_samples_that_cannot_be_drawn(trained, folder, words, message):
    path, _ = trained
    words = words if "-o" in words else [*words, "-o", "s.npy"]
    assert message in fail("sample", path, *words)
    assert contents() == ["tiny.yaml"]


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_folder_that_is_no_run_names_those_beside_it(trained, folder, command):
    path, _ = trained
    wrong = path.with_name("tyni")
    assert fail(command, wrong) == f"{wrong} is no run: it has no recipe.yaml; runs beside it: tiny"


def test_a_checkpoint_that_is_not_there(trained):
    path, _ = trained
    message = f"{path} has no checkpoint 'bset'; did you mean 'best'? (allowed: best, last)"
    assert fail("sample", path, "--checkpoint", "bset") == message


@pytest.mark.parametrize(
    ("words", "figures", "pictures"),
    [
        ([], ["bpd", "bpd/nats"], ["samples/means_best.png", "samples/samples_best.png"]),
        (["bpd"], ["bpd", "bpd/nats"], []),
        (["bpd", "num_samples=3"], ["bpd", "bpd/nats"], []),
        (["bits_per_dim"], ["bits_per_dim", "bits_per_dim/nats"], []),
        (["manifold", "grid=2"], [], ["manifold/best.png"]),
        (["samples", "bpd", "rows=1", "num_samples=2"], ["bpd", "bpd/nats"], ["samples/means_best.png"]),
    ],
)
def test_evaluate_names_and_options(trained, words, figures, pictures):
    path, _ = trained
    printed = succeed("evaluate", path, *words)
    assert re.findall(r"^test +(\S+)", printed, re.MULTILINE) == figures
    samples = next((word.partition("=")[2] for word in words if word.startswith("num_samples")), None)
    assert ("estimate" in printed) is (samples is not None)
    if samples and figures:
        assert f"estimate ({samples} samples)" in printed
    for picture in pictures:
        assert f"{path / 'evaluations' / picture}\n" in printed
        assert (path / "evaluations" / picture).is_file()


def test_evaluate_prints_json(trained):
    records = json.loads(succeed("evaluate", trained[0], "bpd", "--json"))
    assert [record["name"] for record in records] == ["bpd", "bpd/nats"]
    assert records[0]["tag"] == "lower bound; 2 levels, binarized at 0.5"


def test_evaluate_prints_counts_whole_and_small_figures_too(trained, monkeypatch):
    def evaluate(evaluator, subject, split):
        for index, (value, floor) in enumerate([(25, 8), (25.0, 0.0), (2e-5, -2e-5), (-12.34567, 1234.5)]):
            yield genkit.Figure(value, str(index), floor=floor)

    monkeypatch.setattr("genkit_metrics.bits_per_dim.BitsPerDim.evaluate", evaluate)
    printed = succeed("evaluate", trained[0], "bpd")
    assert re.findall(r"bpd/\d +(\S+) +(\S+)", printed) == [
        ("25", "8"),
        ("25.0000", "0.0000"),
        ("2.0e-05", "-2.0e-05"),
        ("-12.3457", "1234.5000"),
    ]


def test_evaluate_on_another_split(trained):
    printed = succeed("evaluate", trained[0], "bpd", "--split", "validation", "--checkpoint", "last")
    assert re.findall(r"^(\S+) +bpd", printed, re.MULTILINE) == ["validation", "validation"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bpd", "num_sample=2"], "command line: num_sample: no evaluator here has this key; did you mean 'num_"),
        (["bpd", "num_samples=0"], "evaluate.bpd.num_samples: should be greater than 0, 0 given"),
        (["manifold", "grid=x"], "evaluate.manifold.grid: should be a valid integer, 'x' given"),
        (["bits_per_dmi"], "no evaluator 'bits_per_dmi', and none is installed; did you mean 'bits_per_dim'?"),
        (["bdp"], "no evaluator 'bdp', and none is installed; did you mean 'bpd'?"),
        (["--split", "tset"], "the run has no split 'tset'; did you mean 'test'? (allowed: test, train, validation)"),
    ],
)
def test_evaluations_that_cannot_be_served(trained, words, message):
    assert message in fail("evaluate", trained[0], *words)


# ---- what is installed -------------------------------------------------------------------------------------------

COMPONENTS = [(r.kind, r.name) for r in installed().components()]


def test_show_prints_a_recipe_that_is_its_own_resolution(folder):
    printed = succeed("show", "tiny.yaml", "train.epochs=7", "evaluate.samples=null")
    plain = yaml.safe_load(printed)
    assert plain["train"]["epochs"] == 7
    assert list(plain["evaluate"]) == ["bpd"]
    assert plain["sampler"]["use"] == "prior"
    Path("again.yaml").write_text(printed)
    assert succeed("show", "again.yaml") == printed


def test_show_refuses_as_run_does(folder):
    assert fail("show", "tiny.yaml", "train.epochs=0").startswith(
        "command line train.epochs=0: train.epochs: should be"
    )


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_describe(kind, name):
    printed = succeed("describe", kind, name)
    registration = installed().get(kind, name)
    flat = " ".join(printed.split())
    assert flat.startswith(f"{kind} {name} {registration.target}")
    assert ":math:" not in printed
    assert "``" not in printed
    snippet = yaml.safe_load(printed.partition("in a recipe")[2])
    assert f"'use': '{name}'" in str(snippet)


def test_describe_spells_out_the_keys_of_what_a_list_holds():
    printed = succeed("describe", "model", "hierarchical_vae")
    for key in ("levels.N.latent_dim", "levels.N.encoder", "levels.N.decoder", "levels.N.posterior"):
        assert key in printed
    assert re.search(r"levels\.N\.latent_dim +int > 0 +20 +Dimensions of its", printed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "modle", "vae"], "no kind 'modle'; did you mean 'model'? (allowed: adversarial_loss, backbone, "),
        (["describe", "model", "vea"], "no model is called 'vea'; did you mean 'vae'?"),
        (
            ["list-plugins", "--kind", "modle"],
            "no kind 'modle'; did you mean 'model'? (allowed: adversarial_loss, backbone, ",
        ),
        (["schema", "-o", "gone/s.json"], "gone/s.json cannot be written: [Errno 2] No such file or directory"),
    ],
)
def test_questions_without_an_answer(folder, words, message):
    assert fail(*words).startswith(message)
    assert contents() == ["tiny.yaml"]


def test_plugins_are_listed():
    printed = succeed("list-plugins")
    assert re.search(r"^mnist +genkit-torch +\d\S* +/\S+genkit_mnist/__init__.py$", printed, re.MULTILINE)
    for kind, name in COMPONENTS:
        assert re.search(rf"^{kind} +{name} +\S", printed, re.MULTILINE)


def test_plugins_are_listed_for_programs():
    listing = json.loads(succeed("list-plugins", "--json"))
    assert [(c["kind"], c["name"]) for c in listing["components"]] == COMPONENTS
    assert all(c["summary"] and ":" in c["target"] for c in listing["components"])
    plugins = {plugin["name"]: plugin for plugin in listing["plugins"]}
    assert {c["plugin"] for c in listing["components"]} <= set(plugins)
    assert set(plugins["mnist"]) == {
        *("name", "module", "distribution", "version", "location", "error", "remedy", "notes"),
    }


def test_one_kind_is_listed():
    lines = succeed("list-plugins", "--kind", "backbone").splitlines()
    assert lines[0].split() == ["kind", "name", "summary"]
    assert [line.split()[:2] for line in lines[1:]] == [list(c) for c in COMPONENTS if c[0] == "backbone"]
    listing = json.loads(succeed("list-plugins", "--kind", "backbone", "--json"))
    assert {c["kind"] for c in listing["components"]} == {"backbone"}


def test_schema_is_written(folder):
    assert succeed("schema", "-o", "s.json") == "wrote s.json\n"
    assert json.loads(Path("s.json").read_text()) == json.loads(succeed("schema"))


def test_version():
    assert succeed("--version") == f"genkit {genkit.__version__}\n"


def test_traceback_is_shown_on_request(folder):
    result = invoke("--traceback", "show", "gone.yaml")
    assert isinstance(result.exception, genkit.RecipeError)
    assert fail("show", "gone.yaml").startswith("gone.yaml: there is no such recipe")


# ---- processes ---------------------------------------------------------------------------------------------------


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_that_can_be_continued(folder, number, code):
    endless = ["train.epochs=1000000", "train.checkpoint_every=1000000", "evaluate=null"]
    words = [COMMAND, "run", "tiny.yaml", *endless, "--name", "cut"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = Path("runs/cut/metrics.jsonl")
    try:
        wait_for(lambda: metrics.is_file() and '"split": "train"' in metrics.read_text(), process)
        assert not Path("runs/cut/checkpoints/last").exists()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "interrupted; continue with: genkit run --resume runs/cut" in stderr
    assert "Traceback" not in stderr
    position = json.loads(Path("runs/cut/checkpoints/last/state.json").read_text())["position"]
    step = 4 * position["epoch"] + position["step_in_epoch"]
    assert step > 0

    shorter = f"train.epochs={position['epoch'] + 2}"
    result = invoke("run", "--resume", "runs/cut", shorter)
    assert result.exit_code == 2
    assert f"train.epochs: 1000000, now {position['epoch'] + 2}" in result.stderr
    result = invoke("run", "--resume", "runs/cut", shorter, "--allow-changes")
    assert result.exit_code == 0, result.stderr
    assert f"resumed after step {step}" in result.stderr
    last = json.loads(Path("runs/cut/checkpoints/last/state.json").read_text())["position"]
    assert (last["epoch"], last["step_in_epoch"]) == (position["epoch"] + 2, 0)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    epochs = [record["step"] for record in lines if record["name"] == "model/kl/epoch"]
    assert epochs == [4 * epoch for epoch in range(1, position["epoch"] + 3)]


def test_a_closed_pipe_is_no_traceback(folder):
    reader, writer = os.pipe()
    os.close(reader)
    done = process_of("list-plugins", stdout=writer)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_an_error_of_the_process_is_its_message_and_exit_code(folder):
    done = process_of("describe", "modle", "vae")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: no kind 'modle'; did you mean 'model'\? \(allowed: [\w, ]+\)\n", done.stderr)


PROBE = """
import sys
from genkit.cli import main
sys.argv = ["genkit", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("loaded:", [m for m in ("torch", "torchvision", "numpy", "pydantic") if m in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["--help"], {}, "list-plugins"),
        (["run", "--help"], {}, "--resume"),
        (["--version"], {}, "genkit "),
        (["list-plugins"], {}, "backbone"),
        (["list-plugins", "--json"], {}, "backbone"),
        ([], {"_GENKIT_COMPLETE": "complete_bash", "COMP_WORDS": "genkit li", "COMP_CWORD": "1"}, "list-plugins"),
    ],
)
def test_what_must_be_instant_loads_no_torch(folder, words, environment, expected):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("words", "built"),
    [(["validate", "r.yaml"], ["validate"]), (["--help"], None), ([], None), (["lst-plugins"], None)],
)
def test_only_the_command_that_is_called_is_built(words, built):
    every = [command.name for command in app.registered_commands]
    assert len(every) > 5
    assert [command.name for command in narrowed(words).registered_commands] == (built or every)
    assert [command.name for command in app.registered_commands] == every


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny.yaml", "train.epochss=2"], "command line train.epochss=2: train.epochss: there is no such key"),
        (["tiny.yaml", "--name", "taken"], "runs/taken exists: give the run another --name"),
    ],
)
def test_several_processes_are_not_started_in_vain(folder, monkeypatch, words, message):
    """What each of them would stumble over is told once."""
    monkeypatch.setattr("os.execv", lambda *command: pytest.fail("the launcher was called"))
    (folder / "runs" / "taken").mkdir(parents=True)
    assert fail("run", *words, "--devices", "2").startswith(message)


# ---- plugins that are left out -----------------------------------------------------------------------------------


def command(*words, **environment):
    """Runs the installed command in a process of its own, whose registry is its own."""
    done = subprocess.run(
        [COMMAND, *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--no-plugin", "toy", "list-plugins", "--json"),
        ("list-plugins", "--no-plugin=toy", "--json"),
        ("list-plugins", "--json", "--no-plugin", "toy"),
    ],
)
def test_a_plugin_is_left_out_wherever_that_is_said(words):
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    listing = json.loads(out)
    assert [plugin["name"] for plugin in listing["left_out"]] == ["toy"]
    assert "moons" not in {component["name"] for component in listing["components"]}
    assert "mnist" in {component["name"] for component in listing["components"]}


def test_a_recipe_that_needs_what_is_left_out_says_so(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TINY)
    code, out, err = command("validate", str(recipe), GENKIT_LOAD_PLUGINS="vae,backbones,priors,optim,samplers")
    assert (code, out) == (2, "")
    assert "no kind 'dataset'" in err
    assert "not loaded (GENKIT_LOAD_PLUGINS does not name it): genkit-torch:features, " in err
    assert "genkit-torch:mnist" in err


@pytest.mark.parametrize(
    ("words", "environment"),
    [(("list-plugins", "--no-plugin", "tyo"), {}), (("list-plugins",), {"GENKIT_LOAD_PLUGINS": "tyo"})],
)
def test_a_plugin_that_is_not_there_cannot_be_chosen(words, environment):
    code, out, err = command(*words, **environment)
    assert (code, out) == (2, "")
    assert "names 'tyo', but no plugin or distribution" in err
    assert "did you mean 'toy'?" in err


def test_an_error_of_a_plugins_own_names_it(tmp_path):
    (tmp_path / "culprit.py").write_text(
        'import genkit\n\n\nclass Forgets(genkit.Backbone):\n    """Calls nothing first."""\n\n'
        "    def __init__(self, in_shape, out_shape, /) -> None:\n        self.layer = genkit.Backbone()\n\n"
        "    def forward(self, x, context=None): ...\n\n\n"
        "@genkit.hookimpl\ndef register_components(register):\n    register('forgets', Forgets)\n"
    )
    metadata = tmp_path / "culprit_dist-3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: culprit-dist\nVersion: 3\n")
    (metadata / "entry_points.txt").write_text("[genkit.plugins]\nculprit = culprit\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TINY)
    code, out, err = command("validate", str(recipe), "model.encoder=forgets", PYTHONPATH=str(tmp_path))
    assert (code, out) == (1, "")
    note = err.strip().splitlines()[-1]
    assert note.startswith(f"in plugin 'culprit' of culprit-dist 3 ({tmp_path / 'culprit.py'}:8)")
    assert note.endswith("genkit check-plugin culprit-dist")
