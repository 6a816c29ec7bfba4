"""Densities in the plane: their integrals, and the colours of the pictures where the densities are known."""

import math

import matplotlib
import pytest
import torch
from matplotlib.axes import Axes
from panels import blue, colour_at, frame, halves
from torch import Tensor
from torch.distributions import Independent, Normal

import genkit
from genkit import Dataset, Figure, GenerativeModel, HasEnergy, HasLogProb, LogProb, Picture, Sampler, Samples, Split
from genkit.engine.feed import Feed
from genkit_metrics.density import Mesh

SPEC = genkit.DataSpec((2,), protocol="toy")
CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # shown from -1.2 to 1.2


def normal(mean, std):
    return Independent(Normal(torch.tensor(mean), torch.tensor(std)), 1)


MODEL = normal([0.5, -0.3], [0.4, 0.8])


class Known(GenerativeModel, HasLogProb):
    """A distribution of torch's as a model, which keeps what it is asked for."""

    def __init__(self, distribution=MODEL, tightness="exact", spec=SPEC):
        super().__init__(spec)
        self.distribution, self.tightness = distribution, tightness
        self.asked = []

    def log_prob(self, x, context=None, num_samples=1):
        self.asked.append(x)
        return LogProb(self.distribution.log_prob(x), self.tightness, "density")


class Target(Dataset, HasEnergy):
    """A distribution of torch's as a target, known up to a constant."""

    spec = SPEC
    entropy = None

    def __init__(self, distribution, log_partition):
        self.distribution = distribution
        self._log_partition = log_partition

    log_partition = property(lambda self: self._log_partition)

    def split(self, name):
        return None

    def energy(self, x):
        return -self.distribution.log_prob(x) - (self._log_partition or 0.0)


class Points(Sampler):
    """Draws the same point again and again."""

    def __init__(self, point):
        self.point = torch.tensor(point)

    def sample(self, num_samples, context=None):
        return Samples(self.point.expand(num_samples, 2))


def evaluate(model=None, target=None, data=CORNERS, point=(0.0, 0.0), batch_size=1000, **options):
    model = model or Known()
    evaluator = genkit.build("evaluator", {"use": "density", "grid": 60, "size": 400, **options}, model)
    views = {"train": Feed(Split(data, Tensor.float), torch.device("cpu"))}
    subject = genkit.Subject(model, None, Points(point), target, views, epoch=0, batch_size=batch_size)
    results = list(evaluator.evaluate(subject, None))
    (figure,) = (result for result in results if isinstance(result, Figure))
    pictures = {result.name: result for result in results if isinstance(result, Picture)}
    assert list(pictures) == ["density", "samples"]
    return figure, pictures["density"], pictures["samples"]


def shade(share):
    """The colour of a density, as a share of the darkest."""
    return pytest.approx(list(matplotlib.colormaps["Blues"](share))[:3], abs=0.04)


def within(low, high, mean, std):
    """The mass of a normal between two places."""
    return (math.erf((high - mean) / std / 2**0.5) - math.erf((low - mean) / std / 2**0.5)) / 2


# ---- the mass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extent", "e"), [(None, 1.2), (0.7, 0.7), (5.0, 5.0)])
def test_mass_is_the_integral_over_what_is_shown(extent, e):
    figure, _, _ = evaluate(extent=extent)
    expected = within(-e, e, 0.5, 0.4) * within(-e, e, -0.3, 0.8)
    assert figure.value == pytest.approx(expected, abs=1e-3)
    assert (figure.name, figure.unit, figure.better, figure.floor) == ("mass", "", None, None)
    shown = f"[-{e:g}, {e:g}] x [-{e:g}, {e:g}], 60 x 60 points"
    assert figure.tag == f"integral of the density over {shown}; exact; density of continuous, toy"


def test_mass_of_what_is_no_density_is_said():
    class Twice(Known):
        def log_prob(self, x, context=None, num_samples=1):
            return LogProb(self.distribution.log_prob(x) + math.log(2), "exact", "density")

    figure, _, _ = evaluate(Twice(), extent=5.0)
    assert figure.value == pytest.approx(2.0, abs=1e-3)


def test_the_trapezoidal_rule_is_exact_for_bilinear_functions_of_a_rectangle():
    mesh = Mesh(torch.tensor([[1.0, -2.0], [4.0, 0.0]]), 7)
    x, y = mesh.points.double().T
    assert mesh.points[:7, 1].tolist() == [-2.0] * 7  # the bottom row comes first
    assert mesh.integral(2 * x + x * y) == pytest.approx(2 * 7.5 * 2 - 7.5 * 2, rel=1e-6)


@pytest.mark.parametrize("batch_size", [7, 3600, 9999])
def test_densities_are_taken_in_batches(batch_size):
    model = Known()
    figure, picture, _ = evaluate(model, batch_size=batch_size)
    assert max(len(x) for x in model.asked) == min(batch_size, 3600)
    assert torch.cat(model.asked).unique(dim=0).shape == (3600, 2)
    other, same, _ = evaluate()
    assert figure.value == pytest.approx(other.value, rel=1e-6)
    assert torch.equal(picture.image, same.image)


# ---- the picture of densities ------------------------------------------------------------------------------------


def test_densities_are_seen_where_they_are_with_the_targets_shades():
    target = normal([-0.5, 0.4], [0.5, 0.3])
    _, picture, _ = evaluate(target=Target(target, 2.0))
    left, right = halves(picture)
    top = target.log_prob(torch.tensor([-0.5, 0.4])).exp()
    for point in [(-0.5, 0.4), (-0.1, 0.4), (-0.5, 0.7), (-0.8, 0.2), (0.5, -0.3), (0.9, 0.5)]:
        share = (target.log_prob(torch.tensor(point)).exp() / top).item()
        assert colour_at(left, point, [(-1.2, 1.2)] * 2) == shade(share)
        share = (MODEL.log_prob(torch.tensor(point)).exp() / top).item()
        assert colour_at(right, point, [(-1.2, 1.2)] * 2) == shade(share)


def test_a_perfect_model_looks_like_the_target():
    _, picture, _ = evaluate(target=Target(MODEL, -3.0))
    left, right = halves(picture)
    (start, stop, top, bottom), (first, _, _, _) = frame(left), frame(right)
    width = stop - start
    one = left[:, top : bottom + 1, start : start + width + 1]
    other = right[:, top : bottom + 1, first : first + width + 1]
    assert torch.allclose(one[:, 5:-5, 5:-5], other[:, 5:-5, 5:-5], atol=0.1)  # their pixels may lie half apart
    assert (one - other).abs().mean() < 0.01
    assert blue(one).any()


def test_a_model_that_exceeds_the_target_is_darkest():
    sharp = Known(normal([0.0, 0.0], [0.1, 0.1]))
    _, picture, _ = evaluate(sharp, target=Target(normal([0.0, 0.0], [0.6, 0.6]), 0.0))
    _, right = halves(picture)
    assert colour_at(right, (0.0, 0.0), [(-1.2, 1.2)] * 2) == shade(1.0)
    assert colour_at(right, (0.12, 0.0), [(-1.2, 1.2)] * 2) == shade(1.0)  # 7.75 against 0.44
    assert colour_at(right, (0.5, 0.0), [(-1.2, 1.2)] * 2) == shade(0.0)


@pytest.mark.parametrize("unknown", [None, Target(MODEL, None)])
def test_without_a_known_density_the_target_is_a_histogram_of_the_data(unknown):
    cells = torch.tensor([[-0.6, 0.6], [0.6, 0.6], [0.6, -0.6]])  # 2 x 2 bins for 40 examples
    data = cells.repeat_interleave(torch.tensor([8, 16, 16]), dim=0)
    flat = Known(normal([0.0, 0.0], [100.0, 100.0]))
    _, picture, _ = evaluate(flat, unknown, data, extent=1.2)
    left, right = halves(picture)
    for point, share in {(-0.6, 0.6): 0.5, (0.6, 0.6): 1.0, (0.2, -0.9): 1.0, (-0.6, -0.6): 0.0}.items():
        assert colour_at(left, point, [(-1.2, 1.2)] * 2) == shade(share)
    top = 16 / 40 / 1.2**2
    assert colour_at(right, (0.6, 0.6), [(-1.2, 1.2)] * 2) == shade(1 / (2 * math.pi * 100**2) / top)


def test_histogram_and_contours_have_the_same_shades():
    half = torch.full((2,), 1.2 * 2**0.5)  # of a side of a square of twice the size: half the density
    model = Known(Independent(torch.distributions.Uniform(-half, half), 1))
    _, picture, _ = evaluate(model, None, CORNERS.repeat(10, 1))
    left, right = (colour_at(panel, (0.3, 0.3), [(-1.2, 1.2)] * 2) for panel in halves(picture))
    assert left == shade(1.0)
    assert right == shade(0.5)


def test_a_square_without_data_is_no_failure():
    figure, picture, _ = evaluate(data=CORNERS + 9, extent=1.0)
    assert 0 < figure.value < 1
    assert not blue(halves(picture)[0]).any()


def test_a_model_without_any_density_there_is_no_failure():
    figure, picture, _ = evaluate(Known(normal([50.0, 50.0], [0.1, 0.1])))
    assert figure.value == 0
    assert not blue(halves(picture)[1]).any()


# ---- titles and samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tightness", "target", "left", "right"),
    [
        ("exact", Target(MODEL, 1.0), "target, 80.5% of its mass shown", "model, 80.5% of its mass shown"),
        ("lower bound", None, "data, a histogram of 4", "model (lower bound), 80.5% of its mass shown"),
        ("estimate", None, "data, a histogram of 4", "model (estimate), 80.5% of its mass shown"),
    ],
)
def test_titles_say_what_is_shown(tightness, target, left, right, monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, label, *args, **options: titles.append(label))
    figure, _, _ = evaluate(Known(tightness=tightness), target, point=(5.0, 5.0), num_samples=30)
    assert f"{figure.value:.1%}" == "80.5%"
    assert titles == [left, right, "data, 4", "samples, 30, 100.0% outside"]
    assert tightness in figure.tag


def test_data_outside_of_what_is_shown_are_said(monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, label, *args, **options: titles.append(label))
    evaluate(data=torch.cat([CORNERS, torch.zeros(12, 2)]), extent=0.5)
    assert titles[2:] == ["data, 16, 25.0% outside", "samples, 2,000, 0.0% outside"]


def test_samples_stand_beside_data():
    _, _, picture = evaluate(point=(0.7, -0.2))
    left, right = halves(picture)
    assert [colour_at(half, (0.7, -0.2), [(-1.2, 1.2)] * 2)[0] < 0.5 for half in (left, right)] == [False, True]
    assert [colour_at(half, (-1.0, 1.0), [(-1.2, 1.2)] * 2)[0] < 0.9 for half in (left, right)] == [True, False]


def test_histograms_take_ten_times_as_many_as_samples():
    data = torch.cat([torch.full((5, 2), -0.5), torch.full((45, 2), 0.5), torch.zeros(50, 2)])
    _, density, samples = evaluate(data=data, num_samples=5, extent=1.2)
    assert colour_at(halves(density)[0], (0.5, 0.5), [(-1.2, 1.2)] * 2) == shade(1.0)  # 45 of the first 50
    assert colour_at(halves(density)[0], (-0.5, 0.5), [(-1.2, 1.2)] * 2) == shade(0.0)
    assert colour_at(halves(samples)[0], (0.5, 0.5), [(-1.2, 1.2)] * 2) == [1.0, 1.0, 1.0]  # none of the first 5
    assert colour_at(halves(samples)[0], (-0.5, -0.5), [(-1.2, 1.2)] * 2)[0] < 0.5


@pytest.mark.parametrize("size", [480, 255])
def test_pictures_have_the_right_size_and_range(size):
    for picture in evaluate(size=size)[1:]:
        assert picture.image.shape == (3, size, 2 * size)
        assert 0 <= picture.image.min() < 0.2
        assert picture.image.max() == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (genkit.DataSpec((3,)), r"shape \(3,\), continuous"),
        (genkit.DataSpec((1, 1, 2)), r"shape \(1, 1, 2\), continuous"),
        (genkit.DataSpec((2,), levels=256), r"shape \(2,\), 256 levels"),
    ],
)
def test_other_data_than_the_continuous_plane_are_refused(spec, said):
    with pytest.raises(genkit.RecipeError, match=rf"takes continuous data of shape \(2,\), but the data has {said}"):
        evaluate(Known(spec=spec))


def test_a_grid_of_one_point_is_refused():
    with pytest.raises(genkit.RecipeError, match="grid"):
        evaluate(grid=1)
