"""The contract of evaluators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import SplitName, first_batch
from genkit.engine.assembly import SPLITS
from genkit.evaluator import Evaluator, Figure, Note, Picture, Subject
from genkit.model import GenerativeModel
from genkit.testing.common import made_up, models_for, views_for
from genkit.testing.component import contract, refused
from genkit.testing.keeping import equal, unchanged, unseeded, untouched
from genkit.testing.module import through_checkpoint
from genkit.testing.sampler import objective_for, sampler_for


@contract
def check_evaluator(build: Factory[Evaluator]) -> None:
    """Checks an evaluator with every installed model that it can judge; there must be one.

    Figures are finite and named apart, pictures are images in [0, 1], a second call under the same seed gives the
    same, what it remembers can be kept and given back; the model is not kept, and model, objective, data, modes and
    torch's settings are left as they were.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    tried = 0
    for name, model in models_for(build):
        if refused(lambda model=model: _prepared(build, model)):
            continue
        tried += 1
        what = f"{build.name} with {name}"
        with untouched(what), unseeded(f"{what}: the constructor"):
            evaluator = _prepared(build, model)
        keeps = any(value is model for value in getattr(evaluator, "__dict__", {}).values())
        assert not keeps, (
            f"{what}: it keeps the model; it is given the one to judge, perhaps a moving average, each time"
        )
        for split in evaluator.splits or (None,):
            assert split in (None, *SPLITS), f"{what}: there is no split {split!r}; there are {', '.join(SPLITS)}"
            _check_split(evaluator, model, split, what)
        _check_memory(evaluator, _prepared(build, model), what)
    assert tried, f"{build.name} can judge no installed model"


def _prepared(build: Factory[Evaluator], model: GenerativeModel) -> Evaluator:
    evaluator = build(model)
    evaluator.prepare(made_up(model.spec))
    return evaluator


def _check_split(evaluator: Evaluator, model: GenerativeModel, split: SplitName | None, what: str) -> None:
    subject = subject_for(model)
    data = {f"{name} data": first_batch(view, len(view)).x for name, view in subject.data.items()}
    kept = {**model.state_dict(), **subject.objective.state_dict()}
    with untouched(what), unchanged(kept, what, "the model was changed"), unchanged(data, what):
        results, again = _evaluate(evaluator, subject, split), _evaluate(evaluator, subject, split)
        for name, view in subject.data.items():
            same = equal(first_batch(view, len(view)).x, data[f"{name} data"])
            assert same, f"{what}: the {name} data were changed; work on a copy"
    modes = [part.training for owner in (model, subject.objective) for part in owner.modules()]
    assert not any(modes), f"{what}: it leaves the model or the objective in training mode"
    assert results, f"{what}: neither a figure nor a picture"
    for kind in (Figure, Picture):
        names = [result.name for result in results if isinstance(result, kind)]
        assert len(set(names)) == len(names), f"{what}: two results share a name: {names}"
    assert len(results) == len(again), f"{what}: {len(results)} results, and {len(again)} under the same seed"
    for result, other in zip(results, again, strict=True):
        _check_result(result, other, what)


def _check_memory(evaluator: Evaluator, fresh: Evaluator, what: str) -> None:
    """What it remembers is tensors under names that stay, and another instance takes it back."""
    state, empty = evaluator.state(), fresh.state()
    for name, value in state.items():
        assert isinstance(value, Tensor), f"{what}: {name} in its state is no tensor, so no checkpoint can hold it"
    assert state.keys() == empty.keys(), (
        f"{what}: its state has other names before the first call ({', '.join(empty)}) than after ({', '.join(state)})"
    )
    fresh.load_state(through_checkpoint(state))
    for name, value in fresh.state().items():
        assert equal(value, state[name]), f"{what}: {name} of its state does not survive a checkpoint"


def subject_for(model: GenerativeModel) -> Subject:
    """A small subject around a model: what an evaluator is given, with made-up data."""
    objective = objective_for(model)
    assert objective is not None, "no installed objective serves this model"
    sampler, dataset = sampler_for(model, objective), made_up(model.spec)
    assert sampler is not None, "no installed sampler serves this model"
    return Subject(model.eval(), objective.eval(), sampler, dataset, views_for(model), epoch=1, batch_size=10)


def _evaluate(evaluator: Evaluator, subject: Subject, split: SplitName | None) -> list[Figure | Picture]:
    with torch.no_grad(), unseeded(type(evaluator).__name__, 4):
        results = list(evaluator.evaluate(subject, split))
    return [result for result in results if not isinstance(result, Note)]


def _check_result(result: Figure | Picture, again: Figure | Picture, what: str) -> None:
    if isinstance(result, Figure):
        assert isinstance(again, Figure)
        assert math.isfinite(result.value), f"{what}: figure {result.name!r} is {result.value}"
        assert result.value == again.value, f"{what}: figure {result.name!r} does not follow the global seed"
    else:
        assert isinstance(again, Picture)
        assert result.image.dim() == 3, f"{what}: a picture has shape {tuple(result.image.shape)}, not (C, H, W)"
        assert result.image.shape[0] in (1, 3), f"{what}: a picture has {result.image.shape[0]} channels"
        assert 0 <= result.image.min() <= result.image.max() <= 1, f"{what}: a picture leaves [0, 1]"
        assert torch.equal(result.image, again.image), f"{what}: a picture does not follow the global seed"
