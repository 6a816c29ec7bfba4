"""What the flow recipes promise, as far as a test can wait for it, and what is said of those that cannot work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit.engine.assembly import dry_build
from genkit.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
FLOOR = 0.8101  # bits/dim, the entropy of the practical's two normals
MASKED = 54_780  # parameters of the tutorial's multi-scale flow that belong to masked channels


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("flow_toy", 26_508),  # the practical's
        ("flow_mnist", 556_312),  # the tutorial's, as the next two
        ("flow_mnist_vardeq", 628_388),
        ("flow_mnist_multiscale", 1_711_818 - MASKED),
    ],
)
def test_published_parameter_counts(name, count):
    model = dry_build(load_recipe(RECIPES / f"{name}.yaml")).model
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_tutorials_masked_channels():
    """Its channel couplings see all channels and put out parameters for all, where ours take and give halves."""

    def masked(channels, hidden):
        return channels // 2 * 9 * hidden + channels * (9 * 2 * hidden + 1) + channels // 2

    assert 2 * masked(4, 48) + 4 * masked(8, 64) == MASKED


def test_the_toy_before_training_and_after_a_little(tmp_path):
    """8.3251 bits/dim before training, as the practical has it; soon near the entropy, and not below it."""
    small = ["train.epochs=5", "data.validation=100000", "data.test=100000", "evaluate.density=null"]
    end = genkit.run(RECIPES / "flow_toy.yaml", overrides=small, name="toy", runs=tmp_path, device="cpu")
    records = genkit.read_records(end.folder / "metrics.jsonl")
    bits = {r.epoch: r for r in records if r.name == "bpd" and r.split == "validation"}
    errors = {r.epoch: r.value for r in records if r.name == "bpd/standard_error" and r.split == "validation"}
    assert abs(bits[0].value - 8.3251) < 4 * errors[0] < 0.08
    assert bits[0].floor == pytest.approx(FLOOR, abs=5e-5)
    assert bits[0].tag == "exact; density of continuous, mixture of 2 normals, std 0.3"
    assert FLOOR - errors[5] < bits[5].value < 0.96
    assert max(r.value for r in records if r.name == "round_trip/error") < 1e-4


FLOW = """\
seed: 1
data: {use: moons, train: 200, validation: 50, test: 50}
model:
  use: flow
  base: {use: standard_normal}
  bijections:
    - {use: affine}
    - {use: affine_coupling}
objective: {use: maximum_likelihood}
sampler: {use: prior}
train: {epochs: 1, batch_size: 50, log_every: 2, optimizer: {use: sgd, lr: 0.001}}
evaluate:
  bpd: {use: bits_per_dim}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder."""
    monkeypatch.chdir(tmp_path)


def said(command, *changes):
    """What a command says of a recipe that cannot work."""
    text = FLOW
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    Path("flow.yaml").write_text(text)
    result = CliRunner().invoke(app, [command, "flow.yaml"])
    assert isinstance(result.exception, SystemExit), f"a traceback would be shown: {result.exception!r}"
    assert result.exit_code != 0
    assert "Traceback" not in result.stderr
    return result.stderr.rstrip("\n")


IN_FILE = [
    (
        ("- {use: affine_coupling}", "- {use: affine_couplin}"),
        "flow.yaml:8: model.bijections.1.use: no bijection is called 'affine_couplin'; did you mean 'affine_coupling'?",
    ),
    (
        ("- {use: affine_coupling}", "- {use: affine_coupling, condtioner: mlp}"),
        "flow.yaml:8: model.bijections.1.condtioner: there is no such key; did you mean 'conditioner'?",
    ),
    (
        ("- {use: affine_coupling}", "- {use: split, bijections: []}"),
        "flow.yaml:8: model.bijections.1.bijections: Value should have at least 1 item",
    ),
    (
        ("- {use: affine_coupling}", "- {use: squeeze}"),
        "flow.yaml:8: model.bijections.1: squeeze: squeezes images, not data of shape (2,)",
    ),
    (
        ("base: {use: standard_normal}", "base: {use: normal, loc: [0.0, 1.0, 2.0]}"),
        "flow.yaml:5: model.base: normal: loc has length 3, but the latent has shape (2,)",
    ),
    (
        ("- {use: affine}", "- {use: planar, solve: false}"),
        "flow.yaml:9: objective: maximum_likelihood needs a model with HasLogProb: in this flow bijection 0 (planar) "
        "goes only from latents to data, not back",
    ),
    (
        ("base: {use: standard_normal}", "dequantizer: uniform"),
        "flow.yaml:5: model.dequantizer: uniform: uniform dequantizes discrete data, and this is continuous",
    ),
    (
        ("objective: {use: maximum_likelihood}", "objective: {use: elbo}"),
        "flow.yaml:9: objective: elbo needs a model with LatentVariable, which flow has not; "
        "models that would do: hierarchical_vae, vae",
    ),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("change", "message"), IN_FILE)
def test_a_recipe_that_cannot_work_is_refused_with_the_reason(change, message):
    assert message in said("validate", change)


@pytest.mark.usefixtures("folder")
def test_an_odd_dimension_is_refused():
    three = ("use: moons, ", "use: mixture, layout: centres, centres: [[0.0, 0.0, 0.0]], ")
    halves = ("- {use: affine_coupling}", "- {use: affine_coupling, mask: channel}")
    message = said("validate", three, halves)
    assert "flow.yaml:8: model.bijections.1: affine_coupling: mask: channel parts an even number of elements" in message
    assert "there are 3; mask: alternating would do" in message


@pytest.mark.usefixtures("folder")
def test_discrete_data_without_a_dequantizer_is_refused():
    digits = ("{use: moons, train: 200,", "{use: mnist, binarize: none, train: 200,")
    message = said("validate", digits, ("base: {use: standard_normal}", "dequantizer: none"))
    assert "flow.yaml:5: model.dequantizer: none: the data takes 256 discrete levels, where a density means" in message


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("data", ["pinwheel", "checkerboard"])
def test_reverse_kl_needs_an_energy_that_is_finite(data):
    message = said("validate", ("moons", data), ("{use: maximum_likelihood}", "{use: reverse_kl}"))
    assert "flow.yaml:9: objective: reverse_kl: needs data whose energy is known and finite everywhere" in message
    assert "datasets that would do: circles, energy, mixture, moons, rings" in message


@pytest.mark.usefixtures("folder")
def test_a_part_of_a_sum_that_does_not_fit_the_data_is_named():
    parts = "objective:\n  use: sum\n  parts:\n    fit: {use: reverse_kl}"
    message = said("validate", ("moons", "pinwheel"), ("objective: {use: maximum_likelihood}", parts))
    assert "flow.yaml:12: objective.parts.fit: reverse_kl: needs data whose energy is known" in message


@pytest.mark.usefixtures("folder")
def test_a_model_with_nothing_to_train_is_refused():
    message = said("validate", ("- {use: affine_coupling}", "- {use: permutation}"))
    assert "flow.yaml:3: model: maximum_likelihood gives player 'model' nothing to move" in message


@pytest.mark.usefixtures("folder")
def test_a_loss_that_is_infinite_for_another_reason_blames_no_layer():
    message = said("run", ("base: {use: standard_normal}", "base: {use: normal, scale: 1.0e-25}"))
    assert "step 1: term 'loss' of turn 'model' is inf" in message
    assert "log-determinant" not in message


@pytest.mark.usefixtures("folder")
def test_a_value_outside_a_splines_box_stops_the_run_with_the_reason():
    spline = "- {use: spline_coupling, tails: none, bound: 1.0}"
    message = said("run", ("- {use: affine_coupling}", spline))
    assert "lies outside the spline's box [-1, 1]; use tails: linear, or a larger bound" in message


@pytest.mark.usefixtures("folder")
def test_a_log_det_that_is_not_finite_stops_the_run_and_names_the_layer():
    unbounded = "- {use: affine_coupling, bounded: false, zero_start: false}"
    message = said("run", ("- {use: affine_coupling}", unbounded), ("lr: 0.001", "lr: 1.0e+30"))
    assert "term 'loss' of turn 'model' is" in message
    assert "the log-determinant of bijection 1 (affine_coupling) was not finite in chain" in message
