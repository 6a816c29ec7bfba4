"""The contract of priors: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_priors.testing import check_prior

        def test_my_prior_keeps_the_contract():
            check_prior(factory("prior", {"use": "my_prior"}))
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from genkit import Factory, Shape
from genkit.testing import (
    check_device,
    check_gradients,
    check_mass,
    check_module,
    constructed,
    contract,
    nothing_drawn,
    refused,
    seed,
    unseeded,
    untouched,
)
from genkit_priors.prior import Prior

SHAPES: tuple[Shape, ...] = ((2,), (3,), (1, 1, 2), (2, 3, 4))
NUM, MANY = 6, 20_000


@contract
def check_prior(build: Factory[Prior]) -> None:
    """Checks a prior on latents that are vectors and images, wherever it serves them; it must serve one shape.

    Shapes, finite log-densities at its own draws, gradients of densities to every parameter, draws that follow the
    global seed, that a temperature narrows, at 0 to a point, and that are as frequent as the density says in latents of
    two and three dimensions; of two the density's mass is 1, by a sum over a grid. Double precision, another device,
    modes, a checkpoint.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    served = [shape for shape in SHAPES if not refused(lambda shape=shape: build(shape))]
    assert served, f"{build.name} refuses latents of all shapes: {', '.join(map(str, SHAPES))}"
    for shape in served:
        what = f"{build.name} of latents {shape}"
        prior = constructed(build, shape, what=what)
        with untouched(what):
            _check_shapes(prior, shape, what)
            _check_gradients(prior, what)
            _check_draws(prior, what)
        if math.prod(shape) <= 3:
            _check_mass(prior, shape, what)
        other = check_module(prior, lambda shape=shape: build(shape), what)
        same = torch.equal(_drawn(prior, NUM), _drawn(other, NUM))
        assert same, f"{what}: a checkpoint does not say all that draws depend on; use nn.Buffer or nn.Parameter"
        _check_elsewhere(prior, what)


def _drawn(prior: Prior, num_samples: int, temperature: float = 1.0, number: int = 1) -> Tensor:
    with torch.no_grad(), unseeded("sample", number):
        return prior.sample(num_samples, temperature=temperature)


def _check_shapes(prior: Prior, shape: Shape, what: str) -> None:
    z = _drawn(prior, NUM)
    assert z.shape == (NUM, *shape), f"{what}: draws have shape {tuple(z.shape)}, not {(NUM, *shape)}"
    with nothing_drawn(f"{what}: a density"):
        distribution = prior.distribution()
        density = distribution.log_prob(z)
    event = tuple(distribution.event_shape)
    assert event == shape, f"{what}: the distribution's event shape is {event}; reinterpret all dimensions as the event"
    batch = tuple(distribution.batch_shape)
    assert batch == (), f"{what}: the distribution's batch shape is {batch}, not empty"
    assert density.shape == (NUM,), f"{what}: log-densities have shape {tuple(density.shape)}, not ({NUM},)"
    assert torch.isfinite(density).all(), f"{what}: the log-density of its own draws is not finite"


def _check_gradients(prior: Prior, what: str) -> None:
    parameters = [parameter for parameter in prior.parameters() if parameter.requires_grad]
    if not parameters:
        return
    shaken = copy.deepcopy(prior)  # away from the start, where gradients may vanish
    with torch.no_grad():
        for parameter in shaken.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    shaken.zero_grad(set_to_none=True)
    density = shaken.distribution().log_prob(_drawn(prior, NUM))
    assert density.requires_grad, f"{what}: densities carry no gradient to its parameters"
    density.square().sum().backward()
    check_gradients(shaken, (p for p in shaken.parameters() if p.requires_grad), f"{what}, log-density")


def _check_draws(prior: Prior, what: str) -> None:
    first, again, other = _drawn(prior, NUM), _drawn(prior, NUM), _drawn(prior, NUM, number=2)
    assert torch.equal(first, again), f"{what}: draws do not follow the global seed"
    assert not torch.equal(first, other), f"{what}: another seed gives the same draws; use torch's global generator"
    point = _drawn(prior, NUM, 0.0).std(dim=0).max()
    assert point < 1e-6, f"{what}: at temperature 0 draws still differ, by {point:.2g}"
    wide, narrow = (_drawn(prior, 2000, t).flatten(1).std(dim=0).mean() for t in (1.0, 0.5))
    assert narrow < 0.9 * wide, f"{what}: at temperature 0.5 draws spread by {narrow:.3g}, and by {wide:.3g} at 1"


def _check_mass(prior: Prior, shape: Shape, what: str) -> None:
    with torch.no_grad():
        distribution, draws = prior.distribution(), _drawn(prior, MANY).flatten(1)
        check_mass(lambda points: distribution.log_prob(points.view(-1, *shape)), draws, what)


def _check_elsewhere(prior: Prior, what: str) -> None:
    exact = copy.deepcopy(prior).double()
    dtype = _drawn(exact, NUM).dtype
    assert dtype == torch.float64, f"{what}: after double() draws are {dtype}; make noise as its parameters are"
    seed()
    check_device(prior, lambda moved, inputs: moved.distribution().log_prob(moved.sample(NUM)), [], what)
