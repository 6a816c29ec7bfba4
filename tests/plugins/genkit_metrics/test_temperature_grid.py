"""Grids of temperatures: rows that differ in nothing but the temperature."""

import pytest
import torch

import genkit
from genkit import Decodes, GenerativeModel

SPEC = genkit.DataSpec((1, 1, 2), levels=256)


class Shown(GenerativeModel, Decodes):
    """A latent's two numbers, between 0 and 1 at most, are an image's two pixels."""

    latent_shape = (2,)

    def __init__(self, spec=SPEC):
        super().__init__(spec)
        self.decoded = []

    def decode(self, z, context=None):
        self.decoded.append(len(z))
        return z.view(-1, 1, 1, 2)

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.rand(num_samples, 2)


def rows_of(model=None, seed=0, count=5, columns=8, batch_size=100, **options):
    """The rows of the picture, with shape (rows, columns, 2)."""
    model = model or Shown()
    node = {"use": "temperature_grid", "zoom": 1, "columns": columns, **options}
    evaluator = genkit.build("evaluator", node, model)
    subject = genkit.Subject(model, None, None, None, {}, epoch=0, batch_size=batch_size)
    torch.manual_seed(seed)
    (picture,) = evaluator.evaluate(subject, None)
    assert picture.name == ""
    assert picture.image.shape == (3, 3 * count + 2, 4 * columns + 2)  # gaps of 2 around images of 1 x 2
    cells = picture.image[0, 2::3].view(count, -1)[:, 2:]
    return cells.view(count, columns, 4)[:, :, :2]


def test_rows_differ_in_their_temperature_alone():
    temperatures = [1.0, 0.25, 0.0, 0.5]
    rows = rows_of(temperatures=temperatures, count=4)
    assert rows[0].unique().numel() == 16
    for row, temperature in zip(rows, temperatures, strict=True):
        assert torch.allclose(row, temperature * rows[0])


def test_temperatures_rise_from_top_to_bottom_where_nothing_is_said():
    rows = rows_of()
    assert (rows / rows[-1]).mean((1, 2)).tolist() == pytest.approx([0.5, 0.7, 0.8, 0.9, 1.0])


def test_follows_the_global_seed():
    assert torch.equal(rows_of(seed=1), rows_of(seed=1))
    assert not torch.equal(rows_of(seed=1), rows_of(seed=2))


def test_decodes_in_batches():
    model = Shown()
    rows = rows_of(model, batch_size=3)
    assert model.decoded == [3, 3, 2] * 5
    assert torch.equal(rows, rows_of())


def test_vectors_are_refused():
    with pytest.raises(genkit.RecipeError, match=r"temperature_grid shows images, but the data has shape \(2,\)"):
        rows_of(Shown(genkit.DataSpec((2,))))


@pytest.mark.parametrize("temperatures", [[], [0.5, -0.1]])
def test_no_temperatures_and_negative_ones_are_refused(temperatures):
    with pytest.raises(genkit.RecipeError, match="temperatures"):
        rows_of(temperatures=temperatures)
