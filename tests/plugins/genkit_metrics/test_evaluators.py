"""Evaluators: figures that say what they are, pictures that show what they say."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

import genkit
from genkit import Decodes, Encodes, Factory, GenerativeModel, HasLogProb, LogProb, Sampler, Samples, Split
from genkit.engine.feed import Feed
from genkit.picture import PAPER
from genkit_metrics.manifold import percentiles


class Plane(GenerativeModel, Encodes, Decodes, HasLogProb):
    """Decodes a latent to an image whose first pixel is Phi(z_1) and whose second is Phi(z_2)."""

    latent_shape = (2,)

    def encode(self, x, context=None):
        return torch.special.ndtri(x.flatten(1))

    def decode(self, z, context=None):
        return torch.special.ndtr(z).view(-1, 1, 1, 2)

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.randn(num_samples, 2)

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(
            -x.flatten(1).sum(1) * 255, "exact" if num_samples == 1 else "estimate", "probability", num_samples
        )


class Draws(Sampler):
    def __init__(self, model, objective, /):
        self.model = model

    def sample(self, num_samples, context=None):
        x = self.model.decode(self.model.sample_latent(num_samples))
        return Samples(x.round(), x)


SPEC = genkit.DataSpec((1, 1, 2), levels=256, protocol="8-bit grey")


@pytest.fixture
def subject():
    model = Plane(SPEC)
    values = torch.arange(14, dtype=torch.uint8).view(7, 1, 1, 2)
    data = {name: Feed(Split(values), torch.device("cpu")) for name in ("train", "validation")}
    objective = Factory("none", {}, object)
    return genkit.Subject(model, objective, Draws(model, objective), None, data, epoch=0, batch_size=3)


def built(node, model):
    return genkit.build("evaluator", node, model)


def test_bits_per_dim_weighs_every_example_alike(subject):
    bits, nats = built("bits_per_dim", subject.model).evaluate(subject, "validation")
    assert nats.value == pytest.approx(sum(range(14)) / 7)  # batches of 3, 3 and 1
    assert bits.value == pytest.approx(nats.value / (2 * math.log(2)))
    assert (bits.unit, nats.unit, bits.better) == ("bits/dim", "nats", "lower")
    assert bits.tag == nats.tag == "exact; 256 levels, 8-bit grey"


def test_bits_per_dim_passes_the_samples_on(subject):
    bits, _ = built({"use": "bits_per_dim", "num_samples": 8}, subject.model).evaluate(subject, "train")
    assert bits.tag == "estimate (8 samples); 256 levels, 8-bit grey"


@pytest.mark.parametrize("size", [3, 20])
def test_percentiles_are_the_normals(size):
    expected = scipy.stats.norm.ppf([(i + 0.5) / size for i in range(size)])
    assert percentiles(size).tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    lopsided = scipy.stats.norm.ppf([(i + 0.5) / (size + 1) for i in range(size)])
    assert percentiles(size, "practical").tolist() == pytest.approx(lopsided.tolist(), abs=1e-9)


def test_manifold_grows_to_the_right_and_upwards(subject):
    (picture,) = built({"use": "manifold", "grid": 4}, subject.model).evaluate(subject, None)
    cells = picture.image[0].view(4, 4, 2)  # rows of images, one pixel high and two wide
    steps = torch.tensor([0.125, 0.375, 0.625, 0.875])
    assert torch.allclose(cells[..., 0], steps.expand(4, 4), atol=1e-6)  # the first latent, left to right
    assert torch.allclose(cells[..., 1], steps.flip(0).view(4, 1).expand(4, 4), atol=1e-6)  # the second, bottom to top


def test_manifold_says_why_it_needs_two_dimensions():
    model = genkit.build("model", {"use": "vae", "latent_dim": 20}, genkit.DataSpec((1, 8, 8), 2))
    with pytest.raises(genkit.RecipeError, match=r"needs latents with 2 dimensions.*\(20,\).*model.latent_dim to 2"):
        built("manifold", model)


def test_reconstructions_stand_below_their_data(subject):
    node = {"use": "reconstructions", "rows": 2, "columns": 3, "zoom": 1}
    (picture,) = built(node, subject.model).evaluate(subject, None)
    image = picture.image[0]
    top, below = image[2], image[5]  # rows of pixels: gap of 2, data, gap of 2, reconstruction
    assert torch.allclose(top, below, atol=1e-6)
    assert (top[2:4] * 255).round().tolist() == [0, 1]


def test_sample_grid_shows_draws_and_means_of_the_same_latents(subject):
    node = {"use": "sample_grid", "rows": 2, "columns": 5, "zoom": 1}
    torch.manual_seed(1)
    draws, means = built(node, subject.model).evaluate(subject, None)
    assert (draws.name, means.name) == ("samples", "means")
    assert torch.equal(draws.image, torch.where(means.image == PAPER, means.image, means.image.round()))
    assert draws.image.shape == (3, 2 * 1 + 3 * 2, 5 * 2 + 6 * 2)


@pytest.mark.parametrize("name", ["sample_grid", "reconstructions", "manifold"])
def test_pictures_refuse_vectors(name):
    with pytest.raises(genkit.RecipeError, match=rf"{name} shows images, but the data has shape \(2,\)"):
        built(name, Plane(genkit.DataSpec((2,))))


def test_zoom_repeats_pixels():
    image: Tensor = torch.tensor([[[[0.0, 1.0]]]])
    grid = genkit.image_grid(image, 1, zoom=3, gap=0)
    assert grid.shape == (3, 3, 6)
    assert grid[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 3
