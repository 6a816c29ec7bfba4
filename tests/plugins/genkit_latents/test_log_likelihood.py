"""The evaluator of likelihoods: figures and tags by hand, notes on what not to trust, the picture, and refusals."""

import math

import pytest
import torch
import yaml
from linear_gaussian import LinearGaussian, one_level
from typer.testing import CliRunner

import genkit
from genkit import DataSpec, Factory, Figure, HasLogProb, LogProb, Note, Picture, Split
from genkit.cli import app
from genkit.engine.feed import Feed
from genkit_latents.courses import draw_courses
from genkit_latents.estimator import Estimate, Estimator
from genkit_latents.log_likelihood import LogLikelihood, figures

SPEC = DataSpec((1, 1, 3), levels=2, protocol="dynamically binarized")
BITS = 3 * math.log(2)  # of three pixels, in nats


class Judged(LinearGaussian, HasLogProb):
    """A model with a likelihood of its own, whose measure the figures' tag names."""

    measure = "probability"

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(self.marginal.log_prob(x), "lower bound", self.measure)


def judged(spec=SPEC):
    source = one_level()
    model = Judged(list(source.decoders), list(source.encoders))
    model.spec = spec
    return model


class Told(Estimator):
    """Says what it is told to say of each example: the example's first value, plus an offset.

    Args:
        draws: How many draws.
        errors: The error of each.
        effective: The effective samples of each.
        offset: What is added.
    """

    label = "hearsay"

    def __init__(self, *, draws: int = 10, errors: float = 0.5, effective: float = 4.0, offset: float = 0.0) -> None:
        self.draws, self.errors, self.effective, self.offset = draws, errors, effective, offset
        self.seen = []

    def estimate(self, model, x):
        self.seen.append(x)
        value = x.flatten(1)[:, 0] + self.offset
        one = Estimate(1, value - 1, torch.full_like(value, math.nan), torch.ones_like(value))
        last = Estimate(self.draws, value, torch.full_like(value, self.errors), torch.full_like(value, self.effective))
        return [one, last] if self.draws > 1 else [last]


def told(**options):
    return Factory("told", {"draws": 10, "errors": 0.5, "effective": 4.0, "offset": 0.0, **options}, Told)


def subject(model, values):
    data = {name: Feed(Split(values, torch.Tensor.double), torch.device("cpu")) for name in ("train", "test")}
    return genkit.Subject(model, Factory("none", {}, object), None, None, data, epoch=1, batch_size=50)


def judge(evaluator, model, values):
    results = list(evaluator.evaluate(subject(model, values), "test"))
    of = {kind: [result for result in results if isinstance(result, kind)] for kind in (Figure, Note, Picture)}
    return {figure.name: figure for figure in of[Figure]}, of[Note], of[Picture]


VALUES = torch.stack([torch.arange(45.0).neg(), torch.zeros(45), torch.zeros(45)], 1)  # the first of each is its nats


# ---- figures -----------------------------------------------------------------------------------------------------


def test_figures_are_those_computed_by_hand():
    model = judged()
    figures, notes, _ = judge(LogLikelihood(model, estimator=told()), model, VALUES)
    nats = torch.arange(45.0)
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
        {
            "": 22.0,
            "bits_per_dim": 22.0 / BITS,
            "standard_error": nats.std().item() / 45**0.5,
            "draws_error": 0.5 / 45**0.5,  # the root of 45 squares of 0.5, over 45
            "effective_samples": 4.0,
        }
    )
    assert {name: figure.unit for name, figure in figures.items()} == {
        "": "nats",
        "bits_per_dim": "bits/dim",
        "standard_error": "nats",
        "draws_error": "nats",
        "effective_samples": "",
    }
    assert [name for name, figure in figures.items() if figure.better == "lower"] == ["", "bits_per_dim"]
    assert notes == []


def test_tags_say_samples_data_and_estimator():
    model = judged()
    figures, _, _ = judge(LogLikelihood(model, estimator=told()), model, VALUES)
    tag = "estimate (10 samples); 2 levels, dynamically binarized; hearsay"
    assert {figure.tag for name, figure in figures.items() if name != "effective_samples"} == {tag}
    assert figures["effective_samples"].tag == f"{tag}; mean over 45 examples"


def test_densities_are_called_so():
    model = judged(DataSpec((3,)))
    model.measure = "density"
    figures, _, _ = judge(LogLikelihood(model, estimator=told()), model, VALUES)
    assert figures[""].tag == "estimate (10 samples); density of continuous; hearsay"


def test_the_error_of_a_mean_is_the_root_of_the_squares_over_their_number():
    errors = torch.tensor([3.0, 4.0], dtype=torch.float64)
    estimate = Estimate(10, torch.zeros(2, dtype=torch.float64), errors, torch.full((2,), 4.0))
    of = {figure.name: figure.value for figure in figures(estimate, "", "", 3)}
    assert of["draws_error"] == pytest.approx(5 / 2)


def test_a_part_of_a_split_is_said_in_every_tag():
    model = judged()
    of, _, _ = judge(LogLikelihood(model, estimator=told(), examples=20), model, VALUES)
    assert all("; 20 of 45 examples" in figure.tag for figure in of.values())
    of, _, _ = judge(LogLikelihood(model, estimator=told(), examples=45), model, VALUES)
    assert not any(" of 45 examples" in figure.tag for figure in of.values())


def test_a_single_draw_or_a_single_example_has_no_error_to_tell():
    model = judged()
    figures, notes, _ = judge(LogLikelihood(model, estimator=told(draws=1, effective=1.0)), model, VALUES)
    assert list(figures) == ["", "bits_per_dim", "standard_error", "effective_samples"]
    text = "told: from one draw for each example comes a bound on the likelihood and no estimate of it"
    assert notes == [Note(text, "note")]
    figures, _, _ = judge(LogLikelihood(model, estimator=told()), model, VALUES[:1])
    assert list(figures) == ["", "bits_per_dim", "draws_error", "effective_samples"]


def test_others_stand_beside_the_first_under_their_names():
    model = judged()
    evaluator = LogLikelihood(model, estimator=told(), compare={"lower": told(offset=-7.0), "same": told(draws=1)})
    figures, _, _ = judge(evaluator, model, VALUES)
    assert figures["lower"].value == figures[""].value + 7
    assert figures["lower/bits_per_dim"].value == pytest.approx(29 / BITS)
    assert figures["same"].value == figures[""].value
    assert figures["same"].tag.startswith("estimate (1 samples); ")
    assert {name.partition("/")[0] for name in figures if "/" in name} == {"lower", "same"}


def test_an_estimator_beside_it_does_not_move_the_first():
    model = judged()
    x = model.marginal.sample((30,))
    importance = genkit.build("evaluator", {"use": "log_likelihood", "estimator": {"use": "importance", "k": 5}}, model)
    both = genkit.build(
        "evaluator",
        {
            "use": "log_likelihood",
            "estimator": {"use": "importance", "k": 5},
            "compare": {"plain": {"use": "monte_carlo", "k": 5}},
        },
        model,
    )
    values = []
    for evaluator in (importance, both):
        torch.manual_seed(3)
        values.append(judge(evaluator, model, x)[0][""].value)
    assert values[0] == values[1]


@pytest.mark.parametrize("estimator", ["importance", "monte_carlo", "annealed"])
def test_the_figure_of_each_estimator_is_the_exact_one_within_what_it_says(estimator):
    model = judged(DataSpec((3,)))
    x = model.marginal.sample((200,)).float()
    options = {"k": 16, "temperatures": 40, "leapfrog": 3} if estimator == "annealed" else {"k": 500}
    node = {"use": "log_likelihood", "estimator": {"use": estimator, **options}}
    figures, _, _ = judge(genkit.build("evaluator", node, model), model, x)
    exact = -model.marginal.log_prob(x.double())
    assert abs(figures[""].value - exact.mean().item()) < 4 * figures["draws_error"].value + 0.03
    assert figures["standard_error"].value == pytest.approx(exact.std().item() / 200**0.5, rel=0.1)
    assert 0 < figures["draws_error"].value < 0.03


def test_all_examples_are_seen_or_as_many_as_are_asked_for_from_all_over():
    model = judged()
    for examples, count in ((None, 45), (45, 45), (1000, 45), (44, 44), (7, 7)):
        evaluator = LogLikelihood(model, estimator=told(), examples=examples)
        figures, _, _ = judge(evaluator, model, VALUES)
        assert figures["effective_samples"].tag.endswith(f"mean over {count} examples")
        seen = torch.cat(evaluator.estimators[""].seen)[:, 0].neg().tolist()
        assert len(set(seen)) == count
        assert max(len(x) for x in evaluator.estimators[""].seen) <= 20
    assert max(seen) > 30
    assert sum(seen) / len(seen) == pytest.approx(figures[""].value)


# ---- what cannot be trusted --------------------------------------------------------------------------------------


def test_one_effective_sample_is_said_aloud():
    model = judged()
    evaluator = LogLikelihood(
        model, estimator=told(), compare={"poor": told(effective=1.2), "fair": told(effective=1.8)}
    )
    _, notes, _ = judge(evaluator, model, VALUES)
    (note,) = notes
    assert note.level == "warning"
    assert note.text == (
        "poor: of 10 draws one has nearly all the weight for 100% of the examples: the figure is a bound on the "
        "likelihood, and the likelihood may be far above it"
    )


def test_examples_without_any_weight_are_said_aloud_and_no_figure_is_no_number():
    model = judged()
    values = VALUES.clone()
    values[3, 0] = -math.inf

    class Lost(Told):
        __init__ = Told.__init__

        def estimate(self, model, x):
            *_, last = super().estimate(model, x)
            lost = last.nats == -math.inf
            return [Estimate(10, last.nats, last.errors.where(~lost, math.inf), last.effective.where(~lost, 0))]

    figures, notes, pictures = judge(LogLikelihood(model, estimator=Factory("lost", {}, Lost)), model, values)
    assert {name: figure.value for name, figure in figures.items()} == {
        "": math.inf,
        "bits_per_dim": math.inf,
        "effective_samples": pytest.approx(4 * 44 / 45),
    }
    assert [note.text for note in notes] == [
        "lost: for 1 of 45 examples no draw of 10 has any weight: their likelihood is estimated as 0, and the "
        "figure is infinite; more draws, or another estimator, may find some"
    ]
    assert torch.isfinite(pictures[0].image).all()


# ---- the picture -------------------------------------------------------------------------------------------------


def test_the_picture_shows_each_estimators_course():
    """In the colours of matplotlib's cycle: what is far off lies above, in both panels and the legend."""
    model = judged()
    names = {"far": told(offset=-200.0), "near": told(offset=-1.0)}
    _, _, (picture,) = judge(LogLikelihood(model, estimator=told(), compare=names), model, VALUES)
    assert picture.name == "course"
    assert picture.image.shape == (3, 480, 960)
    blue, orange, green = (rows_of(picture.image[:, :380, :480], colour) for colour in ("1f77b4", "ff7f0e", "2ca02c"))
    assert orange < green < blue  # rows grow downwards


def rows_of(image, colour):
    """The mean row of the pixels of a colour."""
    wanted = torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    rows = ((image - wanted[:, None, None]).abs().amax(0) < 0.02).nonzero()[:, 0]
    assert len(rows) > 20, colour
    return rows.double().mean().item()


def test_a_course_with_nothing_finite_can_be_drawn():
    nothing = Estimate(1, torch.tensor([-math.inf]), torch.tensor([math.nan]), torch.tensor([0.0]))
    image = draw_courses({"nothing": [nothing]})
    assert image.shape == (3, 480, 960)
    assert image.min() < 0.3


# ---- refusals ----------------------------------------------------------------------------------------------------


VAE = {"use": "vae", "latent_dim": 2, "encoder": {"use": "mlp"}, "decoder": {"use": "mlp"}}
FLOW = {"use": "flow", "bijections": [{"use": "permutation"}]}


@pytest.mark.parametrize(
    ("nll", "model", "message"),
    [
        (
            {"estimator": {"use": "importance", "k": 0}},
            VAE,
            "evaluate.nll.estimator.k: should be greater than 0, 0 given",
        ),
        (
            {"estimator": {"use": "annealed", "temperatures": 0}},
            VAE,
            "evaluate.nll.estimator.temperatures: should be greater than 0, 0 given",
        ),
        (
            {"estimator": {"use": "annealed", "schedule": "cubic"}},
            VAE,
            "evaluate.nll.estimator.schedule: should be 'sigmoid' or 'linear', 'cubic' given",
        ),
        ({"estimator": "importence"}, VAE, "no estimator is called 'importence'; did you mean 'importance'?"),
        (
            {"compare": {"mc": {"use": "monte_carlo", "k": -1}}},
            VAE,
            "evaluate.nll.compare.mc.k: should be greater than 0",
        ),
        ({"compare": {"importance": "monte_carlo"}}, VAE, "compare: the name 'importance' is taken by the figures of"),
        (
            {"compare": {"draws_error": "monte_carlo"}},
            VAE,
            "compare: the name 'draws_error' is taken by the figures of",
        ),
        ({"compare": {"a/b": "monte_carlo"}}, VAE, "evaluate.nll.compare.a/b: "),
        ({"examples": 0}, VAE, "evaluate.nll.examples: should be greater than 0, 0 given"),
        (
            {"compare": {"mc": "monte_carlo"}},
            FLOW,
            "evaluate.nll: log_likelihood needs a model with LatentVariable, which flow has not; models that ",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_one_message(tmp_path, small_recipe, nll, model, message):
    recipe = {**small_recipe, "model": model, "evaluate": {"nll": {"use": "log_likelihood", **nll}}}
    if model is FLOW:
        recipe["objective"] = {"use": "maximum_likelihood"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
