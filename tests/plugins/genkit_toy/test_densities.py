"""Toy densities: samplers and densities belong together, entropies are the published ones, labels tell the truth."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.spatial
import scipy.special
import torch

import genkit
from genkit_toy import checkerboard, pinwheel


def data(use, **options):
    return genkit.build("dataset", {"use": use, **options})


def drawn(use, count, **options):
    split = data(use, train=count, **options).split("train")
    return split.source, split.labels


def cells(half, side):
    """The midpoints of a square's cells, in double precision, and the area of one."""
    edge = 2 * half / side
    ticks = -half + edge * (torch.arange(side, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(ticks, ticks), edge**2


def energies(dataset, x):
    return torch.cat([dataset.energy(part) for part in x.split(10_000)])


# Every dataset with an energy, and half the side of a square that holds all of it but about 1e-6
KNOWN = [
    pytest.param("mixture", {"std": 0.15}, 2.0, id="mixture"),
    pytest.param("moons", {}, 5.0, id="moons"),
    pytest.param("moons", {"std": 0.4, "scale": 1.0}, 5.0, id="blurred moons"),
    pytest.param("checkerboard", {}, 5.0, id="checkerboard"),
    pytest.param("rings", {}, 4.0, id="rings"),
    pytest.param("rings", {"radii": [1.0, 0.2], "std": 0.6}, 5.0, id="blurred rings"),
    pytest.param("circles", {}, 5.0, id="circles"),
    pytest.param("energy", {"potential": "u1"}, 5.0, id="u1"),
    pytest.param("energy", {"potential": "u2"}, 5.0, id="u2"),
    pytest.param("energy", {"potential": "u3"}, 6.0, id="u3"),
    pytest.param("energy", {"potential": "u4", "bound": 3.0, "wall": 0.5}, 6.0, id="u4"),
]
ALL = ["checkerboard", "circles", "energy", "mixture", "moons", "pinwheel", "rings"]


# ---- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "options", "entropy"),
    [
        ("moons", {}, 2.3939),
        ("moons", {"scale": 1.0}, 1.0076),
        ("moons", {"scale": 1.0, "std": 0.05}, 0.2893),
        ("checkerboard", {}, 3.4657),
        ("rings", {}, 2.6232),
        ("circles", {}, 3.2681),
    ],
)
def test_entropy_is_the_published_one(use, options, entropy):
    assert data(use, **options).entropy == pytest.approx(entropy, abs=5e-4)


@pytest.mark.parametrize(("use", "options", "half"), KNOWN)
def test_density_integrates_to_one_and_gives_the_entropy(use, options, half):
    """By the midpoint rule, which shares nothing with the dataset's own quadrature."""
    dataset = data(use, **options)
    points, area = cells(half, 400)
    log_p = -energies(dataset, points) - dataset.log_partition
    assert log_p.exp().sum().item() * area == pytest.approx(1, abs=1e-3)
    assert torch.special.entr(log_p.exp()).sum().item() * area == pytest.approx(dataset.entropy, abs=2e-3)


@pytest.mark.parametrize(("use", "options", "half"), KNOWN)
def test_mean_energy_of_examples_is_the_entropy(use, options, half):
    dataset = data(use, **options)
    x, _ = drawn(use, 50_000, **options)
    nats = energies(dataset, x).double() + dataset.log_partition
    error = nats.std().item() / len(x) ** 0.5
    assert nats.mean().item() == pytest.approx(dataset.entropy, abs=4 * error + 1e-6)


@pytest.mark.parametrize(("use", "options", "half"), KNOWN)
def test_examples_fall_where_the_density_says(use, options, half):
    """A chi-squared test over 20 x 20 squares, which sees what a mean energy does not: a shift, a turn, a mirror."""
    dataset = data(use, **options)
    points, area = cells(half, 400)
    mass = (-energies(dataset, points) - dataset.log_partition).exp() * area
    expected = 40_000 * mass.view(20, 20, 20, 20).sum((1, 3))
    x, _ = drawn(use, 40_000, **options)
    counts, _ = torch.histogramdd(x.double(), [20, 20], range=[-half, half, -half, half])
    enough = expected > 5
    assert enough.sum() > 20
    chi = ((counts - expected).square() / expected)[enough].sum().item()
    degrees = enough.sum().item()
    assert chi < degrees + 5 * math.sqrt(2 * degrees)
    assert counts[~enough].sum() <= 2 * expected[~enough].sum() + 5


@pytest.mark.parametrize(("use", "options", "half"), KNOWN)
def test_gradients_of_energies_are_right_and_finite(use, options, half):
    dataset = data(use, **options)
    x = drawn(use, 20, **options)[0].double().requires_grad_()
    assert torch.autograd.gradcheck(dataset.energy, x)
    away = torch.tensor([[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [30.0, -40.0], [3e3, 4e3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(dataset.energy(away).sum(), away)
    assert gradient.isfinite().all()
    if use != "checkerboard":
        assert (gradient[-1] * away[-1]).sum() > 0  # far away, everything is downhill towards the middle


@pytest.mark.parametrize(("use", "options", "half"), KNOWN)
def test_energies_keep_precision_shape_and_device(use, options, half):
    dataset = data(use, **options)
    x, _ = drawn(use, 7, **options)
    single, double = dataset.energy(x), dataset.energy(x.double())
    assert (single.shape, single.dtype, double.dtype) == ((7,), torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, rtol=1e-4, atol=1e-4)
    assert dataset.energy(x.to("meta")).device.type == "meta"  # refused where a constant stays behind on the CPU


@pytest.mark.parametrize("use", ALL)
def test_splits_differ_and_are_the_same_twice(use):
    sizes = {"train": 60, "validation": 50, "test": 40}
    dataset, again, other = data(use, **sizes), data(use, **sizes), data(use, **sizes, data_seed=1)
    before, seen = torch.get_rng_state(), []
    for name, size in sizes.items():
        split, same = dataset.split(name), again.split(name)
        assert split.source.shape == (size, 2)
        assert split.source.dtype == torch.float32
        assert torch.equal(split.source, same.source)
        assert split.labels is same.labels is None or torch.equal(split.labels, same.labels)
        seen += [split.source[:40], other.split(name).source[:40]]
    assert torch.equal(torch.get_rng_state(), before)
    for i, one in enumerate(seen):
        assert not any(torch.equal(one, another) for another in seen[i + 1 :])
    assert data(use, test=0).split("validation") is None
    assert data(use, test=0).split("test") is None


@pytest.mark.parametrize(
    ("use", "options", "classes", "protocol"),
    [
        ("moons", {}, 2, "moons, std 0.1, scale 2"),
        ("checkerboard", {}, 8, "checkerboard, 8 squares of side 2"),
        ("rings", {}, 4, "rings of radii 0.75, 1.5, 2.25, 3, std 0.08"),
        ("circles", {"std": 0.5}, 2, "circles of radii 1.5, 3, std 0.5"),
        ("pinwheel", {"arms": 3}, 3, "pinwheel of 3 arms, stds 0.3 and 0.1, rate 0.25"),
        ("energy", {"potential": "u1", "bound": 3.0}, None, "energy u1"),
        ("energy", {"potential": "u3", "bound": 3.0}, None, "energy u3, walls at 3 with std 0.1"),
    ],
)
def test_spec_names_the_density(use, options, classes, protocol):
    assert data(use, **options).spec == genkit.DataSpec((2,), num_classes=classes, protocol=protocol)


def test_labels_are_equally_likely():
    for use in ("checkerboard", "circles", "moons", "pinwheel", "rings"):
        counts = torch.bincount(drawn(use, 40_000)[1], minlength=data(use).spec.num_classes)
        expected = 40_000 / len(counts)
        assert ((counts - expected).abs() < 5 * expected**0.5).all(), use


@pytest.mark.parametrize(
    ("use", "options", "message"),
    [
        ("moons", {"std": 0.0}, "std"),
        ("moons", {"scale": -1.0}, "scale"),
        ("rings", {"radii": []}, "radii"),
        ("circles", {"radii": [1.0, 0.0]}, "radii"),
        ("pinwheel", {"arms": 0}, "arms"),
        ("energy", {"potential": "u5"}, "potential"),
        ("energy", {"wall": 0.0}, "wall"),
        ("checkerboard", {"std": 0.1}, "std"),
    ],
)
def test_what_makes_no_sense_is_refused(use, options, message):
    with pytest.raises(genkit.RecipeError, match=message):
        data(use, **options)


# ---- moons -------------------------------------------------------------------------------------------------------


def make_moons(count):
    """scikit-learn's construction without noise: both moons, each with evenly spaced points."""
    t = np.linspace(0, np.pi, count)
    return np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 1 - np.sin(t) - 0.5], 1)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_moons_are_those_of_scikit_learn(scale):
    x, labels = drawn("moons", 20_000, std=1e-7, scale=scale)
    for moon, curve in enumerate(make_moons(20_001)):
        own = x[labels == moon].double().numpy()
        distances, places = scipy.spatial.cKDTree(curve * scale + [-1, -0.2]).query(own)
        assert distances.max() < scale * math.pi / 20_000
        share = np.arange(1, len(own) + 1) / len(own)  # Kolmogorov-Smirnov against an even spread of angles
        assert np.abs(np.sort(places) / 20_000 - share).max() < 2 / len(own) ** 0.5


def test_moons_density_is_the_integral_over_both():
    std, scale = 0.07, 1.5
    points = torch.tensor([[-1.2, 0.4], [0.2, -0.3], [1.3, 0.1], [0.5, 1.4], [2.5, 2.5]], dtype=torch.float64)
    found = (-data("moons", std=std, scale=scale).energy(points)).exp()
    for point, density in zip(points.numpy(), found.tolist(), strict=True):

        def integrand(t, point=point):
            outer, inner = (math.cos(t), math.sin(t)), (1 - math.cos(t), 0.5 - math.sin(t))
            places = scale * np.array([outer, inner]) + [-1, -0.2]
            squares = ((point - places) ** 2).sum(1) / (scale * std) ** 2
            return np.exp(-squares / 2).mean() / (2 * math.pi * (scale * std) ** 2) / math.pi

        nodes = np.linspace(0, math.pi, 41)[1:-1]
        expected, _ = scipy.integrate.quad(integrand, 0, math.pi, points=nodes, limit=500, epsabs=0, epsrel=1e-9)
        assert density == pytest.approx(expected, rel=1e-6)


# ---- checkerboard ------------------------------------------------------------------------------------------------


def ffjord_checkerboard(count, generator):
    x1 = generator.random(count) * 4 - 2
    x2 = generator.random(count) - generator.integers(0, 2, count) * 2 + np.floor(x1) % 2
    return torch.from_numpy(np.stack([x1, x2], 1) * 2)


def test_checkerboard_has_the_published_squares():
    board = data("checkerboard")
    published = ffjord_checkerboard(20_000, np.random.default_rng(0))
    assert board.energy(published).tolist() == pytest.approx([math.log(32)] * 20_000)
    x, _ = drawn("checkerboard", 20_000)
    assert board.energy(x).tolist() == pytest.approx([math.log(32)] * 20_000)
    assert {tuple(c) for c in (x / 2).floor().tolist()} == {tuple(c) for c in (published / 2).floor().tolist()}
    empty = torch.cat([published + torch.tensor([2.0, 0.0]), published + torch.tensor([8.0, 0.0]), -published * 3])
    outside = (empty.abs() > 4).any(1) | ((empty / 2).floor().sum(1) % 2 == 1)
    assert board.energy(empty[outside]).isposinf().all()
    assert outside[:40_000].all()


def test_checkerboard_labels_are_squares_by_column_and_row():
    x, labels = drawn("checkerboard", 5000)
    corners = [tuple((x[labels == k] / 2).floor().unique(dim=0).flatten().tolist()) for k in range(8)]
    assert corners == sorted(corners)
    assert len(set(corners)) == 8
    assert all(len(corner) == 2 for corner in corners)


def test_no_example_is_rounded_out_of_its_square(monkeypatch):
    largest = 1 - 2.0**-24
    monkeypatch.setattr(checkerboard.torch, "rand", lambda *shape, generator: torch.full(shape, largest))
    x, _ = drawn("checkerboard", 200)
    assert data("checkerboard").energy(x).isfinite().all()


# ---- rings and circles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "radii", "std"), [("rings", [0.75, 1.5, 2.25, 3.0], 0.08), ("circles", [1.5, 3], 0.24)]
)
def test_every_ring_has_its_radius_and_noise(use, radii, std):
    x, labels = drawn(use, 40_000)
    assert labels.max() == len(radii) - 1
    for label, radius in enumerate(radii):
        own = x[labels == label].double()
        error = 5 / len(own) ** 0.5
        # exact moments of |x|^2, a noncentral chi-squared variable
        square, variance = radius**2 + 2 * std**2, 4 * std**2 * radius**2 + 4 * std**4
        assert own.square().sum(1).mean().item() == pytest.approx(square, abs=error * variance**0.5)
        assert own.square().sum(1).std().item() == pytest.approx(variance**0.5, rel=error)
        for turns in (1, 2, 3):  # angles are evenly spread
            angle = turns * torch.atan2(own[:, 1], own[:, 0])
            assert abs(angle.cos().mean().item()) < error
            assert abs(angle.sin().mean().item()) < error


def test_rings_density_is_the_integral_over_angles():
    radii, std = [0.5, 2.0], 0.3
    points = torch.tensor([[0.0, 0.0], [0.4, 0.3], [-1.2, 0.5], [1.0, -2.0], [3.0, 3.0]], dtype=torch.float64)
    found = data("rings", radii=radii, std=std).energy(points).tolist()
    angles = 2 * np.pi * np.arange(4000) / 4000  # for a periodic function, the exact rule
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    for point, energy in zip(points.numpy(), found, strict=True):
        normals = [np.exp(-((point - r * circle) ** 2).sum(1) / (2 * std**2)) for r in radii]
        assert energy == pytest.approx(-math.log(np.mean(normals) / (2 * math.pi * std**2)), rel=1e-9)


# ---- pinwheel ----------------------------------------------------------------------------------------------------


def test_pinwheel_bends_as_published():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((50, 2)) * [0.3, 0.1] + [1, 0]
    arms = generator.integers(0, 5, 50)
    angles = 2 * math.pi * arms / 5 + 0.25 * np.exp(features[:, 0])
    rotations = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], 1).reshape(-1, 2, 2)
    expected = 2 * np.einsum("ti,tij->tj", features, rotations)
    found = pinwheel.bend(torch.from_numpy(features), torch.from_numpy(2 * math.pi * arms / 5), 0.25)
    assert np.allclose(found.numpy(), expected, atol=1e-12)


def test_straight_arms_have_their_stds_and_directions():
    x, labels = drawn("pinwheel", 40_000, rate=0.0, arms=4)
    for arm in range(4):
        angle = math.pi / 2 * arm
        along = torch.tensor([math.cos(angle), -math.sin(angle)])
        across = torch.tensor([math.sin(angle), math.cos(angle)])
        own = x[labels == arm]
        for direction, mean, std in ((along, 2.0, 0.6), (across, 0.0, 0.2)):
            values, error = own @ direction, 5 * std / len(own) ** 0.5
            assert values.mean().item() == pytest.approx(mean, abs=error)
            assert values.std().item() == pytest.approx(std, abs=error)


def test_pinwheel_volume_and_bound_are_what_the_docstring_says():
    features = (torch.randn(2000, 2, dtype=torch.float64) * torch.tensor([0.3, 0.1])) + torch.tensor([1.0, 0.0])
    jacobian = torch.func.vmap(torch.func.jacrev(lambda f: pinwheel.bend(f[None], torch.zeros(1), 0.25)[0]))(features)
    volume = 4 * (1 + 0.25 * features[:, 0].exp() * features[:, 1]).abs()
    assert torch.allclose(jacobian.det().abs(), volume)
    bound = math.log(5) + math.log(2 * math.pi * math.e * 0.3 * 0.1) + volume.log().mean().item()
    assert bound == pytest.approx(2.324, abs=0.005)


def test_pinwheel_entropy_is_just_below_its_bound():
    """By the distance to nearest neighbours (Kozachenko and Leonenko)."""
    x = drawn("pinwheel", 50_000)[0].double().numpy()
    distances = scipy.spatial.cKDTree(x).query(x, k=4)[0][:, 3]
    digammas = scipy.special.digamma(len(x)) - scipy.special.digamma(3)
    found = digammas + math.log(math.pi) + 2 * np.log(distances).mean()
    assert 2.29 < found < 2.324
    assert not isinstance(data("pinwheel"), genkit.HasEnergy)
