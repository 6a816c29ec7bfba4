"""The contract of evaluators."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import SplitName, first_batch
from genkit.engine.assembly import SPLITS
from genkit.evaluator import Evaluator, Figure, Note, Picture, Subject
from genkit.model import Capability, GenerativeModel, HasLogProb, lacking
from genkit.testing.common import data_like, made_up, models_for, views_for
from genkit.testing.component import contract, refused
from genkit.testing.keeping import equal, unchanged, unseeded, untouched
from genkit.testing.module import through_checkpoint
from genkit.testing.sampler import objective_for, sampler_for

LEVELS = 2
"""Containers in containers that are searched for a model that is kept."""


@contract
def check_evaluator(build: Factory[Evaluator]) -> None:
    """Checks an evaluator with installed models that it can judge, one of each sort on each kind of data.

    Of one sort are models of one class that can do the same. There must be one that it can judge.

    Figures are finite and named apart, pictures are images in [0, 1], a second call under the same seed gives the
    same, what it remembers can be kept and given back, and one that takes it back judges the next models as one that
    went on; the model is not kept, in containers neither, and model, objective, data, modes and torch's settings are
    left as they were.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    tried: set[tuple[object, ...]] = set()
    judged: list[tuple[GenerativeModel, str]] = []
    for name, model in models_for(build):
        if _sort(model) in tried or refused(lambda model=model: _prepared(build, model)):
            continue
        tried.add(_sort(model))
        what = f"{build.name} with {name}"
        with untouched(what), unseeded(f"{what}: the constructor"):
            evaluator = _prepared(build, model)
        keeps = any(value is model for value in _within(getattr(evaluator, "__dict__", {}), LEVELS))
        assert not keeps, (
            f"{what}: it keeps the model; it is given the one to judge, perhaps a moving average, each time"
        )
        for split in evaluator.splits or (None,):
            assert split in (None, *SPLITS), f"{what}: there is no split {split!r}; there are {', '.join(SPLITS)}"
            _check_split(evaluator, model, split, what)
        _check_memory(evaluator, _prepared(build, model), what)
        judged.append((model, what))
    assert tried, f"{build.name} can judge no installed model"
    _check_resumed(build, *min(judged, key=lambda found: found[0].spec.num_dims))


def _sort(model: GenerativeModel) -> tuple[object, ...]:
    """What models have in common that an evaluator can tell apart by their class, by what they can do and by tags."""
    lacks = lacking(model, tuple(kind for kind in type(model).__mro__ if issubclass(kind, Capability)))
    return type(model), tuple(lacks), model.spec, "" if HasLogProb.__name__ in lacks else _tag(model)


def _tag(model: GenerativeModel) -> str:
    """What the model's log-likelihoods are; empty if it has none or fails, which is no fault of the evaluator."""
    if not isinstance(model, HasLogProb):
        return ""
    try:
        with torch.no_grad():
            return copy.deepcopy(model).eval().log_prob(data_like(model.spec, 2)).tag(model.spec)
    except Exception:
        return ""


def _within(value: object, levels: int) -> Iterator[object]:
    """What lies in a list, tuple, set or mapping, and in those in it."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple | set) else ()
    for item in items:
        yield item
        if levels > 0:
            yield from _within(item, levels - 1)


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


def _check_resumed(build: Factory[Evaluator], model: GenerativeModel, what: str) -> None:
    """One that takes back what another remembers judges the next model as that one does."""
    evaluator, fresh = _prepared(build, model), _prepared(build, model)
    split = evaluator.splits[0] if evaluator.splits else None
    # the last lies between those before it, so that neither a best nor a worst value hides that it is forgotten
    first, second, last = (subject_for(_scaled(model, factor)) for factor in (0.5, 1.5, 1.0))
    for subject in (first, second):
        _evaluate(evaluator, subject, split)
    fresh.load_state(through_checkpoint(evaluator.state()))
    went_on, resumed = _evaluate(evaluator, last, split), _evaluate(fresh, last, split)
    assert [_content(result) for result in went_on] == [_content(result) for result in resumed], (
        f"{what}: after a checkpoint it judges otherwise than one that went on; keep in state() all that it remembers"
    )


def _content(result: Figure | Picture) -> tuple[str, object]:
    return result.name, repr(result.value) if isinstance(result, Figure) else result.image.tolist()


def _scaled(model: GenerativeModel, factor: float) -> GenerativeModel:
    """The model as it may be after more training: with all parameters smaller or larger."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(factor)
    return other


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
        assert isinstance(result, Picture), (
            f"{what}: it gives {type(result).__name__}, where a Figure, a Picture or a Note is wanted"
        )
        assert isinstance(again, Picture)
        assert result.image.dim() == 3, f"{what}: a picture has shape {tuple(result.image.shape)}, not (C, H, W)"
        assert result.image.shape[0] in (1, 3), f"{what}: a picture has {result.image.shape[0]} channels"
        assert 0 <= result.image.min() <= result.image.max() <= 1, f"{what}: a picture leaves [0, 1]"
        assert torch.equal(result.image, again.image), f"{what}: a picture does not follow the global seed"
