r"""Hamiltonian Monte Carlo between a prior and what it becomes once an example was seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from genkit import LatentVariable
from genkit_vae.weights import log_likelihoods


@dataclass(frozen=True)
class State:
    r"""Where chains are, with what every density :math:`p(z)\, p(x \mid z)^\beta` has there.

    Attributes:
        z: Latents with shape :math:`(k, B, *Z)`.
        log_prior: :math:`\log p(z)` in nats, with shape :math:`(k, B)`.
        log_likelihood: :math:`\log p(x \mid z)`, likewise.
        prior_slope: The gradient of the first in :math:`z`, with shape :math:`(k, B, *Z)`.
        likelihood_slope: That of the second, likewise.
    """

    z: Tensor
    log_prior: Tensor
    log_likelihood: Tensor
    prior_slope: Tensor
    likelihood_slope: Tensor

    def log_density(self, beta: float) -> Tensor:
        r""":math:`\log p(z) + \beta \log p(x \mid z)`, with shape :math:`(k, B)`."""
        return self.log_prior + beta * self.log_likelihood

    def slope(self, beta: float) -> Tensor:
        """The gradient of that in :math:`z`, with shape :math:`(k, B, *Z)`."""
        return self.prior_slope + beta * self.likelihood_slope

    def replaced(self, where: Tensor, other: State) -> State:
        """The other state's chains in some places, bool with shape :math:`(k, B)`."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return State(*(torch.where(_beside(where, own), new, own) for own, new in pairs))


@dataclass(frozen=True)
class Target:
    """A model with some examples: what chains move in.

    Attributes:
        model: Whose likelihood.
        prior: Its prior, with an empty batch shape.
        x: Examples with shape :math:`(B, *S)`.
    """

    model: LatentVariable
    prior: Distribution
    x: Tensor

    def start(self, k: int) -> State:
        """So many chains for each example, drawn from the prior."""
        return self.at(self.prior.sample(torch.Size([k, len(self.x)])))

    def at(self, z: Tensor) -> State:
        """Chains that are somewhere. No graph is left behind, and no gradient of a parameter is computed."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            log_prior, log_likelihood = self.prior.log_prob(leaf), log_likelihoods(self.model, self.x, leaf)
            slopes = _slope(log_prior, leaf), _slope(log_likelihood, leaf)
        return State(leaf.detach(), log_prior.detach(), log_likelihood.detach(), *slopes)


def move(target: Target, state: State, beta: float, step: Tensor, leapfrog: int) -> tuple[State, Tensor]:
    r"""Moves chains so that they keep the density :math:`p(z)\, p(x \mid z)^\beta`, where they have it.

    A momentum is drawn, Hamilton's equations are followed for some steps, and the end is taken with the probability
    :math:`\min(1, e^{H - H'})`. An end where the density is zero or no number is refused.

    Args:
        target: What they move in.
        state: Where they are.
        beta: The likelihood's power, above 0.
        step: The size of a step for each example, with shape :math:`(B,)`.
        leapfrog: How many steps.

    Returns:
        Where they are then, and the probabilities with which the ends were taken, with shape :math:`(k, B)`.

    References:
        Neal: MCMC using Hamiltonian dynamics, Handbook of Markov Chain Monte Carlo, 2011, arXiv 1206.1901, section 3.
    """
    size = _beside(step, state.z[0])
    drawn = torch.randn_like(state.z)
    momentum, end = drawn + size / 2 * state.slope(beta), state
    for number in range(leapfrog):
        end = target.at(end.z + size * momentum)
        momentum = momentum + (size if number < leapfrog - 1 else size / 2) * end.slope(beta)
    log_ratio = end.log_density(beta) - state.log_density(beta) + _energy(drawn) - _energy(momentum)
    probability = log_ratio.exp().clamp(max=1).nan_to_num(0)
    return state.replaced(torch.rand_like(probability) < probability, end), probability


def _slope(values: Tensor, z: Tensor) -> Tensor:
    """The gradient of each value in its latent; none where values do not depend on latents, as a flat density."""
    if not values.requires_grad:
        return torch.zeros_like(z)
    (slope,) = torch.autograd.grad(values.sum(), z, materialize_grads=True)
    return slope


def _energy(momentum: Tensor) -> Tensor:
    """Kinetic energies, with shape :math:`(k, B)`."""
    return momentum.square().flatten(2).sum(-1) / 2


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """Values with as many dimensions as what they go with."""
    return values.reshape(*values.shape, *[1] * (like.dim() - values.dim()))
