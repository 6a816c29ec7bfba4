"""Annealed importance sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.averaging import Averaging, Weigher
from genkit_latents.hamiltonian import Target, move

Schedule = Literal["sigmoid", "linear"]
STEEPNESS = 4.0  # of the sigmoid, by Wu et al.
ACCEPTANCE = 0.65  # of ends of trajectories, the best for many dimensions
WARMUP = 20  # moves of the pilot before it sets out: its first step may be off by many orders of magnitude
FIRST_STEP = 0.1
FAST, SLOW = 1.0, 0.2  # how quickly steps follow the acceptance, before and after


class Annealed(Averaging):
    r"""Annealed importance sampling: chains that are led from the prior to the posterior, whatever that is.

    Through densities :math:`f_t(z) = p(z)\, p(x \mid z)^{\beta_t}` with
    :math:`0 = \beta_0 < \beta_1 < \dots < \beta_T = 1`, of which the first is the prior and the last has the mass
    :math:`p(x)`, a chain that starts from the prior is moved by transitions that keep each :math:`f_t` in turn; its
    weight is

    .. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log p(x \mid z_{t-1}), \quad z_0 \sim p(z), \quad
        z_t \sim \mathcal{T}_t(\cdot \mid z_{t-1})

    It does not ask the model's posterior, and so it sees what a bad one hides from importance sampling; it costs
    :math:`T` times the leapfrog steps as many gradients of the likelihood as importance sampling costs likelihoods.

    A transition is a trajectory of Hamiltonian dynamics, whose end is accepted or refused as Metropolis and Hastings
    say. How large its steps must be shows a pilot pass: at each temperature and for each example they follow the
    acceptance towards 0.65. The pilot's chains are then thrown away, and the chains that count move by the steps that
    it found, which no longer change: the transitions are valid, and the mean of the weights is :math:`p(x)` in
    expectation, exactly, whatever the number of chains, temperatures and steps; its logarithm is below, in expectation.

    A prior that is flat, or zero somewhere, will do: ends outside its support are refused.

    Args:
        k: Chains for each example.
        temperatures: How many, :math:`T`; with one it is plain Monte Carlo.
        schedule: Where they are: at even steps of a sigmoid, so that they lie close at both ends, or of :math:`\beta`.
        leapfrog: Steps of a trajectory.
        pilot: Chains for each example that the sizes of steps are found with.
        chunk: Chains that are moved at a time; memory grows with them, and not with ``k``.

    References:
        Neal: Annealed Importance Sampling, Statistics and Computing 11, 2001, arXiv physics/9803008.
        Wu et al.: On the Quantitative Analysis of Decoder-Based Generative Models, ICLR 2017, arXiv 1611.04273.
        Neal: MCMC using Hamiltonian dynamics, Handbook of Markov Chain Monte Carlo, 2011, arXiv 1206.1901 (0.65 in
        section 4.4).
    """

    examples = (
        {"k": 4, "temperatures": 6, "leapfrog": 2},
        {"k": 2, "temperatures": 3, "schedule": "linear", "leapfrog": 1, "pilot": 1, "chunk": 300},
    )

    def __init__(
        self,
        *,
        k: PositiveInt = 16,
        temperatures: PositiveInt = 500,
        schedule: Schedule = "sigmoid",
        leapfrog: PositiveInt = 10,
        pilot: PositiveInt = 4,
        chunk: PositiveInt = 2000,
    ) -> None:
        super().__init__(k, chunk)
        self.betas = SCHEDULES[schedule](temperatures)
        self.leapfrog = leapfrog
        self.pilot = pilot

    @property
    def label(self) -> str:
        """What the draws are."""
        return f"annealed importance sampling over {len(self.betas) - 1} temperatures"

    def weigher(self, model: LatentVariable, x: Tensor) -> Weigher:
        """Finds the steps, then leads chains along."""
        target = Target(model, model.prior(), x)
        steps = self.steps(target)
        return lambda count: self._lead(target, count, steps)

    def steps(self, target: Target) -> Sequence[Tensor]:
        """The sizes of steps at each temperature between the first and the last, with shape :math:`(B,)` each."""
        state = target.start(min(self.pilot, max(self.chunk // len(target.x), 1)))
        log_step, found = torch.full_like(state.log_prior[0], math.log(FIRST_STEP)), []
        inner = self.betas[1:-1]
        for number, beta in enumerate([*inner[:1] * WARMUP, *inner], start=1 - WARMUP):
            state, probability = move(target, state, beta, log_step.exp(), self.leapfrog)
            log_step = log_step + (FAST if number <= 0 else SLOW) * (probability.mean(0) - ACCEPTANCE)
            found.append(log_step.exp())
        return found[WARMUP:]

    def _lead(self, target: Target, count: int, steps: Sequence[Tensor]) -> Tensor:
        """The weights' logarithms of so many chains for each example, with shape :math:`(k, B)`."""
        state = target.start(count)
        log_weights = (self.betas[1] - self.betas[0]) * state.log_likelihood
        for beta, following, step in zip(self.betas[1:], self.betas[2:], steps, strict=False):
            state, _ = move(target, state, beta, step, self.leapfrog)
            log_weights = log_weights + (following - beta) * state.log_likelihood
        return log_weights


def linear(temperatures: int) -> list[float]:
    """Powers from 0 to 1 at even distances.

    Example:
        >>> linear(4)
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return [number / temperatures for number in range(temperatures + 1)]


def sigmoid(temperatures: int) -> list[float]:
    r"""Powers from 0 to 1 that lie closest at both ends.

    .. math:: \beta_t = \frac{\sigma(\delta (2 t / T - 1)) - \sigma(-\delta)}{\sigma(\delta) - \sigma(-\delta)},
        \quad \delta = 4

    Since :math:`\sigma(u) = (1 + \tanh(u / 2)) / 2`, that is a ratio of hyperbolic tangents.

    Example:
        >>> [round(beta, 4) for beta in sigmoid(4)]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    top = math.tanh(STEEPNESS / 2)
    return [(1 + math.tanh(STEEPNESS / 2 * (2 * beta - 1)) / top) / 2 for beta in linear(temperatures)]


SCHEDULES = {"sigmoid": sigmoid, "linear": linear}
