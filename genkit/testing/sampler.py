"""The contract of samplers."""

from __future__ import annotations

from typing import Any

import torch

from genkit.component import Factory
from genkit.model import GenerativeModel, lacking
from genkit.objective import Objective
from genkit.recipe.check import requirements
from genkit.registry import installed
from genkit.sampler import Sampler, Samples
from genkit.testing.common import examples, made_up, models_for, refused, views_for

NUM = 5


def check_sampler(build: Factory[Sampler]) -> None:
    """Checks a sampler with every installed model that has what it requires; there must be one.

    Shapes, finite values, determinism under the global seed, and variety.
    """
    tried = 0
    for name, model in models_for(build):
        objective = objective_for(model)
        if objective is None or refused(lambda model=model, objective=objective: build(model, objective)):
            continue
        tried += 1
        what = f"{build.name} with {name}"
        sampler = build(model, objective)
        fit(sampler, model)
        first, again = _draw(sampler), _draw(sampler)
        _check_samples(first, model, what)
        assert torch.equal(first.x, again.x), f"{what}: samples do not follow the global seed"
        assert not torch.equal(first.x[0], first.x[1]), f"{what}: all samples are alike"
    assert tried, f"no installed model has what {build.name} requires"


def objective_for(model: GenerativeModel) -> Objective | None:
    """The first installed objective that serves a model."""
    build = _serving("objective", model)
    objective = None if build is None else build(model)
    if objective is not None:
        objective.prepare(made_up(model.spec))
    return objective


def sampler_for(model: GenerativeModel, objective: Objective) -> Sampler | None:
    """The first installed sampler that serves a model, fitted."""
    build = _serving("sampler", model)
    if build is None:
        return None
    sampler = build(model, objective)
    fit(sampler, model)
    return sampler


def _serving(kind: str, model: GenerativeModel) -> Factory[Any] | None:
    for registration in installed().components(kind):
        build = examples(kind, registration.name)[0]
        if not lacking(model, requirements(build)):
            return build
    return None


def fit(sampler: Sampler, model: GenerativeModel) -> None:
    """Shows a sampler that must see data some that are made up."""
    if sampler.fitted:
        torch.manual_seed(6)
        with torch.no_grad():
            sampler.fit(views_for(model))


def _draw(sampler: Sampler) -> Samples:
    torch.manual_seed(2)
    with torch.no_grad():
        return sampler.sample(NUM)


def _check_samples(samples: Samples, model: GenerativeModel, what: str) -> None:
    for name, values in (("samples", samples.x), ("means", samples.mean)):
        if values is None:
            continue
        assert values.shape == (NUM, *model.spec.shape), f"{what}: {name} have shape {tuple(values.shape)}"
        assert torch.isfinite(values).all(), f"{what}: {name} are not finite"
