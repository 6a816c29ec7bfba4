"""The contract of models."""

from __future__ import annotations

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import DataSpec
from genkit.model import (
    Decodes,
    Encodes,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    SamplesDifferentiably,
    SamplesWithLogProb,
)
from genkit.testing.common import SPECS, check_gradients, check_state_round_trip, data_like, small_model

NUM = 5


def check_model(build: Factory[GenerativeModel]) -> None:
    """Checks a model, and every capability it declares, on each kind of data that it serves; it must serve one."""
    served = {name: spec for name, spec in SPECS.items() if small_model(build, spec) is not None}
    assert served, f"{build.name} refuses all of: {', '.join(SPECS)}"
    for name, spec in served.items():
        what = f"{build.name} on {name}"
        model = small_model(build, spec)
        assert model is not None
        assert model.spec == spec, f"{what}: call super().__init__(spec)"
        x = data_like(spec, NUM)
        before = x.clone()
        _check_capabilities(model, x, what)
        assert torch.equal(x, before), f"{what}: the caller's tensor was changed"
        check_state_round_trip(model, lambda spec=spec: build(spec), what)


def _check_capabilities(model: GenerativeModel, x: Tensor, what: str) -> None:
    for capability, reason in model.withheld.items():
        assert isinstance(model, capability), f"{what}: withholds {capability.__name__}, which its class has not"
        assert reason, f"{what}: withholds {capability.__name__} without a reason"
    if isinstance(model, HasLogProb) and HasLogProb not in model.withheld:
        _check_log_prob(model, x, model.spec, what)
    if isinstance(model, LatentVariable) and LatentVariable not in model.withheld:
        _check_latent_variable(model, x, what)
    if isinstance(model, Decodes) and Decodes not in model.withheld:
        _check_decodes(model, model.spec, what)
        if isinstance(model, Encodes) and Encodes not in model.withheld:
            z = model.encode(x)
            assert z.shape == (NUM, *model.latent_shape), f"{what}: encode gives shape {tuple(z.shape)}"
    if isinstance(model, SamplesDifferentiably) and SamplesDifferentiably not in model.withheld:
        _check_rsample(model, what)
    if isinstance(model, SamplesWithLogProb) and SamplesWithLogProb not in model.withheld:
        _check_rsample_with_log_prob(model, what)


def _check_log_prob(model: HasLogProb, x: Tensor, spec: DataSpec, what: str) -> None:
    result = model.log_prob(x)
    assert result.nats.shape == (len(x),), f"{what}: log_prob has shape {tuple(result.nats.shape)}, not (B,)"
    assert torch.isfinite(result.nats).all(), f"{what}: log_prob is not finite"
    if result.measure == "probability":
        assert (result.nats <= 0).all(), f"{what}: a probability above 1"
    assert spec.describe_values() in result.tag(spec)


def _check_latent_variable(model: LatentVariable, x: Tensor, what: str) -> None:
    q, p = model.posterior(x), model.prior()
    z = q.rsample()
    assert z.requires_grad, f"{what}: posterior samples carry no gradient"
    densities = {"q(z|x)": q.log_prob(z), "p(z)": p.log_prob(z), "p(x|z)": model.likelihood(z).log_prob(x)}
    for name, density in densities.items():
        assert density.shape == (len(x),), f"{what}: log {name} has shape {tuple(density.shape)}, not (B,)"
        assert torch.isfinite(density).all(), f"{what}: log {name} is not finite"


def _check_decodes(model: Decodes, spec: DataSpec, what: str) -> None:
    torch.manual_seed(1)
    z = model.sample_latent(NUM)
    torch.manual_seed(1)
    assert torch.equal(z, model.sample_latent(NUM)), f"{what}: sample_latent does not follow the global seed"
    assert z.shape == (NUM, *model.latent_shape), f"{what}: latents have shape {tuple(z.shape)}"
    x = model.decode(z)
    assert x.shape == (NUM, *spec.shape), f"{what}: decode gives shape {tuple(x.shape)}"
    assert torch.isfinite(x).all(), f"{what}: decode is not finite"
    torch.manual_seed(1)
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
