"""Interpolations: ways between latents, and the pictures of them."""

import math

import pytest
import torch

import genkit
from genkit import Decodes, Encodes, GenerativeModel, Split
from genkit.engine.feed import Feed
from genkit.picture import PAPER
from genkit_metrics.interpolation import interpolate

SPEC = genkit.DataSpec((1, 1, 2), levels=256)


class Shown(GenerativeModel, Encodes, Decodes):
    """A latent's two numbers are an image's two pixels; an encoding is half the image."""

    latent_shape = (2,)

    def encode(self, x, context=None):
        return x.flatten(1) / 2

    def decode(self, z, context=None):
        return z.view(-1, 1, 1, 2)

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.rand(num_samples, 2)


def subject_of(model, **splits):
    data = {name: Feed(Split(values), torch.device("cpu")) for name, values in splits.items()}
    return genkit.Subject(model, None, None, None, data, epoch=0, batch_size=3)


def built(model, **options):
    return genkit.build("evaluator", {"use": "interpolation", **options}, model)


def cells(picture, rows, columns, gap=2):
    """The images of a picture, with shape (rows, columns, 3, 1, 2); what lies between them must be paper."""
    assert picture.image.shape == (3, rows * (1 + gap) + gap, columns * (2 + gap) + gap)
    paper = torch.ones(picture.image.shape[1:], dtype=torch.bool)
    found = []
    for row in range(rows):
        top = gap + row * (1 + gap)
        for column in range(columns):
            left = gap + column * (2 + gap)
            found.append(picture.image[:, top : top + 1, left : left + 2])
            paper[top : top + 1, left : left + 2] = False
    assert (picture.image[:, paper] == PAPER).all()
    return torch.stack(found).unflatten(0, (rows, columns))


def angle(a, b):
    return torch.arccos((a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1))


@pytest.mark.parametrize("path", ["lerp", "slerp"])
@pytest.mark.parametrize("shape", [(4,), (3, 2, 2)])
@pytest.mark.parametrize("steps", [0, 5])
def test_ends_are_exact(path, shape, steps):
    start, end = torch.randn(6, *shape), torch.randn(6, *shape)
    z = interpolate(start, end, steps, path)
    assert z.shape == (6, steps + 2, *shape)
    assert torch.equal(z[:, 0], start)
    assert torch.equal(z[:, -1], end)


def test_lerp_is_the_straight_way():
    start, end = torch.tensor([[0.0, 10.0], [1.0, 1.0]]), torch.tensor([[4.0, -10.0], [1.0, 5.0]])
    z = interpolate(start, end, 3)
    assert z[0].tolist() == [[0, 10], [1, 5], [2, 0], [3, -5], [4, -10]]
    assert z[1].tolist() == [[1, 1], [1, 2], [1, 3], [1, 4], [1, 5]]


def test_slerp_keeps_lengths_and_turns_by_equal_angles():
    start, end = (torch.nn.functional.normalize(torch.randn(8, 5, dtype=torch.float64)) for _ in range(2))
    z = interpolate(start, end, 4, "slerp")
    assert torch.allclose(z.norm(dim=-1), torch.ones(8, 6, dtype=torch.float64), atol=1e-6)
    turns = angle(z[:, :-1], z[:, 1:])
    assert torch.allclose(turns, angle(start, end)[:, None].expand(8, 5) / 5, atol=1e-6)


def test_slerp_goes_round_where_lerp_cuts_across():
    start, end = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert interpolate(start, end, 1, "slerp")[0, 1].tolist() == pytest.approx([3 / math.sqrt(2)] * 2)
    assert interpolate(start, end, 1, "lerp")[0, 1].tolist() == pytest.approx([1.5, 1.5])


def test_slerp_is_the_formula_for_lengths_that_differ():
    start, end = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.5, 1.0, 0.0]])
    whole = math.atan2(1.0, 0.5)
    shares = [math.sin((1 - t) * whole) / math.sin(whole) for t in (0.25, 0.5, 0.75)]
    others = [math.sin(t * whole) / math.sin(whole) for t in (0.25, 0.5, 0.75)]
    expected = [[2 * a + 0.5 * b, b, 0.0] for a, b in zip(shares, others, strict=True)]
    found = interpolate(start, end, 3, "slerp")[0, 1:-1]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.0 + 1e-7, 2.0, -1.0, -2.0, 0.0])
def test_slerp_of_latents_in_one_line_is_straight(factor):
    start = torch.tensor([[1.0, -2.0, 0.5], [1e-3, 0.0, 0.0], [1e4, 1.0, 7.0]])
    z = interpolate(start, factor * start, 3, "slerp")
    assert torch.isfinite(z).all()
    if factor:
        assert torch.allclose(z, interpolate(start, factor * start, 3), rtol=1e-4, atol=1e-4 * start.norm().item())


def test_slerp_between_nothing_and_nothing_is_nothing():
    zero = torch.zeros(2, 3)
    assert torch.equal(interpolate(zero, zero, 2, "slerp"), torch.zeros(2, 4, 3))


def test_rows_are_pairs_and_columns_the_way_between_them():
    model = Shown(SPEC)
    torch.manual_seed(3)
    (picture,) = built(model, zoom=1).evaluate(subject_of(model), None)
    images = cells(picture, 4, 7)
    torch.manual_seed(3)
    start, end = torch.rand(8, 2).chunk(2)
    assert torch.allclose(images[:, :, 0, 0], interpolate(start, end, 5), atol=1e-6)
    assert torch.equal(images[:, :, 0], images[:, :, 2])


def test_path_and_zoom_reach_the_picture():
    model = Shown(SPEC)
    torch.manual_seed(3)
    (picture,) = built(model, pairs=2, steps=1, path="slerp", zoom=3).evaluate(subject_of(model), None)
    assert picture.image.shape == (3, 2 * (3 + 2) + 2, 3 * (6 + 2) + 2)
    torch.manual_seed(3)
    middle = interpolate(*torch.rand(4, 2).chunk(2), 1, "slerp")[:, 1]
    assert torch.allclose(picture.image[0, 2, 2 + 8 : 2 + 8 + 6 : 3], middle[0], atol=1e-6)


def test_between_data_starts_and_ends_at_the_first_validation_images():
    model = Shown(SPEC)
    values = torch.arange(0, 40, dtype=torch.uint8).view(20, 1, 1, 2)
    subject = subject_of(model, train=255 - values, validation=values)
    (picture,) = built(model, between="data", pairs=3, zoom=1).evaluate(subject, None)
    images = cells(picture, 3, 7)[:, :, 0, 0] * 255 * 2  # an encoding is half the image
    assert images[:, 0].round().tolist() == [[0, 1], [2, 3], [4, 5]]
    assert images[:, -1].round().tolist() == [[6, 7], [8, 9], [10, 11]]


def test_between_data_takes_the_training_images_where_no_others_are_and_as_many_pairs_as_there_are():
    model = Shown(SPEC)
    values = torch.arange(0, 10, dtype=torch.uint8).view(5, 1, 1, 2)
    (picture,) = built(model, between="data", zoom=1).evaluate(subject_of(model, train=values), None)
    images = cells(picture, 2, 7)[:, :, 0, 0] * 255 * 2
    assert images[:, 0].round().tolist() == [[0, 1], [2, 3]]
    assert images[:, -1].round().tolist() == [[4, 5], [6, 7]]


def test_one_image_has_nothing_to_go_to():
    model = Shown(SPEC)
    subject = subject_of(model, train=torch.zeros(1, 1, 1, 2, dtype=torch.uint8))
    with pytest.raises(genkit.GenkitError, match="takes at least 2 examples"):
        list(built(model, between="data").evaluate(subject, None))


def test_between_data_shows_what_a_vae_makes_of_its_encodings():
    spec = genkit.DataSpec((1, 4, 4), levels=2)
    model = genkit.build("model", {"use": "vae", "latent_dim": 3}, spec).eval()
    images = (torch.rand(4, 1, 4, 4) < 0.5).byte() * 255
    (picture,) = built(model, between="data", pairs=2, steps=0, zoom=1).evaluate(
        subject_of(model, validation=images, train=images.flip(0)), None
    )
    expected = genkit.image_grid(model.decode(model.encode(images.float() / 255))[[0, 2, 1, 3]], 2)
    assert torch.allclose(picture.image, expected, atol=1e-6)


def test_between_data_is_refused_for_a_generator_with_what_would_do():
    model = genkit.build("model", {"use": "generator", "latent_dim": 2}, SPEC)
    with pytest.raises(
        genkit.RecipeError, match=r"needs a model that encodes: Generator does not; between: prior would"
    ):
        built(model, between="data")
    (picture,) = built(model, zoom=1).evaluate(subject_of(model), None)
    assert cells(picture, 4, 7).shape == (4, 7, 3, 1, 2)


def test_vectors_are_refused():
    with pytest.raises(genkit.RecipeError, match=r"interpolation shows images, but the data has shape \(2,\)"):
        built(Shown(genkit.DataSpec((2,))))
