"""The contract of estimators: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_latents.testing import check_estimator

        def test_my_estimator_keeps_the_contract():
            check_estimator(factory("estimator", {"use": "my_estimator"}))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from genkit import DataSpec, Factory, GenerativeModel, LatentVariable
from genkit.model import lacking
from genkit.testing import constructed, contract, data_like, models_for, unchanged, unseeded, untouched
from genkit_latents.estimator import Estimate, Estimator

NUM, MANY = 3, 1000
TOLERANCE = 0.02
"""How far the mean of a thousand estimates may be from the likelihood, beyond chance."""
HONEST = 0.7, 1.4
"""How much of the real error the errors that are told must be, at least and at most."""


@contract
def check_estimator(build: Factory[Estimator]) -> None:
    """Checks an estimator of log-likelihoods with installed models, and where the likelihood is known exactly.

    Of models of one class, one on each kind of data is taken.

    Estimates of the first 1, 10, 100, ... draws and at last of all, finite, of each example, without gradients,
    under the global seed, the same whether gradients are recorded or not; effective samples between 1 and the draws.
    Model, gradients, modes and data stay as they are. In a model in which all is linear and normal, all estimates of a
    course have the likelihood as their mean, neither more nor less, whatever the rest of the batch, and the errors
    that are told are those that are made; float64 in, float64 out.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    estimator, tried = constructed(build, what=build.name), set()
    assert estimator.label, f"{build.name}: its label, part of each figure's tag, is empty"
    for name, model in models_for(build):
        sort = type(model), model.spec
        if lacking(model, (LatentVariable,)) or sort in tried:
            continue
        assert isinstance(model, LatentVariable)
        tried.add(sort)
        what = f"{build.name} with {name}"
        x = data_like(model.spec, NUM)
        with untouched(what):
            _check_course(_left_alone(estimator, model.eval(), x, what), NUM, what)
            _check_seed(estimator, model, x, what)
    assert tried, f"no installed model has what {build.name} requires"
    _check_exact(estimator, build.name)


def _estimated(estimator: Estimator, model: LatentVariable, x: Tensor, number: int = 1) -> Sequence[Estimate]:
    with unseeded("estimate", number):
        return estimator.estimate(model, x)


def _left_alone(estimator: Estimator, model: GenerativeModel, x: Tensor, what: str) -> Sequence[Estimate]:
    """A course, once it is known that the model is what it was, with the gradients that it happened to have."""
    assert isinstance(model, LatentVariable)
    before = {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = before[name]
    with (
        unchanged(model.state_dict(), what, "the model was changed"),
        unchanged(before, what, "a gradient was changed"),
        unchanged({"x": x}, what),
    ):
        course = _estimated(estimator, model, x)
    for name, parameter in model.named_parameters():
        assert parameter.grad is before[name], f"{what}: the gradient of {name} was taken away"
        assert parameter.requires_grad, f"{what}: {name} no longer asks for gradients; a model is to be left as it is"
    model.zero_grad(set_to_none=True)
    assert not any(part.training for part in model.modules()), f"{what}: it leaves the model in training mode"
    return course


def _check_course(course: Sequence[Estimate], count: int, what: str) -> None:
    draws = [estimate.draws for estimate in course]
    wanted = [10**place for place in range(len(draws))]
    steps = draws[:-1] == wanted[:-1] and (wanted[-1] // 10 < draws[-1] <= wanted[-1] if draws else False)
    assert steps, f"{what}: estimates are of {draws} draws; of the first 1, 10, 100, ... and at last of all is wanted"
    for estimate in course:
        where = f"{what}, {estimate.draws} draws"
        for name in ("nats", "errors", "effective"):
            values = getattr(estimate, name)
            assert values.shape == (count,), f"{where}: {name} have shape {tuple(values.shape)}, not ({count},)"
            assert not values.requires_grad, f"{where}: {name} carry gradients"
        assert torch.isfinite(estimate.nats).all(), f"{where}: {_list(estimate.nats)} nats are not finite"
        told = estimate.errors.isnan() if estimate.draws == 1 else estimate.errors >= 0
        assert told.all(), f"{where}: errors are {_list(estimate.errors)}; nan of one draw, else not below 0 is wanted"
        low, high = 1 - 1e-4, estimate.draws * (1 + 1e-4)
        inside = (estimate.effective >= low) & (estimate.effective <= high)
        assert inside.all(), f"{where}: {_list(estimate.effective)} effective samples; from 1 to the draws is wanted"


def _list(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())


def _check_seed(estimator: Estimator, model: LatentVariable, x: Tensor, what: str) -> None:
    first, other = _estimated(estimator, model, x)[-1], _estimated(estimator, model, x, 2)[-1]
    with torch.no_grad():
        again = _estimated(estimator, model, x)[-1]
    assert torch.equal(first.nats, again.nats), (
        f"{what}: estimates do not follow the global seed, or depend on whether gradients are recorded"
    )
    exact = (first.errors == 0).all()
    assert exact or not torch.equal(first.nats, other.nats), (
        f"{what}: another seed gives the same estimates; draw with torch's global generator"
    )


# ---- where the likelihood is known -------------------------------------------------------------------------------


class Linear(GenerativeModel, LatentVariable):
    r"""Three numbers that are linear in two normal latents, with noise, in double precision.

    .. math:: p(x) = \mathcal{N}(x; b, W W^T + I)

    The posterior is a little narrower than the true one is in one direction, wider in the other, and beside it.
    """

    def __init__(self) -> None:
        super().__init__(DataSpec((3,)))
        self.weight = nn.Parameter(torch.tensor([[0.8, 0.1], [-0.5, 0.4], [0.2, -0.6]], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64))

    def prior(self, context: Tensor | None = None) -> Distribution:
        """The standard normal."""
        return _normal(self.weight.new_zeros(2), self.weight.new_ones(2))

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """Independent normals beside the true posterior."""
        precision = torch.eye(2).to(self.weight) + self.weight.T @ self.weight
        mean = (x - self.bias) @ self.weight @ precision.inverse()
        return _normal(0.9 * mean + 0.1, self.weight.new_tensor([0.75, 1.1]).expand_as(mean))

    def likelihood(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """Unit normals around a linear map."""
        mean = z @ self.weight.T + self.bias
        return _normal(mean, torch.ones_like(mean))

    @property
    def marginal(self) -> Distribution:
        """What data are distributed as."""
        covariance = self.weight @ self.weight.T + torch.eye(3).to(self.weight)
        return MultivariateNormal(self.bias.detach(), covariance.detach())


def _normal(mean: Tensor, std: Tensor) -> Distribution:
    return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)


def _check_exact(estimator: Estimator, what: str) -> None:
    """Many examples at once: each is to have the estimate that it would have alone."""
    model = Linear().eval()
    with unseeded(what, 3):
        x = model.marginal.sample((MANY,))
    exact = model.marginal.log_prob(x)
    course = _estimated(estimator, model, x, 4)
    _check_course(course, MANY, what)
    for estimate in course:
        where = f"{what} where all is linear, {estimate.draws} draws"
        assert estimate.nats.dtype == torch.float64, f"{where}: float64 in, {estimate.nats.dtype} out"
        _check_ratio((estimate.nats - exact).exp(), estimate, where)


def _check_ratio(ratio: Tensor, estimate: Estimate, where: str) -> None:
    """Estimated over exact likelihoods: their mean is 1, and their spread is what the errors say."""
    mean, spread = ratio.mean().item(), ratio.std().item()
    chance = 5 * spread / MANY**0.5 + TOLERANCE
    assert abs(mean - 1) < chance, (
        f"{where}: the estimates are {mean:.4g} times the likelihood in the mean of {MANY} examples, not 1 +- "
        f"{chance:.2g}"
    )
    if estimate.draws > 1:
        told, (least, most) = (ratio * estimate.errors).square().mean().sqrt().item(), HONEST
        assert least * spread - TOLERANCE < told < most * spread + TOLERANCE, (
            f"{where}: the errors that are told come to {told:.3g}, those that are made to {spread:.3g}"
        )
