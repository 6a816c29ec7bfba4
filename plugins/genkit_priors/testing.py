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
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import linear

from genkit import DataSpec, Factory, Shape
from genkit.testing import (
    check_device,
    check_gradients,
    check_mass,
    check_module,
    constructed,
    contract,
    data_like,
    nothing_drawn,
    refused,
    seed,
    unseeded,
    untouched,
)
from genkit_priors.prior import Prior

SPEC = DataSpec((1, 4, 4), levels=2)
SHAPES: tuple[Shape, ...] = ((2,), (3,), (1, 1, 2), (2, 3, 4))
NUM, MANY = 6, 20_000


class Owner(nn.Module):
    """What a prior belongs to: it has a small posterior of its own, which the prior meets.

    Args:
        prior: The prior.
        shape: The shape of one latent.
    """

    def __init__(self, prior: Prior, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = nn.Linear(SPEC.num_dims, math.prod(shape))
        self.prior = self.introduced(prior)
        prior.start(data_like(SPEC, NUM))

    def introduced(self, prior: Prior) -> Prior:
        """A prior that has met the posterior."""
        prior.meet(self.posterior, SPEC)
        return prior

    def posterior(self, x: Tensor) -> Distribution:
        """A normal for each example, wherever the prior was moved without its owner."""
        weight, bias = self.encoder.weight.to(x), self.encoder.bias.to(x)
        loc = linear(x.flatten(1), weight, bias).unflatten(1, self.shape)
        return Independent(Normal(loc, torch.full_like(loc, 0.5), validate_args=False), len(self.shape))


@contract
def check_prior(build: Factory[Prior]) -> None:
    """Checks a prior on latents that are vectors and images, wherever it serves them; it must serve one shape.

    Shapes, finite log-densities at its own draws, gradients of densities to every parameter, draws that follow the
    global seed, that a temperature narrows, at 0 to a point, and that are as frequent as the density says in latents of
    two and three dimensions; of two the density's mass is 1, by a sum over a grid. Double precision, another device,
    modes, a checkpoint. One that needs a posterior meets a small one: gradients reach it, its weights are none of the
    prior's, and the prior of a copied owner asks the copy.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    served = [shape for shape in SHAPES if not refused(lambda shape=shape: build(shape))]
    assert served, f"{build.name} refuses latents of all shapes: {', '.join(map(str, SHAPES))}"
    for shape in served:
        what = f"{build.name} of latents {shape}"
        owner = Owner(constructed(build, shape, what=what), shape)
        prior = owner.prior
        with untouched(what):
            if prior.needs_posterior:
                _check_meeting(owner, what)
            _check_shapes(prior, shape, what)
            _check_gradients(prior, what)
            _check_draws(prior, what)
        if math.prod(shape) <= 3:
            _check_mass(prior, shape, what)
        other = check_module(prior, lambda shape=shape, owner=owner: owner.introduced(build(shape)), what)
        same = torch.equal(_drawn(prior, NUM), _drawn(other, NUM))
        assert same, f"{what}: a checkpoint does not say all that draws depend on; use nn.Buffer or nn.Parameter"
        _check_elsewhere(prior, what)


def _drawn(prior: Prior, num_samples: int, temperature: float = 1.0, number: int = 1) -> Tensor:
    with torch.no_grad(), unseeded("sample", number):
        return prior.sample(num_samples, temperature=temperature)


def _check_meeting(owner: Owner, what: str) -> None:
    encoder = owner.encoder
    taken = {id(p) for p in encoder.parameters()} & {id(p) for p in owner.prior.parameters()}
    assert not taken, (
        f"{what}: the posterior's weights became its own; keep what meet() is given, not what is behind it"
    )
    z = _drawn(owner.prior, NUM)
    density = owner.prior.distribution().log_prob(z)
    if density.requires_grad:
        density.square().sum().backward()
    reached = encoder.bias.grad is not None and bool(encoder.bias.grad.any())
    assert reached, f"{what}: it needs a posterior, and no gradient of a density reaches it"
    owner.zero_grad(set_to_none=True)
    twin = copy.deepcopy(owner)
    with torch.no_grad():
        twin.encoder.bias.add_(1)
        same = torch.equal(twin.prior.distribution().log_prob(z), density)
    assert not same, (
        f"{what}: in a copy of its owner it asks the original's posterior; keep what meet() is given as it is"
    )


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
    several = torch.stack([z, _drawn(prior, NUM, number=2)])  # (k, N, *Z)
    together, apart = distribution.log_prob(several), torch.stack([distribution.log_prob(each) for each in several])
    same = together.shape == apart.shape and torch.allclose(together, apart, rtol=1e-4, atol=1e-4)
    assert same, f"{what}: log_prob of (k, N, *Z) values is not that of each N; leave all dimensions before the event's"


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
