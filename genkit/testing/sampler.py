"""The contract of samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.errors import RecipeError
from genkit.model import Decodes, GenerativeModel, LatentVariable, SamplesDifferentiably, lacking
from genkit.objective import Objective
from genkit.recipe.check import requirements
from genkit.sampler import Sampler, Samples
from genkit.testing.common import Bystanders, made_up, models_for, views_for
from genkit.testing.component import contract, refused
from genkit.testing.keeping import seed, unchanged, unseeded, untouched

NUM = 5
MANY = 64
SLACK = 1e-4
"""How far rounding may take an image out of [0, 1]."""
T = TypeVar("T")


@contract
def check_sampler(build: Factory[Sampler]) -> None:
    """Checks a sampler with every installed model that has what it requires; there must be one.

    Shapes for several numbers of samples, finite values in single precision, images in [0, 1] (or near the model's
    own draws, where they leave it), variety, determinism under the global seed and other samples under another; model,
    objective and torch's settings stay as they are.

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
    """The first installed objective that serves a model, prepared; genkit's own come first."""

    def prepared(build: Factory[Objective]) -> Objective:
        objective = build(model)
        objective.prepare(made_up(model.spec))
        return objective

    return _first("objective", model, prepared)


def sampler_for(model: GenerativeModel, objective: Objective) -> Sampler | None:
    """The first installed sampler that serves a model, fitted; genkit's own come first."""

    def fitted(build: Factory[Sampler]) -> Sampler:
        sampler = build(model, objective)
        fit(sampler, model)
        return sampler

    return _first("sampler", model, fitted)


def _first(kind: str, model: GenerativeModel, make: Callable[[Factory[Any]], T]) -> T | None:
    """What is made of the first that serves a model; one that does not work is left out, with a warning."""
    bystanders, made = Bystanders(), None
    for build in bystanders.of(kind):
        if not lacking(model, requirements(build)):
            made = bystanders.ask(f"{kind} {build}", lambda build=build: _unless_refused(lambda: make(build)))
        if made is not None:
            break
    bystanders.tell()
    return made


def _unless_refused(make: Callable[[], T]) -> T | None:
    try:
        return make()
    except (RecipeError, ValueError):
        return None


def fit(sampler: Sampler, model: GenerativeModel) -> None:
    """Shows a sampler that must see data some that are made up."""
    if sampler.fitted:
        seed(6)
        with torch.no_grad():
            sampler.fit(views_for(model))


def _draw(sampler: Sampler, num_samples: int = NUM, *, seed: int = 2) -> Samples:
    with torch.no_grad(), unseeded("sample", seed):
        drawn = sampler.sample(num_samples)
    assert isinstance(drawn, Samples), f"sample gives a {type(drawn).__name__}; Samples are wanted, Samples(x)"
    return drawn


def _check_samples(samples: Samples, num_samples: int, model: GenerativeModel, what: str) -> None:
    wanted = (num_samples, *model.spec.shape)
    for name, values in (("samples", samples.x), ("means", samples.mean)):
        if values is None:
            continue
        assert values.shape == wanted, f"{what}: {name} have shape {tuple(values.shape)}, not {wanted}"
        assert values.dtype == torch.float32, f"{what}: {name} are {values.dtype}, not float32"
        assert torch.isfinite(values).all(), f"{what}: {name} are not finite"
        if model.spec.is_image:
            low, high = _image_range(model)
            inside = low - SLACK <= values.min() <= values.max() <= high + SLACK
            assert inside, f"{what}: {name} leave the images' range, here [{low:.3g}, {high:.3g}]"


def _image_range(model: GenerativeModel) -> tuple[float, float]:
    """From 0 to 1; for a model whose own draws leave it, as normal noise does, as wide as they may get."""
    seed(7)
    draws: list[Tensor] = []
    with torch.no_grad():
        if not lacking(model, (SamplesDifferentiably,)):
            draws.append(cast("SamplesDifferentiably", model).rsample(MANY))
        if not lacking(model, (Decodes,)):
            decoder = cast("Decodes", model)
            draws.append(decoder.decode(decoder.sample_latent(MANY)))
        if not lacking(model, (LatentVariable,)):
            joint = cast("LatentVariable", model)
            draws.append(joint.likelihood(joint.prior().sample((MANY,))).sample())
    low, high = min([0.0, *(x.min().item() for x in draws)]), max([1.0, *(x.max().item() for x in draws)])
    if -SLACK <= low <= high <= 1 + SLACK:
        return 0.0, 1.0
    return 2 * low - high, 2 * high - low  # three times as wide: another draw may go further
