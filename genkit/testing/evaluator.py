"""The contract of evaluators."""

from __future__ import annotations

import math

import torch

from genkit.component import Factory
from genkit.dataset import SplitName
from genkit.evaluator import Evaluator, Figure, Note, Picture, Subject
from genkit.model import GenerativeModel
from genkit.testing.common import made_up, models_for, refused, views_for
from genkit.testing.sampler import objective_for, sampler_for


def check_evaluator(build: Factory[Evaluator]) -> None:
    """Checks an evaluator with every installed model that it can judge; there must be one.

    Figures are finite and named apart, pictures are images in [0, 1], a second call under the same seed gives the
    same, and the model is left as it was.
    """
    tried = 0
    for name, model in models_for(build):
        if refused(lambda model=model: _prepared(build, model)):
            continue
        tried += 1
        evaluator, what = _prepared(build, model), f"{build.name} with {name}"
        for split in evaluator.splits or (None,):
            _check_split(evaluator, model, split, what)
    assert tried, f"{build.name} can judge no installed model"


def _prepared(build: Factory[Evaluator], model: GenerativeModel) -> Evaluator:
    evaluator = build(model)
    evaluator.prepare(made_up(model.spec))
    return evaluator


def _check_split(evaluator: Evaluator, model: GenerativeModel, split: SplitName | None, what: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = subject_for(model)
    results, again = _evaluate(evaluator, subject, split), _evaluate(evaluator, subject, split)
    assert results, f"{what}: neither a figure nor a picture"
    for kind in (Figure, Picture):
        names = [result.name for result in results if isinstance(result, kind)]
        assert len(set(names)) == len(names), f"{what}: two results share a name: {names}"
    for result, other in zip(results, again, strict=True):
        _check_result(result, other, what)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{what}: {name} of the model was changed"


def subject_for(model: GenerativeModel) -> Subject:
    """A small subject around a model: what an evaluator is given, with made-up data."""
    objective = objective_for(model)
    assert objective is not None, "no installed objective serves this model"
    sampler, dataset = sampler_for(model, objective), made_up(model.spec)
    assert sampler is not None, "no installed sampler serves this model"
    return Subject(model.eval(), objective.eval(), sampler, dataset, views_for(model), epoch=1, batch_size=10)


def _evaluate(evaluator: Evaluator, subject: Subject, split: SplitName | None) -> list[Figure | Picture]:
    torch.manual_seed(4)
    with torch.no_grad():
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
