"""Active units where the variance of every posterior mean is known."""

import math

import pytest
import torch
from handmade import Known, Levelled, Opaque, judge, normal, standard, values, with_variances
from torch.distributions import MultivariateNormal

import genkit
from genkit_latents.active_units import covariance, two_means
from genkit_vae.ancestral import Ancestral

VARIANCES = [0.0, 0.0098, 0.0102, 1.0]


def known(posterior):
    return Known(posterior, standard(4))


@pytest.mark.parametrize(("threshold", "count"), [(0.01, 2), (0.0097, 3), (0.0103, 1), (0.99, 1), (1.01, 0)])
@pytest.mark.parametrize("std", [0.1, 30.0])
def test_dimensions_whose_means_vary_more_are_counted(threshold, count, std):
    x = with_variances(200, VARIANCES)
    figures, notes, pictures = judge("active_units", known(lambda x: normal(x, std)), x, threshold=threshold)
    assert values(figures) == {"": count}
    assert notes == pictures == []


@pytest.mark.parametrize("evaluator", ["active_units", "latent_usage", "posterior_collapse"])
def test_latents_of_a_model_that_diverged_are_not_judged(evaluator):
    with pytest.raises(genkit.GenkitError, match="are not finite, and its latents cannot be judged"):
        judge(evaluator, known(lambda x: normal(x * math.nan, 1.0)), with_variances(20, VARIANCES))


def test_one_example_is_refused_before_anything_is_trained():
    with pytest.raises(genkit.RecipeError, match="examples"):
        genkit.build("evaluator", {"use": "active_units", "examples": 1}, known(lambda x: normal(x, 1.0)))


def test_means_of_a_normal_of_any_covariance_are_exact():
    root = torch.eye(4) + torch.tril(torch.full((4, 4), 3.0), -1)
    model = known(lambda x: MultivariateNormal(x, scale_tril=root))
    figures, _, _ = judge("active_units", model, with_variances(200, VARIANCES))
    assert values(figures) == {"": 2}
    assert figures[""].tag == "of 4 dimensions; variance above 0.01 over 200 examples; means exact"


def test_means_that_are_not_known_are_estimated_without_the_noise_of_draws():
    x = with_variances(4000, [0.0, 0.003, 0.02, 1.0])
    model = known(lambda x: Opaque(normal(x, 1.0)))  # the mean of 20 draws has the variance 0.05 with no information
    figures, _, _ = judge("active_units", model, x)
    assert values(figures) == {"": 2}
    assert figures[""].tag == "of 4 dimensions; variance above 0.01 over 4000 examples; means from 20 draws"


@pytest.mark.parametrize("draws", [2, 3, 20])
def test_covariance_of_two_halves_is_the_variance_of_the_mean(draws):
    count, variances = 20_000, torch.tensor([0.0, 0.01, 0.5])
    x = with_variances(count, variances.tolist())
    first, second = two_means(Opaque(normal(x, 2.0)), draws)
    small, large = draws // 2, draws - draws // 2
    noise = 4.0 / small, 4.0 / large  # variances of the two halves
    found = covariance(first, second)
    error = ((2 * variances**2 + variances * sum(noise) + noise[0] * noise[1]) / count).sqrt()
    assert ((found - variances).abs() < 4.5 * error).all()
    naive = ((first + second) / 2).var(0)
    assert (naive - variances > 4.0 / draws * 0.9).all()  # what the estimate avoids


def levelled():
    """The first level's mean is the example's; the second's is 0.1 and 10 times that of the first."""
    first = lambda x: normal(x[:, :2], 1.0)  # noqa: E731
    above = lambda z: normal(z * torch.tensor([0.1, 10.0]), 1.0)  # noqa: E731
    return lambda x: Ancestral(first(x), [above], [2, 2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_levels_have_figures_of_their_own(seed):
    torch.manual_seed(seed)
    x = with_variances(3000, [0.0, 0.5])
    model = Levelled(levelled(), standard(4), [2, 2])
    figures, _, _ = judge("active_units", model, x, threshold=0.1, draws=40)
    assert values(figures) == {"": 2, "level_1": 1, "level_2": 1}
    assert figures["level_1"].tag == "of 2 dimensions; variance above 0.1 over 3000 examples; means exact"
    assert figures["level_2"].tag.endswith("; means from 40 draws")
    assert figures[""].tag.endswith("; means exact for 2 dimensions, for the others from 40 draws")


def test_means_of_the_level_above_average_over_the_one_below():
    x = with_variances(20_000, [0.0, 0.5])
    first, second = two_means(levelled()(x), 40)
    assert torch.equal(first[:, :2], x)
    assert torch.equal(second[:, :2], x)
    found = covariance(first.double(), second.double())[2:].tolist()
    assert found[0] == pytest.approx(0.0, abs=5 * 0.05 * 1.01 / 20_000**0.5)
    noise = (10**2 + 1) / 20
    error = ((2 * 50**2 + 2 * 50 * noise + noise**2) / 20_000) ** 0.5
    assert found[1] == pytest.approx(50.0, abs=4 * error)


def test_examples_come_from_all_over_the_split():
    x = torch.cat([torch.zeros(100, 4), with_variances(100, [1.0] * 4)])
    figures, _, _ = judge("active_units", known(lambda x: normal(x, 1.0)), x, examples=50)
    assert values(figures) == {"": 4}
    assert "over 50 examples" in figures[""].tag


def test_one_example_is_refused():
    with pytest.raises(genkit.GenkitError, match="1 example of validation has no variance; it takes at least 2"):
        judge("active_units", known(lambda x: normal(x, 1.0)), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("options", "message"), [({"threshold": 0}, "threshold"), ({"draws": 1}, "draws"), ({"examples": 0}, "examples")]
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(genkit.RecipeError, match=message):
        genkit.build("evaluator", {"use": "active_units", **options}, known(None))
