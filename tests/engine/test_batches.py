"""Batches of objectives that judge several examples together: what does not divide is found before training."""

from pathlib import Path

import pytest
import torch
import toy
from pydantic import PositiveInt
from torch import nn
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit.engine import Trainer, assemble
from genkit.engine.assembly import check_batches, dry_build
from genkit.engine.folder import RunFolder
from genkit.recipe import load_recipe
from genkit.registry import Plugin, Registrar, load_registry

CPU = torch.device("cpu")


class Groups(genkit.Objective):
    """A judge of groups of examples, who moves oftener than the model."""

    requires = (genkit.HasLogProb,)
    seen = None  # sizes of the batches of the judge's turn; shared by all

    def __init__(self, model: genkit.GenerativeModel, /, *, size: PositiveInt = 4, judge_steps: PositiveInt = 1):
        super().__init__()
        self.size = size
        self.judge_steps = judge_steps
        self.judge = nn.Linear(size * model.spec.num_dims, 1)

    @property
    def batch_multiple(self):
        return self.size

    def players(self, model):
        return {"model": list(model.parameters()), "judge": list(self.judge.parameters())}

    def turns(self, model):
        def fit(batch, progress):
            return genkit.Loss(-model.log_prob(batch.x).nats.mean() + model.output.linear.weight.square().sum())

        def tell(batch, progress):
            Groups.seen.append(len(batch.x))
            groups = batch.x.reshape(len(batch.x) // self.size, -1)
            return genkit.Loss(self.judge(groups).square().mean())

        return [genkit.Turn("fit", "model", fit), genkit.Turn("tell", "judge", tell, repeats=self.judge_steps)]


TEXT = """\
seed: 3
data: {use: bits, train: 96}
model: {use: denoiser}
objective: {use: groups, size: 4}
sampler: {use: decoded}
train:
  epochs: 1
  batch_size: 32
  log_every: 1
  optimizer: {use: momentum}
  schedule: {use: decay}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads ``TEXT`` with overrides."""
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(TEXT)
    registry = toy.registry()
    Registrar(registry, Plugin("groups", "groups", "tests", "0"))("groups", Groups)
    monkeypatch.setattr(Groups, "seen", [])
    return lambda *overrides: load_recipe("r.yaml", overrides, registry)


def train(recipe):
    return Trainer(assemble(recipe, CPU), RunFolder(Path("run")), load_registry([]).manager).run()


# ---- what does not divide ----------------------------------------------------------------------------------------

NO_MULTIPLE = "train.batch_size: groups judges {0} examples together, but batches of {1} are no multiple of {0}; {2}"
LAST = (
    "train.batch_size: groups judges {0} examples together, but an epoch's last batch has {1} examples, no multiple "
    "of {0}; set train.drop_last to true"
)


@pytest.mark.parametrize(
    ("overrides", "place", "message"),
    [
        (["objective.size=5"], "r.yaml:8", NO_MULTIPLE.format(5, 32, "30 would be")),
        (["objective.size=64"], "r.yaml:8", NO_MULTIPLE.format(64, 32, "64 would be")),
        (["train.batch_size=30"], "command line train.batch_size=30", NO_MULTIPLE.format(4, 30, "28 would be")),
        (["train.batch_size=30", "train.drop_last=true"], "command line train.batch_size=30", "train.batch_size: "),
        (["data.train=98"], "r.yaml:8", LAST.format(4, 2)),
        (["data.train=97", "objective.size=2"], "r.yaml:8", LAST.format(2, 1)),
    ],
)
def test_a_batch_that_cannot_be_grouped_is_refused(read, overrides, place, message):
    with pytest.raises(genkit.RecipeError) as caught:
        assemble(read(*overrides), CPU)
    assert str(caught.value).startswith(f"{place}: {message}")
    assert caught.value.exit_code == 2


def test_what_is_proposed_would_do(read):
    for overrides in (
        ["objective.size=5", "train.batch_size=30", "train.drop_last=true"],
        ["objective.size=64", "train.batch_size=64", "train.drop_last=true"],
        ["train.batch_size=28", "train.drop_last=true"],
        ["data.train=98", "train.drop_last=true"],
        ["data.train=97", "objective.size=2", "train.drop_last=true"],
        ["data.train=100"],  # the last batch has 4
        ["data.train=104", "objective.size=8"],
    ):
        assert train(read(*overrides)).status == "finished"


def test_without_data_only_the_size_of_a_batch_is_judged(read):
    with pytest.raises(genkit.RecipeError, match=r"^r.yaml:8: train.batch_size: .* batches of 32 are no multiple of 5"):
        dry_build(read("objective.size=5"))
    dry_build(read("data.train=98"))


def test_a_batch_of_no_group_is_no_matter_to_others(read):
    recipe = read("data.train=97")
    check_batches(recipe, nn.Module.__new__(toy.Denoising), 97)  # whose multiple is 1


# ---- together with what else decides on batches ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "seen"),
    [
        ([], [32, 32, 32]),
        (["train.accumulate=2"], [32, 32, 32]),
        (["objective.judge_steps=2"], [32, 32, 32]),
        (["objective.judge_steps=2", "train.accumulate=2", "train.batch_size=16"], [16] * 6),
        (["data.train=100", "objective.judge_steps=3"], [32, 32, 32, 4]),
        (["data.train=100", "train.drop_last=true", "objective.judge_steps=3"], [32, 32, 32]),
    ],
)
def test_every_batch_of_an_epoch_is_grouped(read, overrides, seen):
    assert train(read(*overrides)).status == "finished"
    assert Groups.seen == seen


# ---- packing, from the command line ------------------------------------------------------------------------------

GAN = """\
seed: 1
data: {use: mnist, train: 96, validation: 0, test: 16}
model: {use: generator, latent_dim: 2, network: {use: mlp, hidden_dims: [8]}}
objective:
  use: adversarial
  critic: {use: mlp, hidden_dims: [8]}
  regularizers: [packing]
train:
  epochs: 1
  batch_size: 32
  log_every: 1
"""
SUM = "objective={use: sum, parts: {a: {use: adversarial, critic: {use: mlp, hidden_dims: [8]}, regularizers: [packing"


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Calls the command in a folder with ``GAN``."""
    for plugin in ("genkit_gan", "genkit_mnist", "genkit_backbones", "genkit_objectives"):
        pytest.importorskip(plugin)
    monkeypatch.chdir(tmp_path)
    Path("gan.yaml").write_text(GAN)
    return lambda *words: CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.batch_size=31"],
            "command line train.batch_size=31: train.batch_size: adversarial judges 2 examples together, but batches "
            "of 31 are no multiple of 2; 30 would be",
        ),
        (
            ["objective.regularizers=[{use: packing, size: 3}]"],
            "gan.yaml:10: train.batch_size: adversarial judges 3 examples together, but batches of 32 are no multiple "
            "of 3; 30 would be",
        ),
        (
            ["data.train=97"],
            "gan.yaml:10: train.batch_size: adversarial judges 2 examples together, but an epoch's last batch has 1 "
            "examples, no multiple of 2; set train.drop_last to true",
        ),
        (
            [SUM + "], loss: hinge}}}", "train.batch_size=31"],
            "command line train.batch_size=31: train.batch_size: sum judges 2 examples together, but batches of 31 are "
            "no multiple of 2; 30 would be",
        ),
    ],
)
def test_packing_is_refused_before_anything_is_there(invoke, dry, overrides, message):
    result = invoke("run", "gan.yaml", *overrides, *dry)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert [str(path) for path in Path().iterdir()] == ["gan.yaml"]


def test_validate_finds_packing_too(invoke):
    Path("gan.yaml").write_text(GAN.replace("batch_size: 32", "batch_size: 31"))
    result = invoke("validate", "gan.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: gan.yaml:10: train.batch_size: adversarial judges 2 examples together")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.train=97", "train.drop_last=true"],
        ["data.train=98"],  # the last batch has 2
        ["objective.critic_steps=2", "train.accumulate=2", "train.batch_size=16"],
        ["objective.critic_steps=3", "train.accumulate=2", "train.batch_size=16", "data.train=98"],
        ["objective.regularizers=[packing, minibatch_stddev, spectral_norm, r1, gradient_penalty]"],
        [SUM + ", {use: r2}], loss: hinge}}}"],
    ],
)
def test_packing_trains(invoke, overrides):
    result = invoke("run", "gan.yaml", *overrides)
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    assert invoke("run", "gan.yaml", *overrides, "--dry-run").exit_code == 0
