"""Models with latents of one and of two levels in which all is linear and normal, so that everything is known exactly.

In double precision. :func:`one_level` and :func:`two_levels` have posteriors that miss the truth on purpose;
``to_truth`` makes them exact.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

import genkit
from genkit_vae.ancestral import Ancestral


class LinearNormal(nn.Module):
    r""":math:`\mathcal{N}(W x + b, L L^T)` of an input with shape :math:`(N, D_{in})`, with parameters W, b and L.

    Args:
        weight: :math:`W` with shape :math:`(D_{out}, D_{in})`.
        bias: :math:`b` with shape :math:`(D_{out},)`.
        tril: :math:`L` with shape :math:`(D_{out}, D_{out})`, lower triangular.
        diagonal: Whether only the diagonal of :math:`L` counts; the distribution is then an ``Independent``.
    """

    def __init__(self, weight: Tensor, bias: Tensor, tril: Tensor, *, diagonal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())
        self.tril = nn.Parameter(tril.clone())
        self.diagonal = diagonal

    def forward(self, x: Tensor) -> Any:
        mean = x @ self.weight.T + self.bias
        if self.diagonal:
            return Independent(Normal(mean, self.tril.diagonal(), validate_args=False), 1, validate_args=False)
        return MultivariateNormal(mean, scale_tril=self.tril.tril(), validate_args=False)

    @property
    def covariance(self) -> Tensor:
        """Of the output given its input."""
        factor = self.tril.diagonal().diag() if self.diagonal else self.tril.tril()
        return (factor @ factor.T).detach()


@dataclass
class Moments:
    """A normal's mean, with shape :math:`(D,)` or :math:`(B, D)`, and covariance, with shape :math:`(D, D)`."""

    mean: Tensor
    covariance: Tensor

    @property
    def normal(self) -> MultivariateNormal:
        return MultivariateNormal(self.mean, self.covariance)


def through(given: Moments, step: LinearNormal) -> Moments:
    """The marginal of the output of a step whose input is normal."""
    weight, bias = step.weight.detach(), step.bias.detach()
    return Moments(given.mean @ weight.T + bias, weight @ given.covariance @ weight.T + step.covariance)


def beside(given: Moments, step: LinearNormal) -> Moments:
    """The joint distribution of a step's normal input and its output, side by side in this order."""
    weight, out = step.weight.detach(), through(given, step)
    across = given.covariance @ weight.T
    rows = [torch.cat([given.covariance, across], 1), torch.cat([across.T, out.covariance], 1)]
    return Moments(torch.cat([given.mean, out.mean], -1), torch.cat(rows))


def inverse(given: Moments, step: LinearNormal) -> LinearNormal:
    """The step back, from an output to the distribution of its normal input, by Bayes' rule."""
    weight, out = step.weight.detach(), through(given, step)
    gain = given.covariance @ weight.T @ torch.linalg.inv(out.covariance)
    covariance = given.covariance - gain @ weight @ given.covariance
    tril = torch.linalg.cholesky((covariance + covariance.T) / 2)
    return LinearNormal(gain, given.mean - gain @ out.mean, tril, diagonal=False)


def standard(dims: int) -> Moments:
    """The standard normal's."""
    return Moments(torch.zeros(dims, dtype=torch.float64), torch.eye(dims, dtype=torch.float64))


class LinearGaussian(genkit.GenerativeModel, genkit.LatentVariable, genkit.Decodes):
    r"""A standard normal prior, and linear normal steps down to the data and up from them.

    Args:
        decoders: The steps down, the one to the data first.
        encoders: As many steps up, the one from the data first.
    """

    def __init__(self, decoders: list[LinearNormal], encoders: list[LinearNormal]) -> None:
        super().__init__(genkit.DataSpec((len(decoders[0].bias),)))
        self.decoders: Any = nn.ModuleList(decoders)
        self.encoders: Any = nn.ModuleList(encoders)
        self.sizes = tuple(decoder.weight.shape[1] for decoder in decoders)

    # ---- what objectives and estimators use

    def prior(self, context: Tensor | None = None) -> Distribution:
        top = standard(self.sizes[-1])
        first = Independent(Normal(top.mean, 1.0, validate_args=False), 1, validate_args=False)
        return self._joint(first, list(self.decoders[1:])[::-1], backward=True)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        return self._joint(self.encoders[0](x), list(self.encoders[1:]), backward=False)

    def likelihood(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        return self.decoders[0](z[..., : self.sizes[0]])

    @property
    def latent_shape(self) -> genkit.Shape:
        return (sum(self.sizes),)

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        assert temperature == 1
        return self.prior().rsample(torch.Size([num_samples]))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.likelihood(z).mean

    def _joint(self, first: Distribution, rest: list, *, backward: bool) -> Distribution:
        if not rest:
            return first
        return Ancestral(first, rest, self.sizes[::-1] if backward else self.sizes, backward=backward)

    # ---- what is known exactly

    def _marginals(self) -> list[Moments]:
        """Of each level and of the data, from the top down."""
        found = [standard(self.sizes[-1])]
        for decoder in list(self.decoders)[::-1]:
            found.append(through(found[-1], decoder))
        return found

    @property
    def marginal(self) -> MultivariateNormal:
        r""":math:`p(x)`."""
        return self._marginals()[-1].normal

    @property
    def joint_prior(self) -> MultivariateNormal:
        r""":math:`p(z)` of all levels, the lowest first."""
        if len(self.sizes) == 1:
            return standard(*self.sizes).normal
        top, low = self.sizes[1], self.sizes[0]
        both = beside(standard(top), self.decoders[1])  # the top first
        order = [*range(top, top + low), *range(top)]
        return Moments(both.mean[order], both.covariance[order][:, order]).normal

    def joint_posterior(self, x: Tensor) -> MultivariateNormal:
        r""":math:`q(z \mid x)` of all levels, the lowest first."""
        return self._upward(x, list(self.encoders))

    def true_posterior(self, x: Tensor) -> MultivariateNormal:
        r""":math:`p(z \mid x)` of all levels, the lowest first."""
        return self._upward(x, self._true_encoders())

    def elbo(self, x: Tensor) -> Tensor:
        r"""The evidence lower bound, :math:`\log p(x) - \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))`, exactly."""
        return self.marginal.log_prob(x) - kl_divergence(self.joint_posterior(x), self.true_posterior(x))

    def to_truth(self) -> "LinearGaussian":
        """Makes the posterior exact; returns the model."""
        self.encoders = nn.ModuleList(self._true_encoders())
        return self

    def _true_encoders(self) -> list[LinearNormal]:
        marginals, steps = self._marginals(), list(self.decoders)[::-1]
        return [inverse(above, step) for above, step in zip(marginals, steps, strict=False)][::-1]

    @staticmethod
    def _upward(x: Tensor, encoders: list[LinearNormal]) -> MultivariateNormal:
        first, *rest = encoders
        found = Moments(x @ first.weight.detach().T + first.bias.detach(), first.covariance)
        for encoder in rest:
            found = beside(found, encoder)
        return found.normal


class TwoLevels(LinearGaussian, genkit.HasLevels):
    """The same with two levels."""

    @property
    def levels(self) -> tuple[int, ...]:
        return self.sizes


def one_level(*, error: float = 0.3, full: bool = False) -> LinearGaussian:
    """Three numbers from two latents, with a diagonal posterior.

    Args:
        error: How far the posterior is from the truth, which is not diagonal in any case.
        full: Whether the posterior has a full covariance.
    """
    model = LinearGaussian([_step(3, 2, 0.6, 1)], [_step(2, 3, 1.0, 2)])
    return _approach(model, error, full)


def two_levels(*, error: float = 0.3, full: bool = False) -> TwoLevels:
    """Three numbers from two latents, which come from one."""
    model = TwoLevels([_step(3, 2, 0.6, 1), _step(2, 1, 0.7, 3)], [_step(2, 3, 1.0, 2), _step(1, 2, 1.0, 4)])
    return _approach(model, error, full)


def _step(out: int, given: int, scale: float, seed: int) -> LinearNormal:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(out, given + 1, generator=generator, dtype=torch.float64)
    return LinearNormal(numbers[:, :-1], numbers[:, -1], scale * torch.eye(out, dtype=torch.float64), diagonal=True)


def _approach(model: Any, error: float, full: bool) -> Any:
    """Puts the encoders beside the true ones, wider and shifted."""
    for place, truth in enumerate(model._true_encoders()):
        tril = truth.tril.detach() if full else truth.covariance.diagonal().sqrt().diag()
        weight, bias = truth.weight.detach() * (1 - error / 3), truth.bias.detach() + error * tril.diagonal()
        model.encoders[place] = LinearNormal(weight, bias, (1 + error) * tril, diagonal=not full)
    return model


# ---- what tests ask of objectives


def loss_of(model: Any, x: Tensor, use: str, *, seed: int | None = None, **options: Any) -> genkit.Loss:
    """An objective's loss of some examples; with a seed always with the same latents."""
    (turn,) = genkit.build("objective", {"use": use, **options}, model).turns(model)
    if seed is not None:
        torch.manual_seed(seed)
    return turn.loss(genkit.Batch(x), genkit.Progress(torch.tensor(0.0), torch.tensor(0.0)))


def gradient(parts: nn.Module, model: Any, x: Tensor, use: str, **options: Any) -> Tensor:
    """An objective's, with respect to all parameters of some parts, as one vector; 0 where one plays no part."""
    total, parameters = loss_of(model, x, use, **options).total, list(parts.parameters())
    slopes = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in slopes])


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the first dimension, and its standard error."""
    return values.mean(0), values.std(0) / len(values) ** 0.5
