"""The mixture of normals that is fitted to latents, where the latents' own mixture is known."""

import math

import pytest
import sklearn.mixture
import torch
from handmade import Known, Levelled, normal, standard, view
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from typer.testing import CliRunner

import genkit
from genkit.cli import app
from genkit_latents.gaussian_mixture import ROOTS, Normals

WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
MEANS = torch.tensor([[-4.0, 0.0], [3.0, 3.0], [2.0, -5.0]])
COVARIANCES = torch.tensor([[[1.0, 0.8], [0.8, 1.0]], [[0.5, 0.0], [0.0, 2.0]], [[1.5, -0.6], [-0.6, 0.7]]])
COUNT = 6000
EXACT = 1e-4  # the spread of posteriors and likelihoods that hide nothing


def drawn_from(weights, means, covariances, count=COUNT):
    torch.manual_seed(2)
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances)).sample((count,))


def fitted(x, std=EXACT, seed=4, **options):
    """A sampler of a model whose latents are the examples, and whose data are the latents."""
    model = Known(lambda x: normal(x, std), standard(2), EXACT)
    sampler = genkit.build("sampler", {"use": "gaussian_mixture", **options}, model, None)
    torch.manual_seed(seed)
    with torch.no_grad():
        sampler.fit({"train": view(x)})
    return sampler


def draw(sampler, count, seed=5):
    torch.manual_seed(seed)
    with torch.no_grad():
        return sampler.sample(count)


def by_first(mixture):
    """A mixture's parts, sorted by the first element of the means."""
    order = mixture.means[:, 0].argsort()
    roots = mixture.roots[order]
    return mixture.weights[order], mixture.means[order], roots @ roots.mT


def test_known_mixture_is_found_again():
    weights, means, covariances = by_first(fitted(drawn_from(WEIGHTS, MEANS, COVARIANCES), components=3).mixture)
    order = MEANS[:, 0].argsort()
    for place, k in enumerate(order.tolist()):
        own = WEIGHTS[k].item() * COUNT
        error = (COVARIANCES[k].diagonal() / own).sqrt()
        assert weights[place].item() == pytest.approx(
            WEIGHTS[k].item(), abs=4.5 * (own / COUNT * (1 - own / COUNT) / COUNT) ** 0.5
        )
        assert ((means[place] - MEANS[k]).abs() < 4.5 * error).all()
        assert covariances[place].flatten().tolist() == pytest.approx(
            COVARIANCES[k].flatten().tolist(), abs=4.5 * 2.0 * (2 / own) ** 0.5
        )


def test_samples_have_the_moments_of_the_mixture():
    x = draw(fitted(drawn_from(WEIGHTS, MEANS, COVARIANCES), components=3), 20_000).x
    mean = WEIGHTS @ MEANS
    spread = torch.einsum("k,kij->ij", WEIGHTS, COVARIANCES + (MEANS - mean)[:, :, None] * (MEANS - mean)[:, None])
    error = (spread.diagonal() * (1 / 20_000 + 1 / COUNT)).sqrt()
    assert ((x.mean(0) - mean).abs() < 4.5 * error).all()
    assert torch.allclose(x.T.cov(), spread, atol=0.8)
    nearest = torch.cdist(x, MEANS).argmin(1)
    for k in range(3):
        own = x[nearest == k]
        assert len(own) / 20_000 == pytest.approx(WEIGHTS[k].item(), abs=0.03)
        assert torch.allclose(own.T.cov(), COVARIANCES[k], atol=0.2)
    assert (x[1:] - x[:-1]).norm(dim=1).median() > 1  # not one component after the other


KINDS = {
    "full": COVARIANCES,
    "tied": COVARIANCES[:1].expand(3, 2, 2),
    "diag": torch.diag_embed(torch.tensor([[1.0, 0.3], [0.5, 2.0], [1.5, 0.7]])),
    "spherical": torch.tensor([1.0, 0.3, 2.0])[:, None, None] * torch.eye(2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_sort_of_covariance_is_found_again(kind):
    assert KINDS.keys() == ROOTS.keys()
    x = drawn_from(WEIGHTS, MEANS, KINDS[kind])
    weights, means, covariances = by_first(fitted(x, components=3, covariance=kind).mixture)
    order = MEANS[:, 0].argsort()
    assert torch.allclose(weights, WEIGHTS[order], atol=0.03)
    assert torch.allclose(means, MEANS[order], atol=0.2)
    assert torch.allclose(covariances, KINDS[kind][order], atol=0.3)


def test_a_sort_of_covariance_that_is_too_simple_fits_what_it_can():
    x = drawn_from(torch.ones(1), MEANS[:1], COVARIANCES[:1])
    for kind, expected in (("diag", torch.eye(2)), ("spherical", torch.eye(2)), ("full", COVARIANCES[0])):
        _, _, covariances = by_first(fitted(x, components=1, covariance=kind).mixture)
        assert torch.allclose(covariances[0], expected, atol=0.1), kind


@pytest.mark.parametrize(("latents", "variance"), [("draw", 1 + 4.0), ("mean", 1.0)])
def test_it_is_fitted_to_draws_or_to_means(latents, variance):
    x = torch.randn(COUNT, 2)
    _, _, covariances = by_first(fitted(x, std=2.0, components=1, latents=latents).mixture)
    error = variance * (2 / COUNT) ** 0.5
    assert covariances[0].diagonal().tolist() == pytest.approx([variance] * 2, abs=4.5 * error)


def test_so_many_examples_are_used():
    x = torch.cat([torch.full((COUNT, 2), 0.0), torch.full((COUNT, 2), 2.0)])
    (mean,) = fitted(x, components=1, examples=400).mixture.means.tolist()
    assert mean == pytest.approx([1.0, 1.0], abs=0.25)
    assert mean != pytest.approx([1.0, 1.0], abs=1e-3)  # not all


def test_seeds_hold():
    x = drawn_from(WEIGHTS, MEANS, COVARIANCES, 500)
    one, same, other = (fitted(x, seed=seed, components=5) for seed in (1, 1, 2))
    assert torch.equal(one.mixture.means, same.mixture.means)
    assert not torch.equal(one.mixture.means, other.mixture.means)
    assert torch.equal(draw(one, 4).x, draw(same, 4).x)
    assert not torch.equal(draw(one, 4).x, draw(one, 4, seed=6).x)


def test_it_is_fitted_anew_and_only_when_it_is_drawn_from(monkeypatch):
    asked, fit = [], sklearn.mixture.GaussianMixture.fit
    monkeypatch.setattr(sklearn.mixture.GaussianMixture, "fit", lambda self, x: asked.append(len(x)) or fit(self, x))
    sampler = fitted(torch.randn(30, 2), components=1)
    assert asked == []
    draw(sampler, 3)
    draw(sampler, 3)
    assert asked == [30]
    sampler.fit({"train": view(torch.randn(20, 2) + 50)})
    assert draw(sampler, 100).x.mean().item() == pytest.approx(50, abs=1.5)
    assert asked == [30, 20]


def test_a_draw_does_not_depend_on_who_drew_before():
    x = torch.randn(50, 2)
    early, late = fitted(x), fitted(x)
    draw(early, 3)
    assert torch.equal(draw(early, 3).x, draw(late, 3).x)


def test_a_fit_that_does_not_settle_serves_as_it_is():
    """Warnings are errors here."""
    x = drawn_from(WEIGHTS, MEANS, COVARIANCES, 500)
    assert torch.isfinite(draw(fitted(x, components=8, iterations=1), 100).x).all()


def test_latents_that_are_all_alike_are_fitted():
    """A collapsed model's means: scikit-learn warns that there are fewer points than components."""
    x = draw(fitted(torch.ones(50, 2), std=0.0, components=4), 100).x
    assert torch.allclose(x, torch.ones(100, 2), atol=0.02)


def test_mixture_draws_each_component_as_often_as_its_weight_says():
    weights = torch.tensor([0.7, 0.3])
    normals = Normals(weights, torch.tensor([[0.0], [10.0]]), torch.tensor([[[1.0]], [[2.0]]]))
    z = normals.sample(40_000)
    far = z[z > 4]
    assert len(far) / 40_000 == pytest.approx(0.3, abs=4.5 * (0.21 / 40_000) ** 0.5 + 2e-3)
    assert far.std().item() == pytest.approx(2.0, abs=0.1)
    assert z[z < 4].std().item() == pytest.approx(1.0, abs=0.05)


def test_draws_are_of_the_likelihood_and_means_are_its_means():
    x = torch.randn(200, 2)
    model = Known(lambda x: normal(x, EXACT), standard(2), noise=3.0)
    draws, means = (
        genkit.build("sampler", {"use": "gaussian_mixture", "components": 1, "output": output}, model, None)
        for output in ("draw", "mean")
    )
    for sampler in (draws, means):
        torch.manual_seed(0)
        sampler.fit({"train": view(x)})
    drawn, mean = draw(draws, 2000), draw(means, 2000)
    assert mean.mean is None
    assert torch.equal(drawn.mean, mean.x)
    assert (drawn.x - drawn.mean).std().item() == pytest.approx(3.0, rel=0.05)


# ---- what is refused -------------------------------------------------------------------------------------------------


def unfitted(**options):
    model = Known(lambda x: normal(x, 1.0), standard(2))
    return genkit.build("sampler", {"use": "gaussian_mixture", **options}, model, None)


def drawn_after(sampler, train):
    sampler.fit({"train": train})
    return sampler.sample(2)


def test_it_must_be_fitted_first():
    with pytest.raises(genkit.GenkitError, match="not fitted to any training data; fit comes before sample"):
        unfitted().sample(2)


def test_it_needs_training_data():
    with pytest.raises(genkit.GenkitError, match="needs training data, and there are none"):
        unfitted().fit({"test": view(torch.zeros(20, 2))})


@pytest.mark.parametrize("options", [{}, {"examples": 9}])
def test_it_needs_as_many_examples_as_components(options):
    unfitted(components=9, **options).fit({"train": view(torch.randn(9, 2))})
    message = "10 components need as many training examples, and there are 9; use fewer components"
    with pytest.raises(genkit.GenkitError, match=message):
        unfitted(**options).fit({"train": view(torch.randn(9 if not options else 50, 2))})


def test_latents_that_are_not_finite_are_refused():
    with pytest.raises(genkit.GenkitError, match="not finite; the model has diverged"):
        unfitted().fit({"train": view(torch.full((20, 2), math.inf))})


def test_latents_that_cannot_be_fitted_are_refused():
    """On a line so long that rounding makes the variance across it negative."""
    train = view(1e8 * torch.randn(20, 1).expand(20, 2))
    message = "10 components of covariance=full cannot be fitted to these latents, which have next to no spread"
    with pytest.raises(genkit.GenkitError, match=message):
        drawn_after(unfitted(latents="mean"), train)
    assert drawn_after(unfitted(latents="mean", covariance="diag"), train).x.shape == (2, 2)


def test_a_context_is_refused():
    with pytest.raises(ValueError, match="cannot be conditioned on a context"):
        fitted(torch.randn(20, 2)).sample(2, torch.zeros(2))


@pytest.mark.parametrize("name", ["gaussian_mixture", "aggregate_posterior"])
def test_latents_of_several_levels_are_refused(name):
    model = Levelled(None, standard(5), [3, 2])
    message = f"{name}: fits one latent, but Levelled has 2 levels of latents, with 3 and 2 dimensions; prior would do"
    with pytest.raises(genkit.RecipeError, match=message):
        genkit.build("sampler", name, model, None)
    genkit.build("sampler", name, Levelled(None, standard(3), [3]), None)


@pytest.mark.parametrize("name", ["gaussian_mixture", "aggregate_posterior"])
def test_a_recipe_with_several_levels_is_refused_before_training(name, tmp_path, small_recipe):
    small_recipe["model"] = {"use": "hierarchical_vae", "levels": [{"latent_dim": 3}, {"latent_dim": 2}]}
    message = f"sampler: {name}: fits one latent, but HierarchicalVAE has 2 levels of latents, with 3 and 2 dimensions"
    with pytest.raises(genkit.RecipeError, match=message):
        genkit.run({**small_recipe, "sampler": name}, name="refused", runs=tmp_path, device="cpu")


# ---- in a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    layers = {"use": "mlp", "hidden_dims": [8]}
    recipe = {
        "data": {"use": "mnist", "binarize": "threshold", "train": 64, "validation": 32, "test": 32},
        "model": {"use": "vae", "latent_dim": 2, "encoder": layers, "decoder": layers},
        "objective": {"use": "elbo"},
        "sampler": {"use": "gaussian_mixture", "components": 2},
        "train": {"epochs": 1, "batch_size": 32},
        "evaluate": {"samples": {"use": "sample_grid", "rows": 2, "columns": 2}},
    }
    genkit.run(recipe, name="tiny", runs=place, device="cpu")
    return place / "tiny"


def test_run_draws_with_it(trained):
    assert len(list((trained / "images" / "samples").iterdir())) == 2
    run = genkit.load(trained, device="cpu")
    once, again = (run.sample(3, seed=1) for _ in range(2))
    assert once.shape == (3, 1, 28, 28)
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", ["gaussian_mixture", "aggregate_posterior"])
def test_command_samples_a_run_with_it(trained, tmp_path, name):
    out = tmp_path / "s.png"
    words = ["sample", str(trained), "-n", "5", "--seed", "3", "--sampler", name, "output=mean", "--output", str(out)]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("wrote 5 samples of ")
    assert out.is_file()


def test_command_says_that_examples_are_too_few(trained, tmp_path):
    words = [
        "sample",
        str(trained),
        "--sampler",
        "gaussian_mixture",
        "components=65",
        "--output",
        str(tmp_path / "s.png"),
    ]
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.stderr.strip().endswith(
        "gaussian_mixture: 65 components need as many training examples, and there are 64; use fewer components"
    )
