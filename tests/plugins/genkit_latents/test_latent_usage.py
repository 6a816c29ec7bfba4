"""Latent usage beside divergences in closed form."""

import math

import pytest
import torch
from handmade import Known, Levelled, judge, normal, standard, values
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from genkit import Note, Record
from genkit_latents.latent_usage import draw_usage
from genkit_latents.usage import Level, usage_of
from genkit_vae.ancestral import Ancestral

STD = torch.tensor([0.5, 1.0, 1.0, 2.0])


def by_hand(x, std):
    """The mean divergence of N(x, std^2) from the standard normal, in each dimension."""
    return [
        sum(0.5 * (mean**2 + s**2 - 1) - math.log(s) for mean in column) / len(column)
        for column, s in zip(x.T.tolist(), std.tolist(), strict=True)
    ]


def test_each_dimension_has_its_mean_divergence():
    x = torch.randn(150, 4) * torch.tensor([1.0, 0.0, 0.1, 0.5])  # three batches, the last one smaller
    model = Known(lambda x: normal(x, STD), standard(4))
    expected = by_hand(x, STD)
    usage = usage_of(model, x.split(64), 1)
    (level,) = usage.levels
    assert level.kl.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    figures, notes, pictures = judge("latent_usage", model, x)
    assert values(figures) == {"": pytest.approx(sum(expected), rel=1e-5), "used": 2}
    assert (figures[""].unit, figures["used"].unit) == ("nats", "")
    assert figures[""].tag == "divergence in closed form; 150 examples"
    assert figures["used"].tag == "of 4 dimensions; above 0.01 nats; divergence in closed form; 150 examples"
    assert notes == []
    assert [picture.name for picture in pictures] == ["validation"]


@pytest.mark.parametrize(("threshold", "used"), [(0.124, 2), (0.126, 1), (0.499, 1), (0.501, 0)])
def test_dimensions_above_the_threshold_are_in_use(threshold, used):
    model = Known(lambda x: normal(x, 1.0), standard(3))  # 0.5 x^2 nats
    figures, _, _ = judge("latent_usage", model, torch.tensor([[0.0, 0.5, 1.0]] * 2), threshold=threshold)
    assert values(figures) == {"": pytest.approx(0.625), "used": used}


# ---- several levels --------------------------------------------------------------------------------------------------

A, B, C, D, E = 0.8, 1.5, 0.6, 0.4, 0.7


def two_levels(a=A, b=B, c=C, d=D, e=E):
    """q(z1 | x) = N(x, a^2), q(z2 | z1) = N(b z1, c^2); p(z2) = N(0, 1), p(z1 | z2) = N(d z2, e^2)."""
    posterior = lambda x: Ancestral(normal(x, a), [lambda z: normal(b * z, c)], [2, 2])  # noqa: E731
    return Levelled(posterior, Ancestral(standard(2), [lambda z: normal(d * z, e)], [2, 2], backward=True), [2, 2])


def of_two_levels(x, a=A, b=B, c=C, d=D, e=E):
    """What the two levels add to the divergence, in each dimension."""
    square = x.square().mean(0) + a**2  # of z1
    lower = -0.5 - math.log(a) + math.log(e) + ((1 - d * b) ** 2 * square + (d * c) ** 2) / (2 * e**2)
    return lower, 0.5 * (b**2 * square + c**2 - 1) - math.log(c)


def test_levels_are_told_apart():
    x = torch.tensor([[0.0, 1.0], [0.0, -2.0], [0.1, 0.5]])
    lower, upper = of_two_levels(x)
    usage = usage_of(two_levels(), [x], 200_000)
    for level, expected in zip(usage.levels, (lower, upper), strict=True):
        assert level.kl.tolist() == pytest.approx(expected.tolist(), abs=0.02)
    assert [level.name for level in usage.levels] == ["level_1", "level_2"]
    figures, notes, (picture,) = judge("latent_usage", two_levels(), x, k=50_000)
    assert values(figures) == {
        "": pytest.approx((lower + upper).sum().item(), abs=0.05),
        "used": 4,
        "level_1": pytest.approx(lower.sum().item(), abs=0.05),
        "level_1/used": 2,
        "level_2": pytest.approx(upper.sum().item(), abs=0.05),
        "level_2/used": 2,
    }
    assert figures["level_2"].tag == "divergence estimated with 50000 draws each; 3 examples"
    assert figures["level_2/used"].tag.startswith("of 2 dimensions; above 0.01 nats; ")
    assert notes == []
    assert picture.image.shape[2] > 1.5 * picture.image.shape[1]  # side by side


def test_a_dimension_that_the_level_above_knows_better_is_in_use():
    exact = {"a": 1.0, "b": 1.0, "c": 0.1, "d": 1.0, "e": 0.1}
    x = torch.zeros(4, 2)
    lower, _ = of_two_levels(x, **exact)
    assert (lower < -2).all()
    figures, _, _ = judge("latent_usage", two_levels(**exact), x, k=20_000)
    assert figures["level_1"].value == pytest.approx(lower.sum().item(), abs=0.05)
    assert figures["level_1/used"].value == 2


# ---- what does not factorize -----------------------------------------------------------------------------------------

ROOT = torch.tensor([[1.0, 0.0], [0.9, 0.5]])
UNDEFINED = (
    "does not factorize, so that the divergence of a single dimension is not defined: all have one figure together"
)


def test_a_posterior_that_does_not_factorize_has_a_total_alone():
    model = Known(lambda x: MultivariateNormal(x, scale_tril=ROOT), standard(2))
    x = torch.randn(70, 2)
    trace, determinant = ROOT.square().sum().item(), ROOT.diagonal().log().sum().item()
    expected = 0.5 * (trace + x.square().sum(1).mean().item() - 2) - determinant
    figures, notes, pictures = judge("latent_usage", model, x)
    assert values(figures) == {"": pytest.approx(expected, rel=1e-5)}
    assert figures[""].tag == "divergence in closed form; 70 examples"
    assert notes == [Note(f"prior or posterior {UNDEFINED}", "note")]
    assert pictures == []


def test_it_is_said_once():
    model = Known(lambda x: MultivariateNormal(x, scale_tril=ROOT), standard(2))
    history = [Record(1, 1, "validation", "usage", 3.0)]
    assert judge("latent_usage", model, torch.randn(7, 2), history)[1] == []


def test_a_mixture_as_the_prior_is_estimated():
    weights, centres = torch.tensor([0.3, 0.7]), torch.tensor([[-2.0, 0.0], [1.0, 1.0]])
    prior = MixtureSameFamily(Categorical(weights), normal(centres, torch.ones(2, 2)))
    x = torch.randn(200, 2)
    figures, notes, _ = judge("latent_usage", Known(lambda x: normal(x, 0.5), prior), x, k=500)
    torch.manual_seed(9)
    q = normal(x, 0.5)
    z = q.rsample((2000,))
    logs = [math.log(w) + normal(c, 1.0).log_prob(z) for w, c in zip(weights.tolist(), centres, strict=True)]
    expected = (q.log_prob(z) - torch.logaddexp(*logs)).mean().item()
    assert values(figures) == {"": pytest.approx(expected, abs=0.02)}
    assert figures[""].tag == "divergence estimated with 500 draws each; 200 examples"
    assert len(notes) == 1


def test_a_level_that_does_not_factorize_leaves_the_others_their_dimensions():
    top = lambda z: MultivariateNormal(z, scale_tril=ROOT)  # noqa: E731
    posterior = lambda x: Ancestral(normal(x, 1.0), [top], [2, 2])  # noqa: E731
    prior = Ancestral(standard(2), [lambda z: normal(0 * z, 1.0)], [2, 2], backward=True)
    figures, notes, pictures = judge("latent_usage", Levelled(posterior, prior, [2, 2]), torch.ones(3, 2), k=20_000)
    upper = 0.5 * (ROOT.square().sum() + 4 - 2) - ROOT.diagonal().log().sum()  # E[z1^2] = 2
    assert values(figures) == {
        "": pytest.approx(1.0 + upper.item(), abs=0.05),
        "level_1": pytest.approx(1.0, abs=0.05),
        "level_1/used": 2,
        "level_2": pytest.approx(upper.item(), abs=0.05),
    }
    assert notes == [Note(f"prior or posterior of level_2 {UNDEFINED}", "note")]
    assert len(pictures) == 1


def test_levels_of_one_normal_are_cut_where_they_end():
    model = Levelled(lambda x: normal(x, 1.0), standard(3), [2, 1])
    figures, _, _ = judge("latent_usage", model, torch.tensor([[1.0, 2.0, 3.0]] * 2))
    assert values(figures) == {
        "": pytest.approx(7.0),
        "used": 3,
        "level_1": pytest.approx(2.5),
        "level_1/used": 2,
        "level_2": pytest.approx(4.5),
        "level_2/used": 1,
    }


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_bars_are_as_high_as_dimensions_say_and_sorted():
    image = draw_usage([Level("", 4, torch.tensor([1.0, 0.0, 4.0, 2.0]))], 0.01)
    height = ((image[2] - image[0]) > 0.3).sum(0)  # blue pixels in each column
    columns = height.nonzero().flatten()
    quarters = [part.median().item() for part in height[columns[0] : columns[-1] + 1].tensor_split(3)]
    assert quarters[0] > 200
    assert quarters[1] == pytest.approx(quarters[0] / 2, abs=3)
    assert quarters[2] == pytest.approx(quarters[0] / 4, abs=3)
