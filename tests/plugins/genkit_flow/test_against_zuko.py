"""The same transforms as zuko's and torch's, number by number."""

import math

import pytest
import torch
import zuko
from torch.distributions import Independent, Normal
from zuko.transforms import (
    AdditiveTransform,
    AutoregressiveTransform,
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    MonotonicAffineTransform,
    MonotonicRQSTransform,
    PermutationTransform,
)

import genkit
from genkit.testing import factory
from genkit_flow.bijections.spline import rational_quadratic, rational_quadratic_inverse

DIMS = 5
SLOPE = 1e-300  # zuko keeps slopes above this


def shaken(name, **options):
    bijection = factory("bijection", {"use": name, **options})((DIMS,), None).double()
    with torch.no_grad():
        for parameter in bijection.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return bijection


def assert_same(bijection, transform, x):
    with torch.no_grad():
        z, log_det = bijection(x)
        expected, expected_log_det = transform.call_and_ladj(x)
        assert torch.allclose(z, expected, atol=1e-10)
        assert torch.allclose(log_det, expected_log_det, atol=1e-10)
        back, log_det_back = bijection.inverse(expected)
        assert torch.allclose(back, transform.inv(expected), atol=1e-8)
        assert torch.allclose(log_det_back, -expected_log_det, atol=1e-8)


def test_splines_between_the_same_knots():
    widths, heights, slopes = torch.randn(200, 6), torch.randn(200, 6), torch.randn(200, 5)
    theirs = MonotonicRQSTransform(widths.double(), heights.double(), slopes.double(), bound=3.0)
    knots = theirs.horizontal, theirs.vertical, theirs.derivatives
    x = torch.rand(200, dtype=torch.float64) * 5.98 - 2.99
    y, log_slopes = rational_quadratic(x, *knots)
    expected, expected_log_slopes = theirs.call_and_ladj(x)
    assert torch.allclose(y, expected, atol=1e-10)
    assert torch.allclose(log_slopes, expected_log_slopes, atol=1e-9)
    back, log_slopes_back = rational_quadratic_inverse(y, *knots)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(log_slopes_back, -expected_log_slopes, atol=1e-8)


@pytest.mark.parametrize(("name", "bins"), [("linear", 7), ("none", 4)])
def test_a_spline_coupling_is_zukos_within_its_box(name, bins):
    """Our network's parameters, as knots, handed to zuko's spline and its coupling."""
    ours = shaken("spline_coupling", tails=name, bins=bins, bound=4.0)

    def meta(kept):
        knots = ours._knots(ours._theta(kept, None))
        shape = knots[0].shape[:-1]
        theirs = MonotonicRQSTransform(*(torch.zeros(*shape, size) for size in (bins, bins, bins - 1)))
        theirs.horizontal, theirs.vertical, theirs.derivatives = knots
        return DependentTransform(theirs, 1)

    mask = torch.arange(DIMS) % 2 == 0
    assert_same(ours, CouplingTransform(meta, mask), torch.rand(64, DIMS, dtype=torch.float64) * 7.9 - 3.95)


def affine(log_scale, shift):
    """Zuko's affine transform keeps slopes away from 0: it is given what its limit turns into our log-scale."""
    limit = -math.log(SLOPE)
    unlimited = log_scale / (1 - log_scale.abs() / limit)
    return DependentTransform(MonotonicAffineTransform(shift, unlimited, slope=SLOPE), 1)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_an_affine_coupling_is_zukos(flip, bounded):
    ours = shaken("affine_coupling", bounded=bounded, flip=flip)

    def meta(kept):
        log_scale, shift = ours._theta(kept, None).unbind(1)
        log_scale = ours.log_scale(log_scale)
        return affine(log_scale, shift * log_scale.exp())  # zuko scales first

    mask = torch.arange(DIMS) % 2 == (1 if flip else 0)
    assert_same(ours, CouplingTransform(meta, mask), 2 * torch.randn(64, DIMS, dtype=torch.float64))


def test_an_additive_coupling_is_zukos():
    ours = shaken("additive_coupling")
    mask = torch.arange(DIMS) % 2 == 0

    def meta(kept):
        return DependentTransform(AdditiveTransform(ours._theta(kept, None)[:, 0]), 1)

    assert_same(ours, CouplingTransform(meta, mask), torch.randn(64, DIMS, dtype=torch.float64))


def to_data(ours):
    return AutoregressiveTransform(lambda z: affine(*ours._theta(z, None)), passes=DIMS)


def to_latents(ours):
    """Zuko scales first."""

    def meta(x):
        log_scale, shift = ours._theta(x, None)
        return affine(-log_scale, -shift * (-log_scale).exp())

    return AutoregressiveTransform(meta, passes=DIMS)


@pytest.mark.parametrize("flip", [False, True])
def test_autoregressive_flows_are_zukos(flip):
    ours = shaken("masked_autoregressive", flip=flip)
    assert_same(ours, to_latents(ours), torch.randn(64, DIMS, dtype=torch.float64))


def test_an_inverse_autoregressive_flow_is_the_inverse_of_zukos():
    ours = shaken("inverse_autoregressive")
    theirs, z = to_data(ours), torch.randn(64, DIMS, dtype=torch.float64)
    with torch.no_grad():
        x, log_det = ours.inverse(z)
        expected, expected_log_det = theirs.call_and_ladj(z)
        assert torch.allclose(x, expected, atol=1e-10)
        assert torch.allclose(log_det, expected_log_det, atol=1e-10)
        assert torch.allclose(ours(x)[0], z, atol=1e-8)


def test_permutations_are_zukos():
    for options in ({}, {"order": "random"}):
        ours = factory("bijection", {"use": "permutation", **options})((DIMS,), None)
        assert_same(ours, PermutationTransform(ours.places), torch.randn(4, DIMS, dtype=torch.float64))
    assert not torch.equal(ours.places, torch.arange(DIMS))


def test_a_whole_flow_has_the_density_of_zukos():
    """Three autoregressive layers and their permutations over a normal, as zuko composes them."""
    layer = {"use": "masked_autoregressive", "hidden_dims": [16]}
    bijections = [layer, "permutation", layer]
    model = genkit.build("model", {"use": "flow", "bijections": bijections}, genkit.DataSpec((DIMS,))).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        first, permutation, second = model.chain.each()
        steps = [to_latents(first), PermutationTransform(permutation.places), to_latents(second)]
        base = Independent(Normal(torch.zeros(DIMS).double(), torch.ones(DIMS).double()), 1)
        theirs = zuko.distributions.NormalizingFlow(ComposedTransform(*steps), base)
        model.base.double()
        x = torch.randn(64, DIMS, dtype=torch.float64)
        assert torch.allclose(model.log_prob(x).nats, theirs.log_prob(x), atol=1e-9)
