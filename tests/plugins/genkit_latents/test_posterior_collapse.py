"""Posterior collapse: counted, and said aloud when it should be."""

import pytest
import torch
from handmade import Known, Levelled, judge, normal, standard, values
from torch.distributions import MultivariateNormal

import genkit
from genkit_latents.posterior_collapse import REMEDY
from genkit_vae.ancestral import Ancestral

LESS = "less than 0.01 nats on average"


def silent(count, size):
    """A model of which so many dimensions say nothing; each other one says half a nat."""
    means = torch.cat([torch.zeros(count), torch.ones(size - count)])
    return Known(lambda x: normal(means.expand(len(x), size), 1.0), standard(size))


def judged(model, **options):
    figures, notes, pictures = judge("posterior_collapse", model, torch.zeros(10, 2), **options)
    assert pictures == []
    assert all(note.level == "warning" for note in notes)
    return figures, [note.text for note in notes]


@pytest.mark.parametrize("count", range(5))
def test_figures_are_the_number_and_the_share(count):
    figures, _ = judged(silent(count, 4))
    assert values(figures) == {"": count, "share": count / 4}
    assert {figure.tag for figure in figures.values()} == {
        "of 4 dimensions; below 0.01 nats; divergence in closed form; 10 examples"
    }


def test_a_dimension_has_collapsed_below_the_threshold():
    shift = (2 * torch.tensor([0.0099, 0.0101])).sqrt()
    model = Known(lambda x: normal(shift.expand(len(x), 2), 1.0), standard(2))
    assert [judged(model, **options)[0][""].value for options in ({}, {"threshold": 0.02}, {"threshold": 0.009})] == [
        1,
        2,
        0,
    ]


def test_dimensions_that_say_something_for_some_examples_count_by_their_mean():
    model = Known(lambda x: normal(x, 1.0), standard(2))
    x = torch.zeros(100, 2)
    x[0, 0], x[0, 1] = 1.3, 1.5  # 0.5 * 1.69 / 100 and 0.5 * 2.25 / 100 nats
    assert judge("posterior_collapse", model, x)[0][""].value == 1


@pytest.mark.parametrize(
    ("count", "warn_at", "said"),
    [
        (1, 0.5, False),
        (2, 0.5, True),
        (3, 0.5, True),
        (4, 0.5, True),
        (3, 0.76, False),
        (4, 1.0, True),
        (1, 0.25, True),
    ],
)
def test_collapse_is_said_when_its_share_is_reached(count, warn_at, said):
    _, notes = judged(silent(count, 4), warn_at=warn_at)
    assert notes == (
        [f"collapsed: {count} of 4 latent dimensions say nothing of an example ({LESS}); {REMEDY}"] if said else []
    )


def test_remedy_is_one_that_recipes_take():
    for options in ({"warmup_epochs": 10}, {"free_bits": 0.1}):
        ((key, value),) = options.items()
        assert f"{key}: {value}" in REMEDY
        genkit.build("objective", {"use": "elbo", **options}, silent(1, 2))


@pytest.mark.parametrize(("epoch", "after", "said"), [(0, 1, False), (1, 1, True), (4, 5, False), (5, 5, True)])
def test_untrained_model_has_not_collapsed(epoch, after, said):
    figures, notes = judged(silent(4, 4), epoch=epoch, after=after)
    assert values(figures) == {"": 4, "share": 1.0}
    assert bool(notes) is said


# ---- several levels --------------------------------------------------------------------------------------------------


def levelled(lower, upper):
    """Two levels of two dimensions with these means; the levels know nothing of each other."""
    lower, upper = torch.tensor(lower), torch.tensor(upper)
    posterior = lambda x: Ancestral(  # noqa: E731
        normal(lower.expand(len(x), 2), 1.0), [lambda z: normal(upper.expand(len(z), 2), 1.0)], [2, 2]
    )
    prior = Ancestral(standard(2), [lambda z: normal(0 * z, 1.0)], [2, 2], backward=True)
    return Levelled(posterior, prior, [2, 2])


def test_level_that_has_collapsed_as_a_whole_is_named():
    figures, notes = judged(levelled([3.0, 3.0], [0.0, 0.0]), k=50, warn_at=0.6)
    assert values(figures) == {
        "": 2,
        "share": 0.5,
        "level_1": 0,
        "level_1/share": 0.0,
        "level_2": 2,
        "level_2/share": 1.0,
    }
    assert notes == [f"collapsed: all dimensions of level_2 say nothing of an example ({LESS})"]
    assert figures["level_2"].tag.startswith(
        "of 2 dimensions; below 0.01 nats; divergence estimated with 50 draws each"
    )


def test_share_and_level_are_both_said():
    _, notes = judged(levelled([0.0, 3.0], [0.0, 0.0]), k=50)
    assert notes == [
        f"collapsed: 3 of 4 latent dimensions say nothing of an example ({LESS}); {REMEDY}",
        f"collapsed: all dimensions of level_2 say nothing of an example ({LESS})",
    ]


def test_where_all_is_silent_one_sentence_says_it():
    _, notes = judged(levelled([0.0, 0.0], [0.0, 0.0]), warn_at=1.0)
    assert notes == [f"collapsed: 4 of 4 latent dimensions say nothing of an example ({LESS}); {REMEDY}"]


def test_levels_that_all_say_something_are_not_accused():
    assert judged(levelled([0.0, 3.0], [3.0, 3.0]), k=50)[1] == []


# ---- what does not factorize -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "count"), [(0.0, 3), (0.05, 3), (1.0, 0)])
def test_dimensions_that_cannot_be_told_apart_collapse_together(shift, count):
    mean = torch.full((3,), shift)
    model = Known(lambda x: MultivariateNormal(mean.expand(len(x), 3), torch.eye(3)), standard(3))
    figures, notes = judged(model)
    assert values(figures) == {"": count, "share": count / 3}
    assert figures[""].tag.endswith("; dimensions that do not factorize count together")
    assert len(notes) == (count == 3)


# ---- in a run --------------------------------------------------------------------------------------------------------


def test_collapse_of_a_run_is_in_the_log(tmp_path, capsys, small_recipe):
    """With so heavy a divergence the posterior becomes the prior within a few epochs."""
    small_recipe["objective"] = {"use": "elbo", "beta": 1e4}
    small_recipe["train"] |= {"epochs": 8, "optimizer": {"use": "adam", "lr": 0.03}}
    small_recipe["evaluate"] = {"collapse": {"use": "posterior_collapse", "at": [0, 8], "splits": ["validation"]}}
    genkit.run(small_recipe, name="collapsed", runs=tmp_path, device="cpu")
    said = [line for line in capsys.readouterr().err.splitlines() if "collapsed:" in line]
    assert [line.strip() for line in said] == [
        f"collapse: warning: collapsed: 2 of 2 latent dimensions say nothing of an example ({LESS}); {REMEDY}"
    ]
