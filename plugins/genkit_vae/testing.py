"""The contracts of likelihoods and posteriors: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_vae.testing import check_likelihood

        def test_my_likelihood_keeps_the_contract():
            check_likelihood(factory("likelihood", {"use": "my_likelihood"}))
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.distributions import Distribution

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
    unchanged,
    unseeded,
    untouched,
)
from genkit.testing.common import SPECS
from genkit_vae.likelihood import Likelihood
from genkit_vae.posterior import Posterior

NUM, MANY = 5, 20_000
PIXELS = {
    "one bit": DataSpec((1, 1, 1), levels=2),
    "one pixel of five levels": DataSpec((1, 1, 1), levels=5),
    "one 8-bit pixel": DataSpec((1, 1, 1), levels=256),
    "one number": DataSpec((1,)),
}
LATENTS: tuple[Shape, ...] = ((2,), (3,), (2, 3, 3))


@contract
def check_likelihood(build: Factory[Likelihood]) -> None:
    """Checks a likelihood on all kinds of data that it fits; it must fit one.

    Shapes, gradients to the decoder's output, samples in the spec's range, on its levels, without gradients and under
    the global seed, their mean where ``mean`` says; probabilities of one pixel sum to 1, densities have mass 1
    where samples lie; other data is refused, as ``fits`` says. Double precision, another device, modes, a
    checkpoint.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    specs = {**SPECS, **PIXELS}
    for name, spec in specs.items():
        is_refused, fits = refused(lambda spec=spec: build(spec)), build.resolved.fits(spec)
        agree = is_refused != fits
        assert agree, (
            f"{build.name}: fits() says {fits} of {name}, and the constructor {'refuses' if fits else 'takes'} it"
        )
    served = [name for name, spec in specs.items() if build.resolved.fits(spec)]
    assert served, f"{build.name} refuses all of: {', '.join(specs)}"
    for name in served:
        spec, what = specs[name], f"{build.name} of {name}"
        likelihood = constructed(build, spec, what=what)
        with unseeded(what), untouched(what):
            _check_shapes(likelihood, spec, what)
            if name in PIXELS:
                _check_normalized(likelihood, spec, what)
                _check_mean(likelihood, what)
        check_module(likelihood, lambda spec=spec: build(spec), what)
        _check_elsewhere(likelihood, spec, what)


def _parameters(likelihood: Likelihood, count: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, *likelihood.parameter_shape)


def _drawn(distribution: Distribution, number: int) -> Tensor:
    with unseeded("sample", number):
        return distribution.sample()


def _check_shapes(likelihood: Likelihood, spec: DataSpec, what: str) -> None:
    parameters = _parameters(likelihood, NUM).requires_grad_()
    x = data_like(spec, NUM)
    caller = unchanged({"parameters": parameters, "x": x}, what)
    with caller, nothing_drawn(f"{what}: a likelihood"):
        distribution = likelihood.distribution(parameters)
        nats = distribution.log_prob(x)
    assert nats.shape == (NUM,), f"{what}: log_prob has shape {tuple(nats.shape)}, not (B,): sum over an example"
    assert torch.isfinite(nats).all(), f"{what}: log_prob is not finite"
    nats.sum().backward()
    assert parameters.grad is not None, f"{what}: no gradient reaches the decoder's output"
    moved = (parameters.grad != 0).flatten(1).any(1)
    assert moved.all(), f"{what}: no gradient reaches the decoder's output"
    trained = [parameter for parameter in likelihood.parameters() if parameter.requires_grad]
    if trained:
        check_gradients(likelihood, trained, what)
    _check_samples(distribution, spec, likelihood.measure == "probability", what)
    if likelihood.measure == "probability":
        assert spec.levels is not None, f"{what}: it calls itself a probability, and the data is continuous"
        assert (nats <= 0).all(), f"{what}: a probability above 1"


def _check_samples(distribution: Distribution, spec: DataSpec, discrete: bool, what: str) -> None:
    sample, wanted = _drawn(distribution, 2), (NUM, *spec.shape)
    for name, value in (("samples", sample), ("mean", distribution.mean)):
        assert value.shape == wanted, f"{what}: {name} has shape {tuple(value.shape)}, not {wanted}"
        assert torch.isfinite(value).all(), f"{what}: {name} is not finite"
    assert not sample.requires_grad, f"{what}: sample() carries gradients"
    assert torch.equal(sample, _drawn(distribution, 2)), f"{what}: samples do not follow the global seed"
    stays = spec.num_dims > 1 and torch.equal(sample, _drawn(distribution, 3))  # of one pixel the same may be drawn
    assert not stays, f"{what}: another seed gives the same samples; draw with torch's global generator"
    if discrete and spec.levels is not None:
        steps = sample * (spec.levels - 1)
        assert torch.allclose(steps, steps.round(), atol=1e-4), f"{what}: samples are not on the {spec.levels} levels"
        assert 0 <= sample.min() <= sample.max() <= 1, f"{what}: samples leave [0, 1]"


def _check_normalized(likelihood: Likelihood, spec: DataSpec, what: str) -> None:
    """One pixel: a sum over its levels, or over a grid where samples lie."""
    exact = copy.deepcopy(likelihood).double()
    parameters = _parameters(likelihood, 1).double()

    def log_prob(values: Tensor) -> Tensor:
        spread = parameters.expand(len(values), *parameters.shape[1:])
        return exact.distribution(spread).log_prob(values.view(-1, *spec.shape))

    with torch.no_grad():
        if likelihood.measure == "density":
            draws = exact.distribution(parameters.expand(MANY, *parameters.shape[1:])).sample()
            check_mass(log_prob, draws.view(MANY, 1), what)
        elif spec.levels is not None:
            total = log_prob(torch.linspace(0, 1, spec.levels, dtype=torch.float64)).exp().sum().item()
            assert abs(total - 1) < 1e-6, (
                f"{what}: the probabilities of its {spec.levels} levels sum to {total:.6g}, not 1"
            )


def _check_mean(likelihood: Likelihood, what: str) -> None:
    """Within five standard errors of the samples' own mean, and half a level of 8 bits."""
    parameters = _parameters(likelihood, 1, 0.3)
    with torch.no_grad():
        distribution = likelihood.distribution(parameters.expand(MANY, *parameters.shape[1:]))
        samples, mean = distribution.sample().double(), distribution.mean[0].double().item()
    found = samples.mean().item()
    error = 5 * samples.std().item() / MANY**0.5 + 2e-3
    assert abs(found - mean) < error, f"{what}: mean is {mean:.4g}, and that of {MANY} samples {found:.4g}"


def _check_elsewhere(likelihood: Likelihood, spec: DataSpec, what: str) -> None:
    parameters, x = _parameters(likelihood, NUM), data_like(spec, NUM)
    with torch.no_grad():
        nats = likelihood.distribution(parameters).log_prob(x)
        exact = copy.deepcopy(likelihood).double().distribution(parameters.double()).log_prob(x.double())
    assert exact.dtype == torch.float64, f"{what}: float64 in, {exact.dtype} out"
    assert torch.allclose(exact.float(), nats, rtol=1e-3, atol=1e-3), f"{what}: float64 and float32 disagree"
    check_device(
        likelihood, lambda moved, given: moved.distribution(given[0]).log_prob(given[1]), [parameters, x], what
    )


@contract
def check_posterior(build: Factory[Posterior]) -> None:
    """Checks a posterior on latents that are vectors and images, wherever it serves them; it must serve one shape.

    Shapes, samples that carry gradients to all of the encoder's output and to every parameter, that follow the global
    seed, and whose density is finite, several for each example too; examples do not touch each other; unless the
    density is known of its own samples alone, values broadcast against the batch, and in the plane its mass is 1 where
    samples lie. Another device, modes, a checkpoint.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    served = [shape for shape in LATENTS if not refused(lambda shape=shape: build(shape))]
    assert served, f"{build.name} refuses latents of all shapes: {', '.join(map(str, LATENTS))}"
    for shape in served:
        what = f"{build.name} of latents {shape}"
        posterior = constructed(build, shape, what=what)
        with torch.no_grad():  # away from the start, where gradients may vanish
            for parameter in posterior.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        parameters = torch.randn(NUM, *posterior.parameter_shape)
        with unseeded(what), untouched(what):
            _check_draws(posterior, parameters, shape, what)
            _check_posterior_mass(posterior, shape, what)
        other = check_module(posterior, lambda shape=shape: build(shape), what)
        same = torch.equal(_rsampled(posterior, parameters), _rsampled(other, parameters))
        assert same, f"{what}: a checkpoint does not say all that samples depend on; use nn.Buffer or nn.Parameter"
        check_device(posterior, _draw_and_weigh, [parameters], what)


def _draw_and_weigh(posterior: Posterior, given: list[Tensor]) -> Tensor:
    q = posterior.distribution(given[0])
    return q.log_prob(q.rsample())


def _rsampled(posterior: Posterior, parameters: Tensor, number: int = 1) -> Tensor:
    with torch.no_grad(), unseeded("rsample", number):
        return posterior.distribution(parameters).rsample()


def _check_draws(posterior: Posterior, parameters: Tensor, shape: Shape, what: str) -> None:
    parameters = parameters.clone().requires_grad_()
    with unchanged({"parameters": parameters}, what):
        q = posterior.distribution(parameters)
        z = q.rsample()
        with nothing_drawn(f"{what}: a density"):
            density = q.log_prob(z)
    wanted = (NUM, *shape)
    for name, value in (("samples", z), ("mean", q.mean)):
        assert value.shape == wanted, f"{what}: {name} has shape {tuple(value.shape)}, not {wanted}"
    assert density.shape == (NUM,), f"{what}: log_prob has shape {tuple(density.shape)}, not (B,)"
    assert torch.isfinite(density).all(), f"{what}: the log-density of its own samples is not finite"
    assert z.requires_grad, f"{what}: samples carry no gradient; rsample must be differentiable"
    (density.sum() + z.square().sum()).backward()
    assert parameters.grad is not None, f"{what}: no gradient reaches the encoder's output"
    reached = (parameters.grad != 0).any(0)
    assert reached.all(), f"{what}: no gradient reaches {int((~reached).sum())} numbers of the encoder's output"
    trained = [parameter for parameter in posterior.parameters() if parameter.requires_grad]
    if trained:
        check_gradients(posterior, trained, what)
    first, again, other = (_rsampled(posterior, parameters.detach(), number) for number in (1, 1, 2))
    assert torch.equal(first, again), f"{what}: samples do not follow the global seed"
    assert not torch.equal(first, other), f"{what}: another seed gives the same samples; use torch's global generator"
    _check_independence(posterior, parameters.detach(), what)
    _check_several(posterior.distribution(parameters.detach()), shape, posterior.own_draws_only, what)


@torch.no_grad()
def _check_several(q: Distribution, shape: Shape, own_draws_only: bool, what: str) -> None:
    """Several samples for each example, and each value with each example."""
    several, wanted = q.rsample(torch.Size([3])), (3, NUM, *shape)
    assert several.shape == wanted, f"{what}: rsample((3,)) has shape {tuple(several.shape)}, not {wanted}"
    density = q.log_prob(several)
    assert density.shape == (3, NUM), f"{what}: log_prob of rsample((3,)) has shape {tuple(density.shape)}, not (3, B)"
    try:
        apart = torch.stack([q.log_prob(each) for each in several])
    except NotImplementedError:
        assert own_draws_only, f"{what}: it knows only its own draws' density; say so: own_draws_only"
        return
    assert not own_draws_only, f"{what}: it says that it knows only its own draws' density, and knows that of others"
    same = torch.allclose(density, apart, rtol=1e-3, atol=1e-3)
    assert same, f"{what}: log_prob of (k, B, *Z) values is not that of each B"
    try:
        each_with_each = q.log_prob(several[0].unsqueeze(1))  # (B, B)
    except RuntimeError as error:
        raise AssertionError(f"{what}: values of shape (N, 1, *Z) do not broadcast against the batch") from error
    same = each_with_each.shape == (NUM, NUM) and torch.allclose(each_with_each.diag(), apart[0], rtol=1e-3, atol=1e-3)
    assert same, f"{what}: values of shape (N, 1, *Z) do not broadcast against the batch"


def _check_independence(posterior: Posterior, parameters: Tensor, what: str) -> None:
    """Another encoding of the last example leaves the samples of the others as they are."""
    moved = parameters.clone()
    moved[-1] += 1
    one, other = _rsampled(posterior, parameters), _rsampled(posterior, moved)
    same = torch.allclose(one[:-1], other[:-1], atol=1e-5)
    assert same, f"{what}: an example's samples depend on the others of its batch"


def _check_posterior_mass(posterior: Posterior, shape: Shape, what: str) -> None:
    if shape != (2,) or posterior.own_draws_only:
        return
    exact = copy.deepcopy(posterior).double()
    parameters = 0.5 * torch.randn(1, *posterior.parameter_shape, dtype=torch.float64)

    def log_prob(z: Tensor) -> Tensor:
        return exact.distribution(parameters.expand(len(z), *parameters.shape[1:])).log_prob(z)

    with torch.no_grad():
        draws = exact.distribution(parameters.expand(MANY, *parameters.shape[1:])).rsample()
        check_mass(log_prob, draws, what)
