"""A component that breaks its contract is caught by the check that is meant for it."""

import pytest
import torch
from torch import nn

from genkit import (
    Backbone,
    Batch,
    Dataset,
    DataSpec,
    Evaluator,
    Factory,
    Figure,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    LogProb,
    Loss,
    Objective,
    Picture,
    Sampler,
    Samples,
    Split,
    Turn,
    testing,
)


def named(cls):
    return Factory("broken", {}, cls)


class WrongShape(Backbone):
    def __init__(self, in_shape, out_shape, /):
        super().__init__()
        if len(in_shape) != 1 or len(out_shape) != 1:
            raise ValueError("vectors only")
        self.linear = nn.Linear(in_shape[0], out_shape[0])

    def forward(self, x, context=None):
        if context is not None:
            raise ValueError("no context")
        return self.linear(x)[:, 1:]


class Unused(WrongShape):
    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.extra = nn.Linear(1, 1)

    def forward(self, x, context=None):
        return self.linear(x)


class InPlace(WrongShape):
    def forward(self, x, context=None):
        return self.linear(x.mul_(2))


class Noisy(WrongShape):
    def forward(self, x, context=None):
        return self.linear(x) + torch.randn(x.shape[0], 1)


class MixesExamples(WrongShape):
    def forward(self, x, context=None):
        return self.linear(x - x.mean(0))


class IgnoresContext(WrongShape):
    def forward(self, x, context=None):
        return self.linear(x)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongShape, "output has shape"),
        (Unused, "no gradient reaches extra"),
        (InPlace, "caller's tensor was changed"),
        (Noisy, "two calls in evaluation mode differ"),
        (MixesExamples, "depends on the rest of the batch"),
        (IgnoresContext, "a context is ignored"),
    ],
)
def test_broken_backbone_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_backbone(named(cls))


class SummedLogProb(GenerativeModel, HasLogProb):
    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(x.sum(), "exact", "density")


class AboveOne(GenerativeModel, HasLogProb):
    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(x.flatten(1).sum(1).abs() + 1, "exact", "probability")


class ForgetsSpec(GenerativeModel):
    def __init__(self, spec, /):
        super().__init__(DataSpec((1,)))


@pytest.mark.parametrize(
    ("cls", "message"),
    [(SummedLogProb, "log_prob has shape"), (AboveOne, "above 1"), (ForgetsSpec, "call super")],
)
def test_broken_model_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_model(named(cls))


class KeepsModel(Objective):
    requires = (LatentVariable,)

    def __init__(self, model, /):
        super().__init__()
        self.model = model

    def players(self, model):
        return {"model": list(model.parameters())}

    def turns(self, model):
        return [Turn("model", "model", lambda batch, progress: Loss(self.loss(model, batch)))]

    def loss(self, model, batch: Batch):
        return -model.log_prob(batch.x).nats.mean()


class OfTheBatch(KeepsModel):
    def __init__(self, model, /):
        Objective.__init__(self)

    def loss(self, model, batch):
        return -model.log_prob(batch.x).nats


class UnknownPlayer(OfTheBatch):
    def players(self, model):
        return {"critic": list(model.parameters())}


class Halfway(OfTheBatch):
    def loss(self, model, batch):
        return model.encode(batch.x).square().mean()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (KeepsModel, "keeps the model"),
        (OfTheBatch, "loss has shape"),
        (UnknownPlayer, "no player is called 'model'"),
        (Halfway, "no gradient reaches decoder"),
    ],
)
def test_broken_objective_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_objective(named(cls))


class OwnGenerator(Sampler):
    def __init__(self, model, objective, /):
        self.shape = model.spec.shape
        self.generator = torch.Generator()

    def sample(self, num_samples, context=None):
        return Samples(torch.rand(num_samples, *self.shape, generator=self.generator))


class AllAlike(OwnGenerator):
    def sample(self, num_samples, context=None):
        return Samples(torch.zeros(num_samples, *self.shape))


@pytest.mark.parametrize(
    ("cls", "message"), [(OwnGenerator, "do not follow the global seed"), (AllAlike, "all samples are alike")]
)
def test_broken_sampler_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_sampler(named(cls))


class NotFinite(Evaluator):
    def __init__(self, model, /):
        pass

    def evaluate(self, subject, split):
        return [Figure(float("nan"))]


class TwiceTheName(NotFinite):
    def evaluate(self, subject, split):
        return [Figure(1.0), Figure(2.0)]


class TooBright(NotFinite):
    def evaluate(self, subject, split):
        return [Picture(torch.full((3, 2, 2), 2.0))]


class Trains(NotFinite):
    def evaluate(self, subject, split):
        next(subject.model.parameters()).add_(1)
        return [Figure(1.0)]


@pytest.mark.parametrize(
    ("cls", "message"),
    [(NotFinite, "is nan"), (TwiceTheName, "share a name"), (TooBright, "leaves"), (Trains, "was changed")],
)
def test_broken_evaluator_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_evaluator(named(cls))


class Plain(Dataset):
    values = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)

    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=2)

    def split(self, name):
        return Split(self.values, torch.Tensor.float) if name == "train" else None


class OffLevel(Plain):
    values = torch.full((4, 1, 2, 2), 0.3)


class AnotherShape(Plain):
    values = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)


class Restless(Plain):
    def split(self, name):
        return Split(torch.rand(4, 1, 2, 2).round(), torch.Tensor.float)


class SaysLabels(Plain):
    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=2, num_classes=3)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OffLevel, "not on 2 levels"),
        (AnotherShape, "the spec says"),
        (Restless, "not the same the second time"),
        (SaysLabels, "disagree about labels"),
    ],
)
def test_broken_dataset_is_caught(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_dataset(named(cls))


def test_sound_dataset_passes():
    testing.check_dataset(named(Plain))
