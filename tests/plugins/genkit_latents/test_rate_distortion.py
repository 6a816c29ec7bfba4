"""Rate and distortion beside closed forms, and beside the bound that other evaluators report."""

import math

import pytest
import torch
from handmade import Known, Opaque, judge, normal, standard, values

import genkit
from genkit import Record
from genkit_latents.rate_distortion import course_of, draw_course

SPREAD, NOISE = 0.6, 1.3


@pytest.mark.parametrize("hide", [lambda q: q, Opaque], ids=["in closed form", "estimated"])
def test_both_terms_are_those_of_a_linear_gaussian_model(hide):
    x = torch.randn(100, 2) + 0.5
    model = Known(lambda x: hide(normal(0.5 * x, SPREAD)), standard(2), NOISE)
    square = x.square().sum(1).mean().item()
    rate = 0.5 * (square / 4 + 2 * SPREAD**2 - 2) - 2 * math.log(SPREAD)
    distortion = math.log(2 * math.pi * NOISE**2) + (square / 4 + 2 * SPREAD**2) / (2 * NOISE**2)
    figures, notes, pictures = judge("rate_distortion", model, x, k=400)
    assert values(figures) == {
        "": pytest.approx(rate + distortion, abs=0.03),
        "rate": pytest.approx(rate, abs=0.02 if hide is Opaque else 1e-5),
        "distortion": pytest.approx(distortion, abs=0.02),
    }
    assert {figure.unit for figure in figures.values()} == {"nats"}
    assert [figure.better for figure in figures.values()] == ["lower", None, None]
    tag = "density of continuous; 400 draws for each example"
    assert [figure.tag for figure in figures.values()] == [f"lower bound; {tag}", tag, tag]
    assert notes == pictures == []  # there is no course yet


def test_all_draws_count_for_both_terms():
    x = torch.randn(2, 2) + 0.5
    model = Known(lambda x: Opaque(normal(0.5 * x, SPREAD)), standard(2), NOISE)
    square = x.square().sum(1).mean().item()
    rate = 0.5 * (square / 4 + 2 * SPREAD**2 - 2) - 2 * math.log(SPREAD)
    distortion = math.log(2 * math.pi * NOISE**2) + (square / 4 + 2 * SPREAD**2) / (2 * NOISE**2)
    of = values(judge("rate_distortion", model, x, k=100_000)[0])  # of one draw the spread would be tenths
    assert of["rate"] == pytest.approx(rate, abs=0.01)
    assert of["distortion"] == pytest.approx(distortion, abs=0.01)


@pytest.mark.parametrize("posterior", ["diagonal", "full_covariance"])
def test_their_sum_is_the_negative_bound_of_bits_per_dim(posterior):
    node = {"use": "mlp", "hidden_dims": [8]}
    spec = genkit.DataSpec((1, 4, 4), levels=2, protocol="made up")
    torch.manual_seed(0)
    options = {"latent_dim": 3, "posterior": posterior, "encoder": node, "decoder": node}
    model = genkit.build("model", {"use": "vae", **options}, spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = torch.bernoulli(torch.full((500, 1, 4, 4), 0.4))
    ours, _, _ = judge("rate_distortion", model, x)
    bound = judge("bits_per_dim", model, x)[0]["nats"]
    with torch.no_grad():
        every = torch.stack([model.log_prob(x).nats for _ in range(50)])
    error = every.std(0).norm().item() / len(x)
    assert ours[""].value == pytest.approx(bound.value, abs=4 * 2**0.5 * error)
    assert ours[""].value == pytest.approx(ours["rate"].value + ours["distortion"].value)
    assert ours["rate"].value > 6 * error  # so that a bound without it would be noticed
    assert ours[""].tag == f"{bound.tag}; 1 draw for each example"
    assert bound.tag == "lower bound; 2 levels, made up"


def test_course_is_read_from_what_was_measured_before():
    history = [
        Record(step, epoch, "validation", f"rd{name}", value)
        for step, epoch in ((20, 2), (10, 1))
        for name, value in (("", 100.0), ("/rate", 3.0 * epoch), ("/distortion", 90.0 - epoch))
    ]
    now = (3, 8.0, 80.0)
    assert course_of(history, now) == [(1, 3.0, 89.0), (2, 6.0, 88.0), now]
    assert course_of([], now) == [now]


def test_untrained_model_is_no_part_of_the_course():
    history = [Record(0, 0, "validation", f"rd/{name}", 5.0) for name in ("rate", "distortion")]
    assert course_of(history, (1, 8.0, 80.0)) == [(1, 8.0, 80.0)]
    assert course_of([], (0, 8.0, 80.0)) == []


def test_picture_shows_what_was_measured_before():
    model, x = Known(lambda x: normal(x, 1.0), standard(2)), torch.ones(4, 2)
    history = [Record(10, 1, "validation", f"rd/{name}", value) for name, value in (("rate", 0.2), ("distortion", 9.0))]
    figures, _, (picture,) = judge("rate_distortion", model, x, history)
    now = (3, figures["rate"].value, figures["distortion"].value)
    assert torch.equal(picture.image, draw_course([(1, 0.2, 9.0), now]))
    assert not torch.equal(picture.image, draw_course([now]))
    assert picture.name == "validation"  # another split's picture of the same epoch is another file


def red(image):
    """Where the last point is: the middle of what is red, as shares of width and height."""
    rows, columns = ((image[0] - image[1] > 0.5) & (image[0] - image[2] > 0.5)).nonzero().float().mean(0).tolist()
    return columns / image.shape[2], rows / image.shape[1]


def test_last_point_is_red_and_lies_where_it_was_measured():
    one, other = (1, 5.0, 140.0), (2, 20.0, 90.0)
    assert red(draw_course([one, other])) == (pytest.approx(0.87, abs=0.08), pytest.approx(0.77, abs=0.08))
    assert red(draw_course([other, one])) == (pytest.approx(0.2, abs=0.08), pytest.approx(0.17, abs=0.08))
    alone = red(draw_course([one]))
    assert alone == (pytest.approx(0.55, abs=0.08), pytest.approx(0.48, abs=0.08))


def test_model_whose_bound_nobody_knows_is_refused(tmp_path, small_recipe):
    generator = {"use": "generator", "latent_dim": 2, "network": {"use": "mlp", "hidden_dims": [4]}}
    recipe = {**small_recipe, "model": generator, "objective": {"use": "adversarial"}}
    recipe["evaluate"] = {"rd": {"use": "rate_distortion"}}
    with pytest.raises(genkit.RecipeError, match=r"evaluate\.rd: rate_distortion needs a model with .*LatentVariable"):
        genkit.run(recipe, name="refused", runs=tmp_path, device="cpu")
