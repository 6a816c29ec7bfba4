"""Scatter plots: where the points are, how large the pictures are, and what stands above them."""

import pytest
import torch
from matplotlib.axes import Axes
from panels import blue, frame
from torch import Tensor

import genkit
from genkit import GenerativeModel, Sampler, Samples, Split
from genkit.engine.feed import Feed

SPEC = genkit.DataSpec((2,))
CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # shown from -1.2 to 1.2


class Anything(GenerativeModel):
    pass


class Points(Sampler):
    """Draws the same points again and again."""

    def __init__(self, points):
        self.points = torch.tensor(points)
        self.place = 0

    def sample(self, num_samples, context=None):
        self.place += num_samples
        return Samples(self.points[torch.arange(self.place - num_samples, self.place) % len(self.points)])


def pictures(points, data=CORNERS, **options):
    evaluator = genkit.build("evaluator", {"use": "scatter", "num_samples": 20, **options}, Anything(SPEC))
    views = {"train": Feed(Split(data, Tensor.float), torch.device("cpu"))}
    subject = genkit.Subject(Anything(SPEC), None, Points(points), None, views, epoch=0, batch_size=14)
    return list(evaluator.evaluate(subject, None))


def coloured(half):
    """The middle of what is blue, in the units of the axes, and how many pixels it has."""
    left, right, top, bottom = frame(half)
    found = blue(half).nonzero().float()
    assert len(found), "nothing is to be seen"
    row, column = ((found.amin(0) + found.amax(0)) / 2).tolist()
    x = 2.4 * (column - left) / (right - left) - 1.2
    y = 1.2 - 2.4 * (row - top) / (bottom - top)
    return x, y, len(found)


@pytest.mark.parametrize("size", [480, 255, 300])
def test_pictures_have_the_right_size_and_range(size):
    found = pictures([[0.0, 0.0]], size=size)
    assert [picture.name for picture in found] == ["scatter", "density"]
    for picture in found:
        assert picture.image.shape == (3, size, 2 * size)
        assert 0 <= picture.image.min() < 0.2
        assert picture.image.max() == 1


@pytest.mark.parametrize("extent", [1.0, 4.05, 100.0])
def test_nothing_is_cut_off_at_the_edges(extent):
    for picture in pictures([[0.0, 0.0]], data=extent * CORNERS, size=480):
        edges = [picture.image[:, 0], picture.image[:, -1], picture.image[:, :, 0], picture.image[:, :, -1]]
        assert all(edge.min() > 0.95 for edge in edges), picture.name


@pytest.mark.parametrize("name", ["scatter", "density"])
@pytest.mark.parametrize("point", [(0.5, 0.5), (-0.7, 0.9), (0.1, -1.1)])
def test_samples_at_one_point_are_seen_on_the_right_where_they_are(name, point):
    (picture,) = (picture for picture in pictures([list(point)], size=400) if picture.name == name)
    x, y, size = coloured(picture.image[:, :, 400:])
    assert x == pytest.approx(point[0], abs=0.03)
    assert y == pytest.approx(point[1], abs=0.03)
    assert 1 < size < 200


def places(half, points, radius):
    """Whether the picture is blue at each of some points of the plane, and whether it is so anywhere else."""
    left, right, top, bottom = frame(half)
    found, seen = blue(half), []
    for x, y in points:
        column = round(left + (x + 1.2) / 2.4 * (right - left))
        row = round(bottom - (y + 1.2) / 2.4 * (bottom - top))
        there = found[row - radius : row + radius + 1, column - radius : column + radius + 1]
        seen.append(bool(there.any()))
        there[:] = False
    return seen, bool(found.any())


def test_data_are_seen_on_the_left_where_they_are():
    points = [*CORNERS.tolist(), [0.0, 0.0], [-0.5, 0.25]]
    scatter, _ = pictures([[0.0, 0.0]], data=torch.tensor(points), size=400)
    assert places(scatter.image[:, :, :400], points, 4) == ([True] * 6, False)


def test_densities_show_few_beside_many():
    samples = [[0.0, 0.0]] * 190 + [[0.5, -0.75]] * 9 + [[-0.9, 0.3]]
    _, density = pictures(samples, size=400)
    half = density.image[:, :, 400:]
    seen, elsewhere = places(half, [(0.0, 0.0), (0.5, -0.75), (-0.9, 0.3)], 5)
    assert seen[:2] == [True, True]
    assert not elsewhere


def test_densities_show_a_single_stray():
    _, density = pictures([[0.0, 0.0]] * 199 + [[-0.9, 0.3]], size=400)
    half = density.image[:, :, 400:]
    left, right, top, bottom = frame(half)
    column, row = round(left + 0.3 / 2.4 * (right - left)), round(bottom - 1.5 / 2.4 * (bottom - top))
    there = half[:, row - 4 : row + 5, column - 4 : column + 5]
    assert there.amax((1, 2)).sub(there.amin((1, 2))).max() > 0.05


@pytest.mark.parametrize(
    ("points", "share"),
    [([[0.0, 0.0], [1.3, 0.0]], "50.0%"), ([[0.0, 0.0]], "0.0%"), ([[0.0, 0.0], [1.1, 1.1], [0.0, -9.0]] * 7, "33.3%")],
)
def test_share_outside_is_said(points, share, monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, label, *args, **options: titles.append(label))
    pictures(points, num_samples=21 if len(points) > 2 else 20)
    count = 21 if len(points) > 2 else 20
    assert titles == [
        "data, 4",
        f"samples, {count}, {share} outside",
        "data, 4",
        f"samples, {10 * count}, {share} outside",
    ]


def test_samples_that_all_lie_outside_are_no_failure():
    for picture in pictures([[7.0, 7.0]]):
        half = picture.image[:, :, picture.image.shape[2] // 2 :]
        assert not blue(half).any()


def test_densities_count_ten_times_as_many():
    data = torch.cat([CORNERS.repeat(5, 1), torch.zeros(30, 2)])  # beyond the first 20
    points, density = pictures([[0.0, 0.0]], data=data, size=400)
    middle = [frame(picture.image[:, :, :400]) for picture in (points, density)]
    for picture, (left, right, top, bottom), there in zip((points, density), middle, (False, True), strict=True):
        column, row = (left + right) // 2, (top + bottom) // 2
        spot = picture.image[:, row - 4 : row + 5, column - 4 : column + 5]
        assert bool(blue(spot).any()) is there, picture.name


@pytest.mark.parametrize("shape", [(3,), (1,), (1, 2, 2)])
def test_other_data_than_the_plane_are_refused(shape):
    with pytest.raises(genkit.RecipeError, match=r"scatter shows points in the plane, but the data has shape \("):
        genkit.build("evaluator", "scatter", Anything(genkit.DataSpec(shape)))
