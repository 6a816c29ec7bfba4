"""Adversarial recipes that cannot work, from the command line: refused before training, with what would do.

That genkit's own recipes build is tested in ``test_installed.py``, batches in ``engine/test_batches.py``.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from genkit.cli import app

GAN = """\
seed: 1
data: {use: mnist, train: 128, validation: 0, test: 32}
model:
  use: generator
  latent_dim: 2
  network: {use: mlp, hidden_dims: [8]}
objective:
  use: adversarial
  loss: non_saturating
  critic: {use: mlp, hidden_dims: [8]}
  critic_steps: 1
  regularizers: []
sampler: {use: prior}
train: {epochs: 1, batch_size: 32}
evaluate:
  samples: {use: sample_grid, rows: 2, columns: 2}
"""
SUM = """\
objective:
  use: sum
  parts: {game: {use: adversarial, critic: {use: mlp, hidden_dims: [8]}}}
  weights: {}
"""
OBJECTIVE = GAN[GAN.index("objective:") : GAN.index("sampler:")]
LOSSES = "hinge, least_squares, minimax, non_saturating, relativistic, wasserstein"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a recipe and a few unlabelled pictures."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(f"photos/{index}.png")
    Path("gan.yaml").write_text(GAN)


def fail(*words):
    """The one clear message of a command that must fail, and leaves nothing."""
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, SystemExit), f"a traceback would be shown: {result.exception!r}"
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert sorted(Path().rglob("*")) == before
    return result.stderr.removeprefix("error: ").rstrip("\n")


def in_file(old, new):
    assert GAN.count(old) == 1, old
    Path("bad.yaml").write_text(GAN.replace(old, new))


IN_FILE = [
    (
        "loss: non_saturating",
        "loss: non_saturatin",
        "bad.yaml:9: objective.loss.use: no adversarial_loss is called 'non_saturatin'; did you mean 'non_saturating'? "
        f"(allowed: {LOSSES})",
    ),
    (
        "regularizers: []",
        "regularizers: [spectral_norm, {use: r1, gama: 1.0}]",
        "bad.yaml:12: objective.regularizers.1.gama: there is no such key; did you mean 'gamma'? (allowed: gamma)",
    ),
    (
        "regularizers: []",
        "regularizers:\n    - use: r1\n      gamma: -1.0",
        "bad.yaml:14: objective.regularizers.0.gamma: should be greater than 0, -1.0 given",
    ),
    (
        "critic_steps: 1",
        "critic_steps: 0",
        "bad.yaml:11: objective.critic_steps: should be greater than 0, 0 given",
    ),
    (
        "regularizers: []",
        "regularizers: [{use: packing, size: 1}]",
        "bad.yaml:12: objective.regularizers.0.size: should be greater than or equal to 2, 1 given",
    ),
    (
        "regularizers: []",
        "regularizers: [r1, r1]",
        "bad.yaml:7: objective: adversarial: regularizer 'r1' is there 2 times; once would do",
    ),
    (
        "critic_steps: 1",
        "critic_steps: 2\n  fresh_fakes: false",
        "bad.yaml:7: objective: adversarial: fresh_fakes: false has both moves share one batch of samples, so "
        "critic_steps must be 1",
    ),
    (
        OBJECTIVE,
        "objective: sum\n",
        "bad.yaml:7: objective.parts: this key is missing: mapping of str to objective. The objectives, by names of "
        "your choice.",
    ),
    (
        OBJECTIVE,
        SUM.replace("  weights: {}", "  weights: {gmae: 2.0}"),
        "bad.yaml:7: objective: sum: weights name gmae, but the parts are game",
    ),
    (
        OBJECTIVE,
        SUM.replace("  weights: {}", "  weights: {game: -2.0}"),
        "bad.yaml:10: objective.weights.game: should be greater than 0, -2.0 given",
    ),
    (
        "samples: {use: sample_grid, rows: 2, columns: 2}",
        "between: {use: interpolation, between: data}",
        "bad.yaml:16: evaluate.between: interpolation: between: data needs a model that encodes: Generator does not; "
        "between: prior would do",
    ),
    (
        "sampler: {use: prior}",
        "sampler: {use: rejection, percentile: 100}",
        "bad.yaml:13: sampler.percentile: should be less than 100, 100 given",
    ),
]


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize(("old", "new", "message"), IN_FILE)
def test_a_bad_adversarial_recipe(folder, command, old, new, message):
    in_file(old, new)
    assert fail(command, "bad.yaml") == message


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "objective.loss=wassertein",
            "objective.loss.use: no adversarial_loss is called 'wassertein'; did you mean 'wasserstein'? "
            f"(allowed: {LOSSES})",
        ),
        (
            "objective.regularizers=[{use: gradient_penalty, weight: ten}]",
            "objective.regularizers.0.weight: should be a valid number, 'ten' given",
        ),
        ("objective.regularizers=packing", "objective.regularizers: should be a list, 'packing' given"),
        ("objective.critic_steps=0", "objective.critic_steps: should be greater than 0, 0 given"),
        ("objective={use: sum, parts: {}}", "objective.parts: Dictionary should have at least 1 item"),
        (
            "objective={use: sum, parts: {a: {use: adversarial, critic_steps: 2}, b: adversarial}}",
            "objective: sum: parts disagree how often player 'critic' moves in a step: {'a': 2, 'b': 1}",
        ),
        (
            "objective={use: sum, parts: {a: {use: adversarial, first: critic}, b: adversarial}}",
            "objective: sum: parts disagree in which order these players move: critic, model",
        ),
        (
            "evaluate.frechet={use: frechet, num_samples: 1}",
            "evaluate.frechet.num_samples: should be greater than or equal to 2, 1 given",
        ),
        (
            "evaluate.modes={use: mode_coverage, extractor: values}",
            "evaluate.modes: mode_coverage: mode coverage needs an extractor that classifies, which values does not",
        ),
        (
            "evaluate.scatter=scatter",
            "evaluate.scatter: scatter: scatter shows points in the plane, but the data has shape (1, 28, 28)",
        ),
    ],
)
def test_a_bad_override(folder, dry, override, message):
    assert fail("run", "gan.yaml", override, *dry).startswith(f"command line {override}: {message}")


# ---- parts that do not fit each other ----------------------------------------------------------------------------

NO_RATIO = (
    "command line sampler=rejection: sampler: rejection: rejection needs a critic whose score of each example is a log "
    "density ratio: one trained under the loss minimax, non_saturating or relativistic, without label_smoothing, "
    "packing or minibatch_stddev"
)
PHOTOS = ["data={use: image_folder, path: photos, size: 12}", "train.batch_size=4"]
VAE = ["model={use: vae, latent_dim: 2, likelihood: discretized_logistic}", "objective=elbo"]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [*VAE, "sampler=rejection"],
            "command line sampler=rejection: sampler: rejection: needs an objective that keeps a critic, which ELBO "
            "does not",
        ),
        (["sampler=rejection", "objective.loss=hinge"], NO_RATIO),
        (["sampler=rejection", "objective.regularizers=[packing]"], NO_RATIO),
        (["sampler=rejection", "objective.regularizers=[label_smoothing]"], NO_RATIO),
        (
            ["objective.loss=hinge", "objective.regularizers=[label_smoothing]"],
            "gan.yaml:7: objective: adversarial: label_smoothing changes labels, and hinge has none; minimax, "
            "non_saturating and least_squares do",
        ),
        (
            [*PHOTOS, "evaluate.modes=mode_coverage"],
            "command line evaluate.modes=mode_coverage: evaluate.modes: mode_coverage: mode coverage needs labelled "
            "data or a mixture whose modes are known; these have no labels (an image_folder "
            "has them with its images in one folder a class)",
        ),
        (
            [*PHOTOS, "evaluate.frechet=frechet"],
            "command line evaluate.frechet=frechet: evaluate.frechet.extractor: classifier: a classifier needs "
            "labelled images, and these have no labels; extractor: inception would do",
        ),
        (
            ["data=mixture", "evaluate={modes: mode_coverage, frechet: frechet}"],
            "command line evaluate={modes: mode_coverage, frechet: frechet}: evaluate.frechet.extractor: classifier: a "
            "classifier is for images, but the data has shape (2,); extractor: values would do",
        ),
        (
            ["data=mixture", "evaluate={}", "objective.critic={use: cnn}"],
            "command line objective.critic={use: cnn}: objective.critic: cnn: maps an image to a vector, a vector to "
            "an image or an image to one of the same size, not (2,) to (1,); use mlp",
        ),
        (
            ["objective=elbo"],
            "command line objective=elbo: objective: elbo needs a model with LatentVariable, which generator has not; "
            "models that would do: hierarchical_vae, vae",
        ),
    ],
)
def test_parts_that_do_not_fit(folder, dry, overrides, message):
    assert fail("run", "gan.yaml", *overrides, *dry) == message


@pytest.mark.parametrize("there", [False, True], ids=["no package", "package"])
def test_inception_without_weights(folder, monkeypatch, there):
    """Whether or not torch-fidelity is installed: it says what is missing and downloads nothing."""
    from genkit_features import inception

    monkeypatch.setattr(inception, "find_spec", lambda name: object() if there else None)
    override = "evaluate.frechet={use: frechet, extractor: {use: inception, weights: gone.pth}}"
    missing = (
        "inception's weights are not there: gone.pth; put torch-fidelity's weights-inception-2015-12-05-6726825d.pth "
        "there, name it with weights, or use extractor: classifier, which needs none"
        if there
        else "inception needs the package torch-fidelity: pip install torch-fidelity"
    )
    assert fail("run", "gan.yaml", override) == (
        f"command line {override}: evaluate.frechet.extractor: inception: {missing}"
    )


def test_what_is_proposed_would_do(folder):
    for overrides in (
        ["sampler=rejection"],
        ["evaluate.between={use: interpolation, between: prior}"],
        [*PHOTOS, "data.labels=none", "evaluate.frechet={use: frechet, extractor: values}"],
        ["data=mixture", "evaluate={modes: mode_coverage, frechet: {use: frechet, extractor: values}}"],
        ["objective.loss=least_squares", "objective.regularizers=[label_smoothing]"],
        ["objective={use: sum, parts: {a: adversarial}, weights: {a: 2.0}}"],
    ):
        result = CliRunner().invoke(app, ["run", "gan.yaml", *overrides, "--dry-run"])
        assert result.exit_code == 0, (overrides, result.stderr or repr(result.exception))
