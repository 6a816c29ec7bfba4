"""The four energies: their formulas, their walls, what is drawn from them."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

import genkit
from genkit_toy.potentials import POTENTIALS

WIDTHS = {"u2": 0.4, "u3": 0.7, "u4": 0.75}  # what an integral over z2 gives at any z1, in roots of 2 pi


def energy(potential, **options):
    return genkit.build("dataset", {"use": "energy", "potential": potential, **options})


def published(name, z1, z2):
    """Table 1 of Rezende and Mohamed, in numpy."""
    w1 = np.sin(2 * np.pi * z1 / 4)
    w2 = 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2)
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    if name == "u1":
        bumps = np.exp(-0.5 * ((z1 - 2) / 0.6) ** 2) + np.exp(-0.5 * ((z1 + 2) / 0.6) ** 2)
        return 0.5 * ((np.sqrt(z1**2 + z2**2) - 2) / 0.4) ** 2 - np.log(bumps)
    if name == "u2":
        return 0.5 * ((z2 - w1) / 0.4) ** 2
    if name == "u3":
        return -np.log(np.exp(-0.5 * ((z2 - w1) / 0.35) ** 2) + np.exp(-0.5 * ((z2 - w1 + w2) / 0.35) ** 2))
    return -np.log(np.exp(-0.5 * ((z2 - w1) / 0.4) ** 2) + np.exp(-0.5 * ((z2 - w1 + w3) / 0.35) ** 2))


@pytest.mark.parametrize("name", POTENTIALS)
def test_energies_are_the_published_ones(name):
    z = np.random.default_rng(0).uniform([-4, -4], [4, 4], (500, 2))
    expected = published(name, *z.T)
    assert np.allclose(energy(name).energy(torch.from_numpy(z)).numpy(), expected, rtol=1e-10)
    single = energy(name).energy(torch.from_numpy(z).float()).numpy()
    assert np.allclose(single, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WIDTHS)
def test_walls_are_parabolas_beyond_the_bound(name):
    z = np.array([[2.9, 0.5], [3.0, 0.5], [3.1, 0.5], [-3.4, -0.5], [-5.0, -0.5]])
    walls = [0, 0, 0.5 * 0.5**2, 0.5 * 2.0**2, 0.5 * 10.0**2]
    found = energy(name, bound=3.0, wall=0.2).energy(torch.from_numpy(z)).numpy()
    assert np.allclose(found - published(name, *z.T), walls, atol=1e-9)


def test_the_first_needs_no_wall():
    z = torch.tensor([[9.0, 0.0]])
    assert torch.equal(energy("u1", bound=1.0, wall=0.01).energy(z), energy("u1").energy(z))
    assert torch.equal(energy("u1", bound=1.0).box, energy("u1").box)


@pytest.mark.parametrize(("name", "expected"), [("u1", 1.8775), ("u2", 2.0821), ("u3", 2.6417), ("u4", 2.7107)])
def test_log_partition_is_the_published_one(name, expected):
    assert energy(name, wall=1e-5).log_partition == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize(("bound", "wall"), [(4.0, 0.1), (1.0, 2.0), (20.0, 1e-4)])
def test_log_partition_with_walls_has_a_closed_form(name, bound, wall):
    root = math.sqrt(2 * math.pi)
    expected = math.log(root * WIDTHS[name] * (2 * bound + wall * root))
    assert energy(name, bound=bound, wall=wall).log_partition == pytest.approx(expected, abs=1e-9)


def test_entropy_of_the_wave_has_a_closed_form():
    """At each z1 a normal; along z1 an even spread with normal tails, of mean energy 1/2 in the tails."""
    tails = 0.3 * math.sqrt(2 * math.pi)
    mass = 4.0 + tails
    expected = math.log(mass) + tails / mass / 2 + 0.5 * math.log(2 * math.pi * math.e * 0.4**2)
    assert energy("u2", bound=2.0, wall=0.3).entropy == pytest.approx(expected, abs=1e-9)


def test_entropy_of_the_ring_is_that_of_another_integrator():
    data = energy("u1")

    def density(z2, z1):
        return math.exp(-published("u1", z1, z2) - data.log_partition)

    def entropy(z2, z1):
        return -density(z2, z1) * math.log(density(z2, z1))

    # over a quarter, all four being alike
    mass, found = (4 * scipy.integrate.dblquad(f, 0, 5, 0, 5, epsabs=1e-6)[0] for f in (density, entropy))
    assert mass == pytest.approx(1, abs=1e-5)
    assert data.entropy == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("name", POTENTIALS)
def test_rejection_never_clips_and_its_box_holds_everything(name):
    data = energy(name, wall=0.3)
    low, high = data.box
    margin = torch.tensor([1.0, 1.0], dtype=torch.float64)
    axes = [torch.linspace(a, b, 700, dtype=torch.float64) for a, b in zip(low - margin, high + margin, strict=True)]
    z = torch.cartesian_prod(*axes)
    heights = (-data.energy(z)).exp()
    top = POTENTIALS[name].top
    assert 0.9 * top < heights.max() <= top
    outside = ((z < low) | (z > high)).any(1)
    assert outside.any()
    assert heights[outside].sum() < 1e-12 * heights.sum()


@pytest.mark.parametrize("name", POTENTIALS)
def test_more_examples_begin_with_the_fewer(name):
    few, many = (energy(name, train=count).split("train") for count in (10, 30_000))
    assert torch.equal(few.source, many.source[:10])
    assert len(many) == 30_000
    assert many.labels is None


def test_the_wall_holds_examples_back():
    """The share behind the walls is that of the normals' halves there."""
    x = energy("u4", bound=2.0, wall=0.5, train=40_000).split("train").source
    tails = 0.5 * math.sqrt(2 * math.pi)
    share = tails / (4 + tails)
    found = (x[:, 0].abs() > 2).float().mean().item()
    assert found == pytest.approx(share, abs=5 * (share * (1 - share) / 40_000) ** 0.5)
