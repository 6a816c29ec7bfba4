"""The contract of models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import DataSpec
from genkit.model import (
    Capability,
    Decodes,
    Encodes,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    SamplesDifferentiably,
    SamplesWithLogProb,
)
from genkit.testing.common import SPECS, data_like, small_model
from genkit.testing.component import constructed, contract
from genkit.testing.keeping import nothing_drawn, seed, unchanged, unseeded, untouched
from genkit.testing.mass import check_mass
from genkit.testing.module import check_device, check_gradients, check_module

C = TypeVar("C", bound=Capability)
NUM, MANY = 5, 20_000
PLANE = SPECS["vectors"]
#: Data of other sizes and channel counts than those that objectives, samplers and evaluators are tried with.
MORE_SPECS = {
    **SPECS,
    "odd images of two channels": DataSpec((2, 7, 9), levels=5),
    "larger grey images": DataSpec((1, 16, 16), levels=256),
    "longer vectors": DataSpec((5,)),
    "binary vectors": DataSpec((6,), levels=2),
}


@contract
def check_model(build: Factory[GenerativeModel]) -> None:
    """Checks a model, and every capability it declares, on each kind of data that it serves; it must serve one.

    Data of several sizes, channel counts and levels: shapes, finite values, determinism under a seed, gradients that
    reach every parameter through one capability or another, float64, another device, modes, a checkpoint; the caller's
    tensors and torch's settings stay as they are. An exact density in the plane has mass 1, where the model's own draws
    are, if it can draw; elsewhere, densities that come with samples are those that ``log_prob`` gives them.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    served = [name for name, spec in MORE_SPECS.items() if small_model(build, spec) is not None]
    assert served, f"{build.name} refuses all of: {', '.join(MORE_SPECS)}"
    for name in served:
        _check_on(build, MORE_SPECS[name], f"{build.name} on {name}")


def _check_on(build: Factory[GenerativeModel], spec: DataSpec, what: str) -> None:
    assert constructed(build, spec, what=what).spec == spec, f"{what}: call super().__init__(spec)"
    model = small_model(build, spec)
    assert model is not None
    x = data_like(spec, NUM)
    with untouched(what), unseeded(what), unchanged({"x": x}, what):
        model.start(x)
        _check_capabilities(model, x, what)
    _check_gradients(model, x, what)
    other = check_module(model, lambda: build(spec), what)
    for name, compute in _computations(model, x):
        _check_repeats(name, compute, model, other, what)
    check_device(model, lambda moved, inputs: [run(moved) for _, run in _computations(moved, inputs[0])], [x], what)
    _check_float64(model, x, what)
    if spec == PLANE:
        with torch.no_grad():
            _check_mass(model.eval(), x, what)


def _check_mass(model: GenerativeModel, x: Tensor, what: str) -> None:
    """In the plane an exact density has mass 1, where the model's own draws are, if it can draw."""
    if not _can(model, HasLogProb):
        return
    log_prob, found = model.log_prob, model.log_prob(x)
    if (found.tightness, found.measure) != ("exact", "density"):
        return
    seed(5)
    if _can(model, SamplesDifferentiably):
        draws = model.rsample(MANY)
    elif _can(model, Decodes) and not _can(model, LatentVariable):  # of whose noise decode gives the mean
        draws = model.decode(model.sample_latent(MANY))
    else:
        return
    check_mass(lambda points: log_prob(points).nats, draws, f"{what}, log_prob", side=100)


def _check_capabilities(model: GenerativeModel, x: Tensor, what: str) -> None:
    for capability, reason in model.withheld.items():
        assert isinstance(model, capability), f"{what}: withholds {capability.__name__}, which its class has not"
        assert reason, f"{what}: withholds {capability.__name__} without a reason"
    spec = model.spec
    if _can(model, HasLogProb):
        _check_log_prob(model, x, spec, what)
    if _can(model, LatentVariable):
        _check_latent_variable(model, x, what)
    if _can(model, Decodes):
        _check_decodes(model, spec, what)
        wanted = (NUM, *model.latent_shape)
        if _can(model, Encodes):
            z = model.encode(x)
            assert z.shape == wanted, f"{what}: encode gives shape {tuple(z.shape)}, and latents have {wanted}"
    if _can(model, SamplesDifferentiably):
        _check_rsample(model, what)
    if _can(model, SamplesWithLogProb):
        _check_rsample_with_log_prob(model, what)


def _can(model: object, capability: type[C]) -> TypeGuard[C]:
    """Whether a model has a capability, and does not withhold it."""
    return isinstance(model, capability) and capability not in getattr(model, "withheld", {})


Compute = Callable[[Any], Tensor]


def _computations(model: GenerativeModel, x: Tensor) -> Iterator[tuple[str, Compute]]:
    """What the model can do, each as a function of a model like it that gives one differentiable tensor."""
    if _can(model, HasLogProb):
        yield "log_prob", lambda m: m.log_prob(x).nats
    if _can(model, Encodes):
        yield "encode", lambda m: m.encode(x)
    if _can(model, Decodes):
        yield "decode", lambda m: m.decode(m.sample_latent(NUM))
    if _can(model, SamplesDifferentiably):
        yield "rsample", lambda m: m.rsample(NUM)


def _check_repeats(name: str, compute: Compute, model: GenerativeModel, other: GenerativeModel, what: str) -> None:
    """Under one seed a second call gives the same, and so does the instance that a checkpoint was loaded into."""
    results: list[Tensor] = []
    for each in (model.eval(), model, other.eval()):
        seed(4)
        with torch.no_grad():
            results.append(compute(each))
    assert torch.equal(results[0], results[1]), f"{what}: {name} does not follow the global seed in evaluation mode"
    assert torch.equal(results[0], results[2]), f"{what}: a checkpoint does not say all that {name} depends on"


def _check_gradients(model: GenerativeModel, x: Tensor, what: str) -> None:
    """Each parameter moves something that the model can do."""
    model.train().zero_grad(set_to_none=True)
    results = [compute(model) for _, compute in _computations(model, x)]
    total = sum(result.square().mean() for result in results if result.requires_grad)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if parameters and results:
        assert isinstance(total, Tensor), f"{what}: nothing that it can do depends on its parameters"
        total.backward()
        check_gradients(model, parameters, what)


def _check_float64(model: GenerativeModel, x: Tensor, what: str) -> None:
    exact = copy.deepcopy(model).double()
    for name, compute in _computations(exact, x.double()):
        try:
            with torch.no_grad():
                result = compute(exact)
        except RuntimeError as error:
            raise AssertionError(f"{what}: after double() {name} of float64 fails: {error}") from error
        assert torch.isfinite(result).all(), f"{what}: after double() {name} is not finite"


def _check_log_prob(model: HasLogProb, x: Tensor, spec: DataSpec, what: str) -> None:
    result = model.log_prob(x)
    assert result.nats.shape == (len(x),), f"{what}: log_prob has shape {tuple(result.nats.shape)}, not (B,)"
    assert torch.isfinite(result.nats).all(), f"{what}: log_prob is not finite"
    if result.measure == "probability":
        assert spec.levels is not None, f"{what}: log_prob calls itself a probability, and the data is continuous"
        assert (result.nats <= 0).all(), f"{what}: a probability above 1"
    assert spec.describe_values() in result.tag(spec), f"{what}: the tag of log_prob does not say what the values are"


def _check_latent_variable(model: LatentVariable, x: Tensor, what: str) -> None:
    q, p = model.posterior(x), model.prior()
    z = q.rsample()
    assert z.requires_grad, f"{what}: posterior samples carry no gradient"
    with nothing_drawn(f"{what}: a density"):
        densities = {"q(z|x)": q.log_prob(z), "p(z)": p.log_prob(z), "p(x|z)": model.likelihood(z).log_prob(x)}
    for name, density in densities.items():
        assert density.shape == (len(x),), f"{what}: log {name} has shape {tuple(density.shape)}, not (B,)"
        assert torch.isfinite(density).all(), f"{what}: log {name} is not finite"


def _check_decodes(model: Decodes, spec: DataSpec, what: str) -> None:
    seed(1)
    z = model.sample_latent(NUM)
    seed(1)
    assert torch.equal(z, model.sample_latent(NUM)), f"{what}: sample_latent does not follow the global seed"
    assert z.shape == (NUM, *model.latent_shape), f"{what}: latents have shape {tuple(z.shape)}"
    with unchanged({"z": z}, what):
        x = model.decode(z)
    assert x.shape == (NUM, *spec.shape), f"{what}: decode gives shape {tuple(x.shape)}, not {(NUM, *spec.shape)}"
    assert torch.isfinite(x).all(), f"{what}: decode is not finite"
    seed(1)
    narrow = model.sample_latent(NUM, temperature=0.0)
    assert narrow.std(dim=0).max() < 1e-6, f"{what}: at temperature 0 latents still differ"


def _check_rsample_with_log_prob(model: SamplesWithLogProb, what: str) -> None:
    assert isinstance(model, GenerativeModel)
    x, log_prob = model.rsample_with_log_prob(NUM)
    assert log_prob.shape == (NUM,), f"{what}: densities of samples have shape {tuple(log_prob.shape)}, not (N,)"
    if isinstance(model, HasLogProb) and HasLogProb not in model.withheld:
        expected = model.log_prob(x).nats
        agree = torch.allclose(log_prob, expected, rtol=1e-3, atol=1e-3)
        assert agree, f"{what}: samples come with other densities than log_prob gives them"


def _check_rsample(model: SamplesDifferentiably, what: str) -> None:
    assert isinstance(model, GenerativeModel)
    model.zero_grad(set_to_none=True)
    x = model.rsample(NUM)
    assert x.shape == (NUM, *model.spec.shape), f"{what}: rsample gives shape {tuple(x.shape)}"
    x.square().sum().backward()
    moved = list(model.sampling_parameters())
    assert moved, f"{what}: samples depend on no parameter"
    check_gradients(model, moved, f"{what}, rsample")
