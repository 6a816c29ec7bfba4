"""Mixtures: their modes lie where they should, and their examples are what they say."""

import math

import pytest
import scipy.integrate
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import genkit
from genkit.engine.feed import Feed


def mixture(**options):
    return genkit.build("dataset", {"use": "mixture", **options})


def pairs(points):
    return {(round(x, 4) + 0.0, round(y, 4) + 0.0) for x, y in points.tolist()}


def test_ring_has_eight_distinct_modes():
    half = round(math.sqrt(0.5), 4)
    expected = {(1, 0), (half, half), (0, 1), (-half, half), (-1, 0), (-half, -half), (0, -1), (half, -half)}
    assert pairs(mixture().centres) == expected
    assert len(mixture().centres) == 8
    assert mixture().std == 0.01


def test_grid_is_the_published_one():
    data = mixture(layout="grid")
    assert pairs(data.centres) == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert len(data.centres) == 25
    assert data.std == 0.05


def test_modes_and_scale_change_ring_and_grid():
    ring = mixture(modes=5, scale=3.0).centres
    assert ring.norm(dim=1).tolist() == pytest.approx([3.0] * 5)
    neighbours = (ring - ring.roll(1, 0)).norm(dim=1)
    assert neighbours.tolist() == pytest.approx([6 * math.sin(math.pi / 5)] * 5, rel=1e-5)
    assert pairs(mixture(layout="grid", modes=2, scale=3.0).centres) == {
        (x, y) for x in (-1.5, 1.5) for y in (-1.5, 1.5)
    }
    assert mixture(modes=1).centres.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("options", [{}, {"layout": "grid"}, {"std": 0.1}])
def test_every_mode_has_its_mean_and_spread(options):
    data = mixture(**options, train=40_000)
    split = data.split("train")
    modes = len(data.centres)
    counts = torch.bincount(split.labels, minlength=modes)
    expected = 40_000 / modes
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    for mode, centre in enumerate(data.centres):
        own = split.source[split.labels == mode]
        error = 5 * data.std / len(own) ** 0.5
        assert ((own.mean(0) - centre).abs() < error).all()
        assert ((own.std(0) - data.std).abs() < error / math.sqrt(2)).all()
        correlation = torch.corrcoef(own.T)[0, 1].item()
        assert abs(correlation) < 5 / len(own) ** 0.5


@pytest.mark.parametrize("layout", ["ring", "grid"])
def test_labels_are_the_nearest_centre(layout):
    data = mixture(layout=layout, train=2000)
    split = data.split("train")
    distances = (split.source[:, None] - data.centres[None]).square().sum(2)
    assert torch.equal(distances.argmin(1), split.labels)
    assert split.labels.dtype == torch.int64


def test_splits_differ_and_are_the_same_twice():
    sizes = {"train": 100, "validation": 100, "test": 100}
    data, again, other = mixture(**sizes), mixture(**sizes), mixture(**sizes, data_seed=1)
    seen = []
    for name, size in sizes.items():
        split = data.split(name)
        assert len(split) == size
        torch.rand(3)  # the global generator does not matter
        assert torch.equal(split.source, again.split(name).source)
        assert torch.equal(split.labels, again.split(name).labels)
        seen += [split.source[:100], other.split(name).source[:100]]
    for i, one in enumerate(seen):
        assert not any(torch.equal(one, another) for another in seen[i + 1 :])


def test_drawing_leaves_the_global_generator():
    before = torch.get_rng_state()
    mixture(train=10).split("train")
    assert torch.equal(torch.get_rng_state(), before)


def test_empty_splits_are_none():
    assert mixture(validation=0).split("validation") is None
    assert mixture(test=0).split("test") is None


def test_custom_centres_of_any_dimension():
    centres = [[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [5.0, 5.0, 5.0], [9.0, 9.0, 9.0]]
    data = mixture(layout="centres", centres=centres, train=4000)
    assert data.centres.tolist() == centres
    assert data.std == 0.05
    assert data.spec == genkit.DataSpec((3,), num_classes=4, protocol="mixture of 4 normals, std 0.05")
    batch = next(Feed(data.split("train"), torch.device("cpu")).batches(4000))
    assert batch.x.shape == (4000, 3)
    for mode, centre in enumerate(centres):
        assert torch.allclose(batch.x[batch.labels == mode].mean(0), torch.tensor(centre), atol=0.01)


def test_spec_is_a_labelled_continuous_vector():
    spec = mixture().spec
    assert (spec.shape, spec.levels, spec.num_classes) == ((2,), None, 8)
    assert spec.protocol == "mixture of 8 normals, std 0.01"
    assert isinstance(mixture(), genkit.HasModes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "centres"}, "centres are to be given for layout: centres"),
        ({"centres": [[0.0, 1.0]]}, "centres are to be given for layout: centres, and for no other"),
        ({"layout": "grid", "centres": [[0.0, 1.0]]}, "centres are to be given for layout: centres, and for no other"),
        ({"layout": "centres", "centres": [[0.0, 1.0]], "modes": 3}, "modes and scale belong to a ring or a grid"),
        ({"layout": "centres", "centres": [[0.0, 1.0]], "scale": 3.0}, "modes and scale belong to a ring or a grid"),
        ({"layout": "centres", "centres": [[0.0, 1.0], [0.0]]}, "all centres must have the same number of dimensions"),
        ({"layout": "centres", "centres": []}, "centres"),
        ({"layout": "centres", "centres": [[]]}, "centres"),
        ({"std": 0.0}, "std"),
        ({"layout": "spiral"}, "layout"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(genkit.RecipeError, match=message):
        mixture(**options)


@pytest.mark.parametrize(("layout", "entropy"), [("ring", -4.2930), ("grid", 0.0653)])
def test_differential_entropy_is_that_of_modes_far_apart(layout, entropy):
    data = mixture(layout=layout, train=50_000)
    modes = len(data.centres)
    normals = Independent(Normal(data.centres, data.std), 1)
    density = MixtureSameFamily(Categorical(torch.ones(modes)), normals)
    assert math.log(modes) + math.log(2 * math.pi * math.e * data.std**2) == pytest.approx(entropy, abs=1e-4)
    assert -density.log_prob(data.split("train").source).mean().item() == pytest.approx(entropy, abs=0.02)


def test_radii_around_the_centres_are_rayleighs():
    data = mixture(train=40_000)
    split = data.split("train")
    radii = (split.source - data.centres[split.labels]).norm(dim=1) / data.std
    for reach in (1.0, 2.0, 3.0):
        share, _ = scipy.integrate.quad(lambda r: r * math.exp(-r * r / 2), 0, reach)
        found = (radii <= reach).float().mean().item()
        assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 40_000) ** 0.5)


@pytest.mark.parametrize(
    ("options", "entropy"),
    [
        ({}, -4.2930),
        ({"layout": "grid"}, 0.0653),
        ({"scale": 2.82885, "std": 0.353607}, 2.8319),
        ({"layout": "centres", "centres": [[1.0, 1.0], [-1.0, -1.0]], "std": 0.3}, 2 * math.log(2) * 0.8101),
        ({"layout": "centres", "centres": [[3.0, 4.0]], "std": 2.0}, math.log(2 * math.pi * math.e * 4)),
        ({"layout": "centres", "centres": [[-50.0], [50.0]], "std": 2.0}, math.log(2 * (8 * math.pi * math.e) ** 0.5)),
    ],
)
def test_entropy_is_the_published_one(options, entropy):
    data = mixture(**options, train=40_000)
    assert data.entropy == pytest.approx(entropy, abs=2e-4)
    energies = data.energy(data.split("train").source).double()
    assert energies.mean().item() == pytest.approx(data.entropy, abs=4 * energies.std().item() / 40_000**0.5)
    assert data.log_partition == 0


def test_entropy_on_a_line_is_that_of_another_integrator():
    data = mixture(layout="centres", centres=[[0.0], [1.5], [7.0]], std=0.8)

    def density(x):
        return sum(math.exp(-((x - c) ** 2) / (2 * 0.8**2)) for c in (0, 1.5, 7)) / (3 * math.sqrt(2 * math.pi) * 0.8)

    found, _ = scipy.integrate.quad(lambda x: -density(x) * math.log(density(x)), -7, 14, limit=200)
    assert data.entropy == pytest.approx(found, abs=1e-6)


def test_entropy_in_space_is_not_known_but_the_energy_is():
    centres = [[0.0, 0.0, 1.0], [2.0, 0.0, 1.0]]
    data = mixture(layout="centres", centres=centres, std=0.7)
    assert data.entropy is None
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    normals = Independent(Normal(torch.tensor(centres).double(), 0.7), 1)
    expected = -MixtureSameFamily(Categorical(torch.ones(2)), normals).log_prob(x)
    assert torch.allclose(data.energy(x), expected)
    assert torch.autograd.gradcheck(data.energy, x)


def test_energy_is_exact_far_from_all_modes():
    """Where every mode's density is 0 in single precision."""
    ring = mixture()
    x = torch.tensor([[5.0, 0.0], [0.0, 0.0]], requires_grad=True)
    energy = ring.energy(x)
    constant = math.log(8) + math.log(2 * math.pi * 0.01**2)
    assert energy.tolist() == pytest.approx([16 / 2e-4 + constant, 1 / 2e-4 - math.log(8) + constant], rel=1e-5)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    assert gradient[0].tolist() == pytest.approx([4 / 1e-4, 0], rel=1e-4, abs=1)


def test_examples_are_those_of_earlier_versions():
    """Figures of recipes hold for these very points."""
    split = mixture(std=0.5, train=3).split("train")
    assert split.labels.tolist() == [4, 7, 5]
    assert split.source.flatten().tolist() == pytest.approx(
        [-0.817831, 0.067198, 0.789215, -0.554226, -0.602116, -0.254294], abs=1e-6
    )
