"""The aggregate posterior, whose moments are those of examples and posteriors together."""

import pytest
import torch
from handmade import Known, normal, standard, view

import genkit

STD = torch.tensor([0.5, 2.0])
EXACT = 1e-4
COUNT = 20_000


def fitted(x, noise=EXACT, **options):
    """A sampler of a model whose posteriors lie around the examples."""
    model = Known(lambda x: normal(x, STD), standard(2), noise)
    sampler = genkit.build("sampler", {"use": "aggregate_posterior", **options}, model, None)
    sampler.fit({"train": view(x)})
    return sampler


def draw(sampler, count, seed=5):
    torch.manual_seed(seed)
    with torch.no_grad():
        return sampler.sample(count)


def test_samples_have_the_moments_of_the_mixture_of_posteriors():
    x = torch.tensor([[-3.0, 0.0], [1.0, 2.0], [2.0, -2.0], [0.0, 4.0]])
    found = draw(fitted(x), COUNT).x
    covariance = x.T.cov(correction=0) + torch.diag(STD**2)
    error = (covariance.diagonal() / COUNT).sqrt()
    assert ((found.mean(0) - x.mean(0)).abs() < 4.5 * error).all()
    assert found.T.cov().flatten().tolist() == pytest.approx(covariance.flatten().tolist(), abs=0.2)


def test_every_example_is_drawn_equally_often():
    x = torch.tensor([[0.0, 0.0], [100.0, 0.0], [200.0, 0.0]])
    found = draw(fitted(x), COUNT).x[:, 0]
    shares = torch.bincount((found / 100).round().long()) / COUNT
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=4.5 * (2 / 9 / COUNT) ** 0.5)


def test_the_same_example_gives_other_latents_each_time():
    found = draw(fitted(torch.zeros(1, 2)), COUNT).x
    assert found.std(0).tolist() == pytest.approx(STD.tolist(), rel=0.03)


def test_examples_come_from_all_over_the_split():
    x = torch.arange(1000.0)[:, None].expand(1000, 2)
    sampler = fitted(x, examples=40)
    assert sampler.kept.shape == (40, 2)
    assert sampler.kept[:, 0].mean().item() == pytest.approx(500, abs=4.5 * 289 / 40**0.5)
    assert fitted(x, examples=None).kept.shape == (1000, 2)


def test_draws_are_of_the_likelihood_and_means_are_its_means():
    x = torch.zeros(10, 2)
    drawn, mean = (draw(fitted(x, noise=3.0, output=output), 2000) for output in ("draw", "mean"))
    assert mean.mean is None
    assert torch.equal(drawn.mean, mean.x)
    assert (drawn.x - drawn.mean).std().item() == pytest.approx(3.0, rel=0.05)


def test_it_must_be_fitted_first():
    sampler = genkit.build("sampler", "aggregate_posterior", Known(None, standard(2)), None)
    with pytest.raises(genkit.GenkitError, match="has seen no training data; fit comes before sample"):
        sampler.sample(2)
    with pytest.raises(genkit.GenkitError, match="needs training data, and there are none"):
        sampler.fit({})
