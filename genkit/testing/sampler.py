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
from genkit.testing.common import examples, made_up, models_for, views_for
from genkit.testing.component import contract, refused
from genkit.testing.keeping import seed, unchanged, unseeded, untouched

NUM = 5


@contract
def check_sampler(build: Factory[Sampler]) -> None:
    """Checks a sampler with every installed model that has what it requires; there must be one.

    Shapes for several numbers of samples, finite values, variety, determinism under the global seed and other samples
    under another; model, objective and torch's settings stay as they are.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    tried = 0
    for name, model in models_for(build):
        objective = objective_for(model)
        if objective is None or refused(lambda model=model, objective=objective: build(model, objective)):
            continue
        tried += 1
        what = f"{build.name} with {name}"
        kept = {**model.eval().state_dict(), **objective.eval().state_dict()}
        with untouched(what), unchanged(kept, what, "drawing changes the model or the objective"):
            with unseeded(what):
                sampler = build(model, objective)
            fit(sampler, model)
            _check_draws(sampler, model, what)
        modes = [part.training for owner in (model, objective) for part in owner.modules()]
        assert not any(modes), f"{what}: drawing leaves the model or the objective in training mode"
    assert tried, f"no installed model has what {build.name} requires"


def _check_draws(sampler: Sampler, model: GenerativeModel, what: str) -> None:
    first, again, other = _draw(sampler), _draw(sampler), _draw(sampler, 1, seed=3)
    _check_samples(first, NUM, model, what)
    assert torch.equal(first.x, again.x), f"{what}: samples do not follow the global seed"
    assert not torch.equal(first.x[0], first.x[1]), f"{what}: all samples are alike"
    _check_samples(other, 1, model, what)
    same = torch.equal(first.x[0], other.x[0])
    assert not same, f"{what}: another seed gives the same samples; draw with torch's global generator"


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
        build = examples(kind, installed().written(registration))[0]
        if not lacking(model, requirements(build)):
            return build
    return None


def fit(sampler: Sampler, model: GenerativeModel) -> None:
    """Shows a sampler that must see data some that are made up."""
    if sampler.fitted:
        seed(6)
        with torch.no_grad():
            sampler.fit(views_for(model))


def _draw(sampler: Sampler, num_samples: int = NUM, *, seed: int = 2) -> Samples:
    with torch.no_grad(), unseeded("sample", seed):
        return sampler.sample(num_samples)


def _check_samples(samples: Samples, num_samples: int, model: GenerativeModel, what: str) -> None:
    wanted = (num_samples, *model.spec.shape)
    for name, values in (("samples", samples.x), ("means", samples.mean)):
        if values is None:
            continue
        assert values.shape == wanted, f"{what}: {name} have shape {tuple(values.shape)}, not {wanted}"
        assert torch.isfinite(values).all(), f"{what}: {name} are not finite"
