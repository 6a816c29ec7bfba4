"""A component that breaks its contract is caught by the check that is meant for it; a sound one passes."""

import importlib.metadata
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from genkit import (
    Backbone,
    Batch,
    Component,
    Dataset,
    DataSpec,
    Decodes,
    Encodes,
    Evaluator,
    Factory,
    Figure,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    Launcher,
    LogProb,
    Loss,
    Objective,
    Optimizer,
    Picture,
    Sampler,
    Samples,
    SamplesDifferentiably,
    Schedule,
    Split,
    Turn,
    UsageError,
    testing,
)
from genkit.dataset import HasEnergy, HasModes
from genkit.isolation import TORCH
from genkit.registry import load_registry


def named(cls, **options):
    return Factory("broken", options, cls)


def settings():
    return {setting.name: repr(setting.read()) for setting in TORCH}


@pytest.fixture(autouse=True)
def _world_stays():
    """Whatever a component does, a check leaves torch's settings and the global generators as they were."""
    before, states = settings(), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    yield
    assert settings() == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def caught(check, cls, message, **options):
    with pytest.raises(AssertionError, match=message):
        check(named(cls, **options))


# ---- what all kinds have in common, on backbones -----------------------------------------------------------------


class Plain(Backbone):
    """A sound backbone: a linear map of vectors.

    Args:
        bias: Whether there is one.
    """

    def __init__(self, in_shape, out_shape, /, *, bias: bool = True):
        super().__init__()
        if len(in_shape) != 1 or len(out_shape) != 1:
            raise ValueError("vectors only")
        self.linear = nn.Linear(in_shape[0], out_shape[0], bias=bias)

    @property
    def output_layer(self):
        return self.linear

    def forward(self, x, context=None):
        if context is not None:
            raise ValueError("no context")
        return self.linear(x)


class Nameless(Plain):
    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)


class Undescribed(Plain):
    """Says nothing of its options."""

    def __init__(self, in_shape, out_shape, /, *, bias: bool = True):
        super().__init__(in_shape, out_shape, bias=bias)


class NoSchema(Plain):
    """Takes anything."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Unwritable(Plain):
    """Takes what no recipe can write.

    Args:
        layer: A layer.
    """

    def __init__(self, in_shape, out_shape, /, *, layer: nn.Linear = None):
        super().__init__(in_shape, out_shape)


class NoExample(Plain):
    """Has an option without a default, and no example of it.

    Args:
        width: Some width.
    """

    def __init__(self, in_shape, out_shape, /, *, width: int):
        super().__init__(in_shape, out_shape)


class WrongExample(NoExample):
    """Has an example with an option that is not there.

    Args:
        width: Some width.
    """

    examples = ({"width": 1, "depth": 2},)

    def __init__(self, in_shape, out_shape, /, *, width: int):
        super().__init__(in_shape, out_shape, width=width)


class Empty(Plain):
    """Has no examples at all."""

    examples = ()

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Nameless, "has no docstring"),
        (Undescribed, "option 'bias' is not described"),
        (NoSchema, r"\*args and \*\*kwargs hide"),
        (Unwritable, "option 'layer' has type .* which no recipe can write"),
        (NoExample, "lacks width, which has no default"),
        (WrongExample, "has depth, which the constructor has not"),
        (Empty, r"examples is \(\): write a tuple of mappings"),
        (Backbone, "is the kind itself"),
    ],
)
@pytest.mark.parametrize("check", [testing.check_component, testing.check_backbone])
def test_what_no_kind_may_do_is_caught(check, cls, message):
    caught(check, cls, message)


class Same(Plain):
    """A sound child of a sound backbone."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)


class ChangesDtype(Same):
    """Changes torch's default dtype in its constructor."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        torch.set_default_dtype(torch.float64)


class ChangesDevice(Same):
    """Changes torch's default device in its constructor."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        torch.set_default_device("meta")


class TurnsGradientsOff(Same):
    """Turns gradients off when it is called."""

    def forward(self, x, context=None):
        torch.set_grad_enabled(False)
        return super().forward(x, context)


class Deterministic(Same):
    """Wants deterministic algorithms of everybody."""

    def forward(self, x, context=None):
        torch.use_deterministic_algorithms(True)
        return super().forward(x, context)


class Seeds(Same):
    """Seeds torch's global generator in its constructor."""

    def __init__(self, in_shape, out_shape, /):
        torch.manual_seed(0)
        super().__init__(in_shape, out_shape)


class SeedsNumpy(Same):
    """Seeds NumPy's global generator in its constructor."""

    def __init__(self, in_shape, out_shape, /):
        np.random.seed(0)
        super().__init__(in_shape, out_shape)


class SeedsWhenCalled(Same):
    """Seeds torch's global generator when it is called."""

    def forward(self, x, context=None):
        torch.manual_seed(0)
        return super().forward(x, context)


class OwnDraws(Same):
    """Starts from a generator that follows no seed."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        nn.init.normal_(self.linear.weight, generator=OwnDraws.generator)

    generator = torch.Generator()


class NotDry(Same):
    """Looks at its values when it is built, which the meta device has not."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.largest = self.linear.weight.max().item()


class TakesMemory(Same):
    """Builds on the CPU, whatever the device."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.linear = nn.Linear(in_shape[0], out_shape[0], device="cpu")


class Deaf(Same):
    """Does not pass modes on."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.norm = nn.BatchNorm1d(in_shape[0])

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x, context=None):
        return super().forward(x, context) + 0 * self.norm.weight.sum() + self.norm.bias.sum() + self.norm.weight.sum()


class Hides(Same):
    """Keeps layers in a plain list."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.layers = [nn.Linear(in_shape[0], in_shape[0])]

    def forward(self, x, context=None):
        return super().forward(self.layers[0](x), context)


class SinglePrecision(Same):
    """Has a part that stays in single precision, whatever it is told, and works around it."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.offset = nn.Buffer(torch.zeros(out_shape))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.offset = self.offset.float()
        return self


class LeavesBehind(Same):
    """Keeps a tensor that does not move."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.offset = torch.zeros(out_shape)

    def forward(self, x, context=None):
        return super().forward(x, context) + self.offset


class HardDevice(Same):
    """Makes a tensor on the CPU, whatever the device."""

    def forward(self, x, context=None):
        return super().forward(x, context) + torch.zeros(x.shape[0], 1, device="cpu")


class Forgets(Same):
    """Depends on a number that no state dict holds."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.offset = nn.Buffer(torch.zeros(()), persistent=False)
        self.calls = 0

    def train(self, mode=True):
        if mode:
            self.calls += 1
            self.offset.fill_(self.calls)
        return super().train(mode)

    def forward(self, x, context=None):
        return super().forward(x, context) + self.offset


class NoTensor(Same):
    """Has something in its state dict that is no tensor."""

    def get_extra_state(self):
        return {"made": "by hand"}

    def set_extra_state(self, state):
        pass


class Sparse(Same):
    """Has a tensor in its state dict that safetensors cannot hold."""

    __init__ = Same.__init__

    def get_extra_state(self):
        return torch.eye(3).to_sparse()

    def set_extra_state(self, state):
        pass


class Renames(Same):
    """Writes a state dict that it does not read."""

    def state_dict(self, *args, **kwargs):
        return {f"mine.{name}": value for name, value in super().state_dict(*args, **kwargs).items()}


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (ChangesDtype, "the constructor changes torch's default dtype from torch.float32 to torch.float64"),
        (ChangesDevice, "the constructor changes torch's default device from cpu to meta"),
        (TurnsGradientsOff, "changes torch's grad mode from True to False"),
        (Deterministic, "changes torch's deterministic algorithms from False to True"),
        (Seeds, "the constructor seeds torch's global generator"),
        (SeedsNumpy, "the constructor seeds numpy's global generator"),
        (SeedsWhenCalled, "seeds torch's global generator"),
        (OwnDraws, "two builds under one seed differ in linear.weight"),
        (NotDry, "the constructor fails on torch's meta device"),
        (TakesMemory, "takes memory on torch's meta device: parameter linear.weight lies on cpu"),
        (Deaf, r"(train|eval)\(\) does not reach .*norm"),
        (Hides, "layers hides a Linear in a plain list"),
        (SinglePrecision, r"double\(\) leaves offset at torch.float32"),
        (LeavesBehind, "a part stays behind: offset is a plain attribute"),
        (HardDevice, "a part stays behind: make tensors where the inputs are"),
        (Forgets, "a checkpoint does not say all that the output depends on"),
        (NoTensor, "_extra_state in the state dict is no tensor"),
        (Sparse, "its state does not survive a checkpoint"),
        (Renames, "its state does not survive a checkpoint"),
    ],
)
def test_what_no_module_may_do_is_caught(cls, message):
    caught(testing.check_backbone, cls, message)


class Shares(Same):
    """Sound: two names for one tensor, and a buffer that does not lie in one piece."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.again = self.linear
        self.table = nn.Buffer(torch.arange(6.0).view(2, 3).T)


class ZeroBranch(Same):
    """Sound: the branch of a residual network starts at zero."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.inner, self.branch = nn.Linear(out_shape[0], 8), nn.Linear(8, out_shape[0])
        nn.init.zeros_(self.branch.weight)
        nn.init.zeros_(self.branch.bias)

    @property
    def output_layer(self):
        return None

    def forward(self, x, context=None):
        y = super().forward(x, context)
        return y + self.branch(self.inner(y).tanh())


class ZeroOutput(ZeroBranch):
    """Sound: its output starts at zero."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)

    def forward(self, x, context=None):
        if context is not None:
            raise ValueError("no context")
        return self.branch(self.inner(self.linear(x)).tanh())


@pytest.mark.parametrize("cls", [Plain, Same, Shares, ZeroBranch, ZeroOutput])
def test_sound_backbone_passes(cls):
    testing.check_backbone(named(cls))


# ---- backbones ---------------------------------------------------------------------------------------------------


class WrongShape(Same):
    """Leaves an output out."""

    def forward(self, x, context=None):
        return super().forward(x, context)[:, 1:]


class Unused(Same):
    """Has a layer that it does not use."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.extra = nn.Linear(1, 1)


class InPlace(Same):
    """Works in the caller's tensor."""

    def forward(self, x, context=None):
        return self.linear(x.mul_(2))


class Noisy(Same):
    """Draws in evaluation mode."""

    def forward(self, x, context=None):
        return self.linear(x) + torch.randn(x.shape[0], 1)


class OwnNoise(Same):
    """Trains with noise that follows no seed."""

    generator = torch.Generator()

    def forward(self, x, context=None):
        y = super().forward(x, context)
        return y + torch.randn(y.shape, generator=OwnNoise.generator) if self.training else y


class MixesExamples(Same):
    """Looks at the whole batch."""

    def forward(self, x, context=None):
        return self.linear(x - x.mean(0))


class IgnoresContext(Same):
    """Takes a context and makes nothing of it."""

    def forward(self, x, context=None):
        return self.linear(x)


class IgnoresInput(Same):
    """The same output whatever the input."""

    def forward(self, x, context=None):
        y = super().forward(x, context)
        return y - y.detach() + self.linear.bias


class Constant(Same):
    """Learns an output, and does not look at the input."""

    def forward(self, x, context=None):
        return super().forward(torch.ones_like(x), context)


class Severs(Same):
    """Keeps gradients from its input."""

    def forward(self, x, context=None):
        return super().forward(x.detach(), context)


class Steepens(Same):
    """Has a gradient at the input that is infinite."""

    def forward(self, x, context=None):
        return super().forward(x + (x - x.detach()).abs().sqrt(), context)


class Masks(Same):
    """Has a gradient at the input that is zero."""

    def forward(self, x, context=None):
        return super().forward(x.detach() + 0 * x, context)


class StartsBroken(Same):
    """Divides by what is zero at its start."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x, context=None):
        return super().forward(x, context) / self.scale


class Counts(Same):
    """Changes a buffer of its own in evaluation mode."""

    def __init__(self, in_shape, out_shape, /):
        super().__init__(in_shape, out_shape)
        self.count = nn.Buffer(torch.zeros(()))

    def forward(self, x, context=None):
        self.count.add_(1)
        return super().forward(x, context)


class FloatsOut(Same):
    """Gives single precision, whatever it is given."""

    def forward(self, x, context=None):
        return super().forward(x, context).float()


class NotLast(Same):
    """Names an output layer that is not the last."""

    def forward(self, x, context=None):
        return super().forward(x, context) + 1


class Foreign(Same):
    """Names an output layer that is no part of it."""

    @property
    def output_layer(self):
        return nn.Linear(1, 1)


class Picky(Same):
    """Refuses everything."""

    def __init__(self, in_shape, out_shape, /):
        raise ValueError("nothing fits")


class Silent(Same):
    """Refuses everything and does not say why."""

    def __init__(self, in_shape, out_shape, /):
        raise ValueError


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongShape, r"the output has shape \(4, 3\), not \(4, 4\)"),
        (Unused, "no gradient reaches extra"),
        (InPlace, "caller's tensor was changed: x"),
        (Noisy, "evaluation draws random numbers"),
        (OwnNoise, "training mode does not follow the global seed"),
        (MixesExamples, "depends on the rest of the batch"),
        (IgnoresContext, "a context is ignored"),
        (IgnoresInput, "other inputs give the same output"),
        (Constant, "no gradient reaches the input"),
        (Severs, "no gradient reaches the input"),
        (Steepens, "the gradient of the input is not finite"),
        (Masks, "the gradient of the input is zero"),
        (StartsBroken, "at its start the output is not finite"),
        (Counts, "evaluation mode changes the network itself: count"),
        (FloatsOut, "float64 in, torch.float32 out"),
        (NotLast, "the output is not zero"),
        (Foreign, "output_layer is no part of the network"),
        (Picky, "refuses every pair of shapes"),
    ],
)
def test_broken_backbone_is_caught(cls, message):
    caught(testing.check_backbone, cls, message)


# ---- models ------------------------------------------------------------------------------------------------------


class Normals(GenerativeModel, HasLogProb, Decodes, Encodes, SamplesDifferentiably):
    """A sound model of continuous vectors: independent normals."""

    def __init__(self, spec, /):
        super().__init__(spec)
        if spec.is_image or spec.levels is not None:
            raise ValueError("continuous vectors only")
        self.mean = nn.Parameter(torch.zeros(spec.shape))
        self.log_std = nn.Parameter(torch.zeros(spec.shape))

    @property
    def latent_shape(self):
        return self.spec.shape

    def log_prob(self, x, context=None, num_samples=1):
        normal = torch.distributions.Normal(self.mean, self.log_std.exp(), validate_args=False)
        return LogProb(normal.log_prob(x).sum(1), "exact", "density")

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.randn(
            num_samples, *self.latent_shape, dtype=self.mean.dtype, device=self.mean.device
        )

    def decode(self, z, context=None):
        return self.mean + self.log_std.exp() * z

    def encode(self, x, context=None):
        return (x - self.mean) / self.log_std.exp()

    def sampling_parameters(self):
        return [self.mean, self.log_std]

    def rsample(self, num_samples, context=None):
        return self.decode(self.sample_latent(num_samples))


def test_sound_model_passes():
    testing.check_model(named(Normals))


class SummedLogProb(Normals):
    """One figure for the whole batch."""

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(x.sum(), "exact", "density")


class AboveOne(GenerativeModel, HasLogProb):
    """Probabilities above 1."""

    def __init__(self, spec, /):
        super().__init__(spec)
        if spec.levels is None:
            raise ValueError("discrete data only")

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(x.flatten(1).sum(1).abs() + 1, "exact", "probability")


class CallsItProbability(Normals):
    """Calls a density a probability."""

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(super().log_prob(x).nats - 100, "exact", "probability")


class ForgetsSpec(GenerativeModel):
    """Has another spec than it is given."""

    def __init__(self, spec, /):
        super().__init__(DataSpec((1,)))


class Idle(Normals):
    """Has a parameter that nothing depends on."""

    def __init__(self, spec, /):
        super().__init__(spec)
        self.idle = nn.Parameter(torch.zeros(1))


class ChangesData(Normals):
    """Works in the caller's tensor."""

    def log_prob(self, x, context=None, num_samples=1):
        result = super().log_prob(x)
        x.add_(1)
        return result


class Reseeds(Normals):
    """Seeds the global generator to draw."""

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        torch.manual_seed(1)
        return super().sample_latent(num_samples, context, temperature)


class StaysWide(Normals):
    """Does not heed the temperature."""

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return super().sample_latent(num_samples, context)


class DrawsElsewhere(Normals):
    """Draws from a generator of its own."""

    generator = torch.Generator()

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.randn(num_samples, *self.latent_shape, generator=self.generator)


class WrongLatents(Normals):
    """Encodes into another shape."""

    def encode(self, x, context=None):
        return super().encode(x)[:, :1]


class Withholds(Normals):
    """Withholds what it has not."""

    @property
    def withheld(self):
        return {LatentVariable: "it has no latents"}


class NoReason(Normals):
    """Withholds something, and does not say why."""

    @property
    def withheld(self):
        return {HasLogProb: ""}


class HardFloat(Normals):
    """Multiplies by a matrix that stays in single precision."""

    def encode(self, x, context=None):
        return super().encode(x) @ torch.eye(self.spec.num_dims)


class Unsaved(Normals):
    """Depends on a number that no state dict holds."""

    made = 0

    def __init__(self, spec, /):
        super().__init__(spec)
        Unsaved.made += 1
        self.number = float(Unsaved.made)

    def decode(self, z, context=None):
        return super().decode(z) + self.number


class Peaked(Normals):
    """Calls something a density whose mass is not 1."""

    def log_prob(self, x, context=None, num_samples=1):
        far = ((x - self.mean) / self.log_std.exp()).abs().sum(1)
        return LogProb(3 - 7 * far, "exact", "density")


class DrawsWider(Normals):
    """Draws from a wider distribution than its density says."""

    def rsample(self, num_samples, context=None):
        return super().rsample(num_samples).mul(1.5)


class DecodesWider(Peaked):
    """Cannot be sampled but by decoding, from a wider distribution than its density says."""

    @property
    def withheld(self):
        return {SamplesDifferentiably: "it is not wanted"}

    def log_prob(self, x, context=None, num_samples=1):
        return Normals.log_prob(self, x)

    def decode(self, z, context=None):
        return super().decode(1.5 * z)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Peaked, "log_prob: the density's mass is .* not 1"),
        (DrawsWider, "draws and density are of two distributions"),
        (DecodesWider, "draws and density are of two distributions"),
        (SummedLogProb, "log_prob has shape"),
        (AboveOne, "above 1"),
        (CallsItProbability, "calls itself a probability, and the data is continuous"),
        (ForgetsSpec, "call super"),
        (Idle, "no gradient reaches idle"),
        (ChangesData, "caller's tensor was changed: x"),
        (Reseeds, "seeds torch's global generator"),
        (StaysWide, "at temperature 0 latents still differ"),
        (DrawsElsewhere, "sample_latent does not follow the global seed"),
        (WrongLatents, "encode gives shape"),
        (Withholds, "withholds LatentVariable, which its class has not"),
        (NoReason, "withholds HasLogProb without a reason"),
        (HardFloat, r"after double\(\) encode of float64 fails"),
        (Unsaved, "a checkpoint does not say all that decode depends on"),
    ],
)
def test_broken_model_is_caught(cls, message):
    caught(testing.check_model, cls, message)


# ---- objectives --------------------------------------------------------------------------------------------------


class Likelihood(Objective):
    """A sound objective: maximum likelihood."""

    requires = (LatentVariable, HasLogProb, Encodes)

    def __init__(self, model, /):
        super().__init__()

    def players(self, model):
        return {"model": list(model.parameters())}

    def turns(self, model):
        return [Turn("model", "model", lambda batch, progress: Loss(self.loss(model, batch)))]

    def loss(self, model, batch: Batch):
        return -model.log_prob(batch.x).nats.mean()


def test_sound_objective_passes():
    testing.check_objective(named(Likelihood))


class KeepsModel(Likelihood):
    """Keeps the model as its own."""

    def __init__(self, model, /):
        super().__init__(model)
        self.model = model


class OfTheBatch(Likelihood):
    """One figure for each example."""

    def loss(self, model, batch):
        return -model.log_prob(batch.x).nats


class UnknownPlayer(Likelihood):
    """A turn for a player that is not there."""

    def players(self, model):
        return {"critic": list(model.parameters())}


class Halfway(Likelihood):
    """A loss that only the encoder moves."""

    def loss(self, model, batch):
        return model.encode(batch.x).square().mean()


class LeftOver(Likelihood):
    """Owns a network that no player moves."""

    def __init__(self, model, /):
        super().__init__(model)
        self.extra = nn.Linear(2, 2)


class Stranger(Likelihood):
    """Has a player move what belongs to nobody."""

    def players(self, model):
        return {"model": [*model.parameters(), nn.Parameter(torch.zeros(1))]}


class TwiceTheTurn(Likelihood):
    """Two turns of one name."""

    def turns(self, model):
        return super().turns(model) * 2


class NoTurn(Likelihood):
    """No turn at all."""

    def turns(self, model):
        return []


class Steps(Likelihood):
    """Moves a parameter by itself."""

    def loss(self, model, batch):
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)
        return super().loss(model, batch)


class ChangesBatch(Likelihood):
    """Works in the batch."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        batch.x.zero_()
        return loss


class SeedsLoss(Likelihood):
    """Seeds the global generator in its loss."""

    def loss(self, model, batch):
        torch.manual_seed(0)
        return super().loss(model, batch)


class OwnStart(Likelihood):
    """Starts a network from a generator of its own."""

    generator = torch.Generator()

    def __init__(self, model, /):
        super().__init__(model)
        self.weight = nn.Buffer(torch.randn(3, generator=OwnStart.generator))


class OnTheHost(Likelihood):
    """Weighs by a tensor that stays where it is."""

    def loss(self, model, batch):
        return (model.log_prob(batch.x).nats * torch.ones(len(batch.x), device="cpu")).mean()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (KeepsModel, "keeps the model"),
        (OfTheBatch, "loss has shape"),
        (UnknownPlayer, "no player is called 'model'"),
        (Halfway, "no gradient reaches decoder"),
        (LeftOver, "no player moves extra.weight, extra.bias"),
        (Stranger, "belong neither to the model nor to the objective"),
        (TwiceTheTurn, "two turns share a name: model, model"),
        (NoTurn, "there is no turn"),
        (Steps, "computing a loss changes a parameter"),
        (ChangesBatch, "the batch was changed"),
        (SeedsLoss, "the loss of turn model seeds torch's global generator"),
        (OwnStart, "two builds under one seed differ in weight"),
        (OnTheHost, "a part stays behind: make tensors where the inputs are"),
    ],
)
def test_broken_objective_is_caught(cls, message):
    caught(testing.check_objective, cls, message)


# ---- samplers ----------------------------------------------------------------------------------------------------


class Uniform(Sampler):
    """A sound sampler, if no good one: uniform noise."""

    def __init__(self, model, objective, /):
        self.model = model
        self.shape = model.spec.shape

    def sample(self, num_samples, context=None):
        return Samples(torch.rand(num_samples, *self.shape))


def test_sound_sampler_passes():
    testing.check_sampler(named(Uniform))


class OwnGenerator(Uniform):
    """Draws from a generator of its own."""

    generator = torch.Generator()

    def sample(self, num_samples, context=None):
        return Samples(torch.rand(num_samples, *self.shape, generator=self.generator))


class TooBrightImages(Uniform):
    """Images far beyond white."""

    def sample(self, num_samples, context=None):
        return Samples(1e9 * torch.randn(num_samples, *self.shape))


class TooDarkMeans(Uniform):
    """Means below black."""

    def sample(self, num_samples, context=None):
        x = super().sample(num_samples).x
        return Samples(x, -x)


class DoubleSamples(Uniform):
    """Draws in double precision."""

    def sample(self, num_samples, context=None):
        return Samples(super().sample(num_samples).x.double())


class AllAlike(Uniform):
    """Draws the same again and again."""

    def sample(self, num_samples, context=None):
        return Samples(torch.zeros(num_samples, *self.shape))


class FixedSeed(Uniform):
    """Draws from a generator that starts anew each time."""

    def sample(self, num_samples, context=None):
        return Samples(torch.rand(num_samples, *self.shape, generator=torch.Generator().manual_seed(1)))


class AlwaysFive(Uniform):
    """Does not count."""

    def sample(self, num_samples, context=None):
        return super().sample(5)


class ChangesModel(Uniform):
    """Changes the model to draw from it."""

    def sample(self, num_samples, context=None):
        next(self.model.parameters()).add_(1)
        return super().sample(num_samples)


class LeavesTraining(Uniform):
    """Leaves the model in training mode."""

    def sample(self, num_samples, context=None):
        self.model.train()
        return super().sample(num_samples)


class WrongMeans(Uniform):
    """Means of another shape."""

    def sample(self, num_samples, context=None):
        x = super().sample(num_samples).x
        return Samples(x, x.flatten(1).mean(1))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OwnGenerator, "do not follow the global seed"),
        (AllAlike, "all samples are alike"),
        (FixedSeed, "another seed gives the same samples"),
        (AlwaysFive, "samples have shape .* not"),
        (ChangesModel, "drawing changes the model or the objective"),
        (LeavesTraining, "in training mode"),
        (WrongMeans, "means have shape"),
        (TooBrightImages, r"samples leave the images' range"),
        (TooDarkMeans, r"means leave the images' range, here \[0, 1\]"),
        (DoubleSamples, "samples are torch.float64, not float32"),
    ],
)
def test_broken_sampler_is_caught(cls, message):
    caught(testing.check_sampler, cls, message)


# ---- evaluators --------------------------------------------------------------------------------------------------


class Spread(Evaluator):
    """A sound evaluator: how far samples spread."""

    def __init__(self, model, /):
        pass

    def evaluate(self, subject, split):
        return [Figure(subject.sampler.sample(5).x.std().item())]


def test_sound_evaluator_passes():
    testing.check_evaluator(named(Spread))


class NotFinite(Spread):
    """A figure that is none."""

    def evaluate(self, subject, split):
        return [Figure(float("nan"))]


class TwiceTheName(Spread):
    """Two figures of one name."""

    def evaluate(self, subject, split):
        return [Figure(1.0), Figure(2.0)]


class TooBright(Spread):
    """A picture beyond white."""

    def evaluate(self, subject, split):
        return [Picture(torch.full((3, 2, 2), 2.0))]


class Trains(Spread):
    """Changes the model that it judges."""

    def evaluate(self, subject, split):
        next(subject.model.parameters()).add_(1)
        return [Figure(1.0)]


class Retains(Spread):
    """Keeps the model that it was built for."""

    def __init__(self, model, /):
        self.model = model


class Hoards(Spread):
    """Keeps the models that it was built for in a list of a dictionary."""

    def __init__(self, model, /):
        self.kept = {"models": [model]}


class BestSoFar(Spread):
    """Remembers its best value in a plain attribute, which no checkpoint holds."""

    better = min

    def __init__(self, model, /):
        self.best = None

    def evaluate(self, subject, split):
        (figure,) = super().evaluate(subject, split)
        value = figure.value
        self.best = value if self.best is None else type(self).better(self.best, value)
        return [Figure(self.best)]


class WorstSoFar(BestSoFar):
    """The same with its worst value."""

    better = max

    def __init__(self, model, /):
        super().__init__(model)


class KeptBest(BestSoFar):
    """Sound: the same, kept in its state."""

    def __init__(self, model, /):
        super().__init__(model)

    def state(self):
        return {"best": torch.tensor(float("nan") if self.best is None else self.best, dtype=torch.float64)}

    def load_state(self, state):
        self.best = None if state["best"].isnan() else state["best"].item()


def test_sound_memory_passes():
    testing.check_evaluator(named(KeptBest))


class Sketches(Spread):
    """Paints what it has seen, and no checkpoint holds it."""

    def __init__(self, model, /):
        self.seen = 0.0

    def evaluate(self, subject, split):
        self.seen = max(self.seen, subject.sampler.sample(5).x.std().item() / 10)
        return [Picture(torch.full((1, 2, 2), min(self.seen, 1.0)))]


class SpoilsData(Spread):
    """Works in the data that all evaluators share."""

    def evaluate(self, subject, split):
        next(subject.view(None).batches(1000)).x.mul_(2)
        next(iter(subject.data.values())).resident.mul_(2)
        return [Figure(1.0)]


class Grows(Spread):
    """Remembers under a name that is new."""

    def __init__(self, model, /):
        self.memory = {}

    def state(self):
        return self.memory

    def evaluate(self, subject, split):
        self.memory = {"last": torch.ones(1)}
        return super().evaluate(subject, split)


class Amnesiac(Spread):
    """Does not take back what it remembered."""

    def __init__(self, model, /):
        self.count = torch.zeros(1)

    def state(self):
        return {"count": self.count}

    def evaluate(self, subject, split):
        self.count = self.count + 1
        return super().evaluate(subject, split)


class AnyTime(Spread):
    """A figure that the clock decides."""

    def evaluate(self, subject, split):
        return [Figure(time.perf_counter())]


class NoSplit(Spread):
    """Wants a split that is not there."""

    @property
    def splits(self):
        return ("holdout",)


class WakesModel(Spread):
    """Leaves the model in training mode."""

    def evaluate(self, subject, split):
        subject.model.train()
        return super().evaluate(subject, split)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NotFinite, "is nan"),
        (TwiceTheName, "share a name"),
        (TooBright, "leaves"),
        (Trains, "the model was changed"),
        (Retains, "keeps the model"),
        (Hoards, "keeps the model"),
        (BestSoFar, "after a checkpoint it judges otherwise than one that went on"),
        (WorstSoFar, "after a checkpoint it judges otherwise than one that went on"),
        (Sketches, "after a checkpoint it judges otherwise than one that went on"),
        (SpoilsData, "data were changed"),
        (Grows, "its state has other names before the first call"),
        (Amnesiac, "count of its state does not survive a checkpoint"),
        (AnyTime, "does not follow the global seed"),
        (NoSplit, "there is no split 'holdout'"),
        (WakesModel, "in training mode"),
    ],
)
def test_broken_evaluator_is_caught(cls, message):
    caught(testing.check_evaluator, cls, message)


# ---- datasets ----------------------------------------------------------------------------------------------------


class Dark(Dataset):
    """A sound dataset, if a dull one."""

    values = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)

    def __init__(self):
        pass

    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=2)

    def split(self, name):
        return Split(self.values, torch.Tensor.float) if name == "train" else None


def test_sound_dataset_passes():
    testing.check_dataset(named(Dark))


class OffLevel(Dark):
    """Values between the levels."""

    values = torch.full((4, 1, 2, 2), 0.3)


class AnotherShape(Dark):
    """Another shape than the spec says."""

    values = torch.zeros(4, 1, 3, 3, dtype=torch.uint8)


class Restless(Dark):
    """Other data each time."""

    def split(self, name):
        return Split(torch.rand(4, 1, 2, 2).round(), torch.Tensor.float)


class Cloud(Dataset):
    """A sound dataset: normal points."""

    def __init__(self):
        pass

    @property
    def spec(self):
        return DataSpec((2,))

    def points(self, name):
        return torch.randn(200, 2, generator=torch.Generator().manual_seed(len(name)))

    def split(self, name):
        return Split(self.points(name), torch.Tensor.float)


class Repeats(Cloud):
    """A sound dataset of which each split has all there is, which is little: bits."""

    @property
    def spec(self):
        return DataSpec((2,), levels=2)

    def points(self, name):
        return (super().points(name) > 0).float()


@pytest.mark.parametrize("cls", [Cloud, Repeats])
def test_sound_dataset_of_vectors_passes(cls):
    testing.check_dataset(named(cls))


class LateNaN(Cloud):
    """Not finite after the first hundred examples."""

    def points(self, name):
        return super().points(name).index_fill(0, torch.tensor([150]), float("nan"))


class LateChange(Cloud):
    """Other data each time after the first hundred examples."""

    def points(self, name):
        return torch.cat([super().points(name)[:100], torch.randn(100, 2)])


class LateLabel(Cloud):
    """Other labels each time after the first hundred examples."""

    @property
    def spec(self):
        return DataSpec((2,), num_classes=7)

    def split(self, name):
        labels = torch.cat([torch.zeros(100), torch.randint(7, (100,))]).long()
        return Split(self.points(name), torch.Tensor.float, labels)


class Leaks(Cloud):
    """Tests on what it trains on."""

    def points(self, name):
        return super().points("train" if name == "test" else name)


class LeaksSome(Cloud):
    """Tests on a part of what it trains on, in another order."""

    def points(self, name):
        return super().points("train")[50:100].flip(0) if name == "test" else super().points(name)


class LeaksImages(Cloud):
    """Tests on the first images that it trains on."""

    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=256)

    def split(self, name):
        values = torch.arange(400, dtype=torch.int32).view(100, 1, 2, 2).remainder(256).to(torch.uint8)
        return Split(values if name == "train" else values[:20])


class SaysLabels(Dark):
    """A spec with labels, and none in the data."""

    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=2, num_classes=3)


class NoShape(Dark):
    """A spec whose shape is neither an image's nor a vector's."""

    @property
    def spec(self):
        return DataSpec((2, 2), levels=2)


class OneLevel(Dark):
    """A spec of one level."""

    @property
    def spec(self):
        return DataSpec((1, 2, 2), levels=1)


class Untrained(Dark):
    """No training data."""

    def split(self, name):
        return None


class Overwrites(Dark):
    """Prepares batches in the stored examples."""

    def split(self, name):
        values = torch.zeros(4, 1, 2, 2)
        return Split(values, lambda x: (values.fill_(1), x)[1])


class TooLabelled(SaysLabels):
    """A label beyond the classes."""

    def split(self, name):
        return Split(self.values, torch.Tensor.float, torch.arange(4))


class Bottomless(Dark, HasEnergy):
    """An energy of the wrong shape."""

    log_partition = entropy = None

    def energy(self, x):
        return x.sum()


class Modeless(Dark, HasModes):
    """More modes than classes."""

    std = 1.0
    centres = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OffLevel, "not on 2 levels"),
        (AnotherShape, "the spec says"),
        (Restless, "not the same the second time"),
        (LateNaN, "train: values are not finite"),
        (LateChange, "split train is not the same the second time"),
        (LateLabel, "split train is not the same the second time"),
        (Leaks, "splits train and test are the same examples"),
        (LeaksSome, "splits train and test are the same examples"),
        (LeaksImages, "splits train and validation are the same examples"),
        (SaysLabels, "disagree about labels"),
        (NoShape, r"the spec's shape is \(2, 2\)"),
        (OneLevel, "1 levels; 2 at least"),
        (Untrained, "there is no training data"),
        (Overwrites, "reading split train changes the stored examples"),
        (TooLabelled, "labels leave the classes"),
        (Bottomless, "energies have shape"),
        (Modeless, "3 modes, and None classes"),
    ],
)
def test_broken_dataset_is_caught(cls, message):
    caught(testing.check_dataset, cls, message)


def test_dataset_without_its_files_is_not_checked():
    build = testing.factory("dataset", {"use": "image_folder", "path": "/nowhere/at/all", "size": 8})
    with pytest.raises(testing.NotChecked, match="/nowhere/at/all does not exist"):
        testing.check_dataset(build)


# ---- optimizers --------------------------------------------------------------------------------------------------


class Descent(Optimizer):
    """A sound optimizer: Adam.

    Args:
        lr: The learning rate.
    """

    def __init__(self, *, lr: float = 0.05):
        self.lr = lr

    def build(self, parameters):
        return torch.optim.Adam(list(parameters), lr=self.lr)


def test_sound_optimizer_passes():
    testing.check_optimizer(named(Descent))


class Simple(Descent):
    """Sound, with nothing to say."""

    def __init__(self):
        super().__init__()


class NoOptimizer(Simple):
    """Builds something else."""

    def build(self, parameters):
        return list(parameters)


class LosesOne(Simple):
    """Holds a parameter less than it is given."""

    def build(self, parameters):
        return torch.optim.SGD(list(parameters)[:1], lr=0.1)


class Upwards(Simple):
    """Goes up."""

    def build(self, parameters):
        return torch.optim.SGD(list(parameters), lr=0.05, maximize=True)


class Initializes(Simple):
    """Changes the parameters when it is built."""

    def build(self, parameters):
        held = list(parameters)
        with torch.no_grad():
            for parameter in held:
                parameter.mul_(0.5)
        return super().build(held)


class NoiseOfItsOwn(torch.optim.SGD):
    generator = torch.Generator()

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                noise = torch.randn(parameter.shape, generator=self.generator, dtype=parameter.dtype)
                parameter.data.add_(0.001 * noise)


class Wanders(Simple):
    """Steps with noise that follows no seed."""

    def build(self, parameters):
        return NoiseOfItsOwn(list(parameters), lr=0.05)


class EveryStep(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(0.9)


class MovesAll(Simple):
    """Moves what has no gradient."""

    def build(self, parameters):
        return EveryStep(list(parameters), lr=0.05)


class Counter(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.sub_(0.1 / self.steps * parameter.grad)


class CountsAside(Simple):
    """Counts steps where no checkpoint looks."""

    def build(self, parameters):
        return Counter(list(parameters), lr=0.1)


class FixedRate(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad, alpha=-0.01)


class KeepsItsRate(Simple):
    """Steps at a rate of its own, whatever a schedule says."""

    def build(self, params):
        return FixedRate(params, lr=0.01)


class DecaysAtNoRate(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.mul_(0.99)


class Decays(Simple):
    """Decays by as much at any rate."""

    def build(self, params):
        return DecaysAtNoRate(params, lr=0.01)


class AdamW(Simple):
    """Sound: a decay that the rate scales."""

    def build(self, params):
        return torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)


def test_sound_decay_passes():
    testing.check_optimizer(named(AdamW))


class Still(Simple):
    """Does not move."""

    def build(self, parameters):
        return torch.optim.SGD(list(parameters), lr=0.0)


class Oblivious(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["log"] = ["stepped"]
        super().step(closure)


class KeepsLists(Simple):
    """Has a list in its state."""

    def build(self, parameters):
        return Oblivious(list(parameters), lr=0.05)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NoOptimizer, r"build gives a list, not a torch\.optim\.Optimizer"),
        (LosesOne, "it holds 1 parameters, not the 2 it was given"),
        (Upwards, "on a bowl it goes up"),
        (Initializes, "building it changes a parameter"),
        (Wanders, "its steps do not follow the global seed"),
        (MovesAll, "moves a parameter that has no gradient"),
        (CountsAside, "after a checkpoint it takes other steps"),
        (KeepsItsRate, "where a schedule sets 'lr' to 0, parameter 0, 1 moves all the same"),
        (Decays, "where a schedule sets 'lr' to 0, parameter 0, 1 moves all the same"),
        (Still, "parameter 0, 1 has not moved"),
        (KeepsLists, "of its state is list; only tensors and numbers"),
    ],
)
def test_broken_optimizer_is_caught(cls, message):
    caught(testing.check_optimizer, cls, message)


# ---- schedules ---------------------------------------------------------------------------------------------------


class Down(Schedule):
    """A sound schedule: a straight line down."""

    def __init__(self):
        self.calls = 0

    def factor(self, epoch, total_epochs):
        return max(0.0, 1 - epoch / total_epochs)


def test_sound_schedule_passes():
    testing.check_schedule(named(Down))


class Negative(Down):
    """Beyond zero."""

    def factor(self, epoch, total_epochs):
        return 0.5 - epoch / total_epochs


class CountsCalls(Down):
    """Counts from call to call."""

    def factor(self, epoch, total_epochs):
        self.calls += 1
        return 1 / self.calls


class Draws(Down):
    """A factor by chance."""

    def factor(self, epoch, total_epochs):
        return torch.rand(()).item()


class OfTensors(Down):
    """A factor on the device."""

    def factor(self, epoch, total_epochs):
        return torch.tensor(1.0)


class Infinite(Down):
    """No number at the start."""

    def factor(self, epoch, total_epochs):
        return float("inf") if epoch == 0 else 1 / epoch


class Nothing(Down):
    """Nothing ever moves."""

    def factor(self, epoch, total_epochs):
        return 0.0


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Negative, "which would go up the gradient"),
        (CountsCalls, "where later ones were asked for before"),
        (Draws, "draws random numbers"),
        (OfTensors, "is a Tensor; a plain number is wanted"),
        (Infinite, "at epoch 0 of 1 is inf"),
        (Nothing, "the factor is 0 throughout a training of 1 epochs"),
    ],
)
def test_broken_schedule_is_caught(cls, message):
    caught(testing.check_schedule, cls, message)


# ---- launchers ---------------------------------------------------------------------------------------------------


class AtOnce(Launcher):
    """A sound launcher: all jobs at once."""

    def __init__(self):
        pass

    def run(self, jobs):
        running = {job: job.start() for job in jobs}
        try:
            while running:
                for job, process in list(running.items()):
                    if process.poll() is not None:
                        del running[job]
                        yield job, process.returncode
                time.sleep(0.01)
        finally:
            self.end(running)

    def end(self, running):
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            process.wait()


def test_sound_launcher_passes():
    testing.check_launcher(named(AtOnce))


class AllWell(AtOnce):
    """Every job is told to have gone well."""

    def run(self, jobs):
        for job, _ in super().run(jobs):
            yield job, 0


class LosesJobs(AtOnce):
    """Does the first job alone."""

    def run(self, jobs):
        yield from super().run(jobs[:1])


class Elsewhere(AtOnce):
    """Carries jobs out where it stands."""

    def run(self, jobs):
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("ab") as log:
                yield job, subprocess.run(job.words, stdout=log, stderr=log, check=False, timeout=5).returncode


class Mute(AtOnce):
    """Keeps what jobs print to itself."""

    def run(self, jobs):
        for job in jobs:
            done = subprocess.run(job.words, cwd=job.directory, capture_output=True, check=False)
            yield job, done.returncode


class Abandons(AtOnce):
    """Does not wait for jobs that it asks to end."""

    def end(self, running):
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        self.left = list(running.values())


class Kills(AtOnce):
    """Does not ask."""

    def end(self, running):
        for process in running.values():
            process.kill()
            process.wait()


class NeedsCluster(AtOnce):
    """Needs what is not there."""

    def run(self, jobs):
        raise UsageError("no cluster here")
        yield


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (AllWell, "a job that ends with exit code [13] is told with 0"),
        (LosesJobs, "of the jobs first, second, third it yields first"),
        (Elsewhere, "a job is not carried out in its folder"),
        (Mute, "what a job prints is not in its log"),
        (Kills, "it does not ask a job that runs to end with SIGTERM"),
    ],
)
def test_broken_launcher_is_caught(cls, message):
    caught(testing.check_launcher, cls, message)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_launcher_that_does_not_wait_is_caught():
    caught(testing.check_launcher, Abandons, "it does not wait for the jobs that it asks to end")


def test_launcher_without_what_it_needs_is_not_checked():
    with pytest.raises(testing.NotChecked, match="no cluster here"):
        testing.check_launcher(named(NeedsCluster))


# ---- what others installed ---------------------------------------------------------------------------------------

OTHERS = '''
from genkit import GenerativeModel, HasLogProb, Objective, Sampler, hookimpl


class Explodes(GenerativeModel, HasLogProb):
    """Cannot be built."""

    def __init__(self, spec, /) -> None:
        raise KeyError("no such table")

    def log_prob(self, x, context=None, num_samples=1):
        raise NotImplementedError


class WrongExample(Explodes):
    """Has an example with an option that is not there."""

    examples = ({"depth": 3},)

    def __init__(self, spec, /) -> None:
        super().__init__(spec)


class Aims(Objective):
    """Cannot be built."""

    def __init__(self, model, /) -> None:
        raise KeyError("no such loss")

    def players(self, model):
        return {}

    def turns(self, model):
        return []


class Aimless(Sampler):
    """Cannot be built."""

    def __init__(self, model, objective, /) -> None:
        raise KeyError("no such noise")

    def sample(self, num_samples, context=None):
        raise NotImplementedError


@hookimpl
def register_components(register):
    for name, cls in {"a_model": Explodes, "b_model": WrongExample, "an_objective": Aims, "a_sampler": Aimless}.items():
        register(name, cls)
    for kind in ("model", "objective", "sampler"):
        register("a_lost_one", "kit_others_broken:Gone", kind=kind)
'''


class Others:
    name, version = "kit-others", "1"


def with_others(monkeypatch, own):
    """Everything installed beside a plugin whose components do not work; of genkit's own what ``own`` says."""
    monkeypatch.setattr("genkit.registry.OWN_DISTRIBUTION", "genkit-torch" if own else "kit-others")
    entries = list(importlib.metadata.entry_points(group="genkit.plugins"))
    other = importlib.metadata.EntryPoint("kit_others", "kit_others_broken", "genkit.plugins")
    vars(other)["dist"] = Others()
    registry = load_registry([*entries, other])
    for module in ("common", "component"):
        monkeypatch.setattr(f"genkit.testing.{module}.installed", lambda: registry)
    monkeypatch.setattr("genkit.testing.common.OWN_DISTRIBUTION", "genkit-torch" if own else "kit-others")


@pytest.fixture
def _others(tmp_path, monkeypatch):
    (tmp_path / "kit_others_broken.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("kit_others_broken", None)


@pytest.mark.usefixtures("_others")
@pytest.mark.parametrize(("check", "cls"), [(testing.check_objective, Likelihood), (testing.check_sampler, Uniform)])
def test_what_others_broke_is_named_and_fails_no_check_but_its_own(monkeypatch, check, cls):
    with_others(monkeypatch, own=True)
    with pytest.warns(UserWarning, match="left out of the check, since they do not work") as told:
        check(named(cls))
    (text,) = [str(warning.message) for warning in told]
    assert "model kit-others/a_lost_one: PluginError" in text
    assert "model kit-others/b_model: RecipeError" in text
    assert ("'a_model') on vectors: KeyError: 'no such table'" in text) == (cls is Uniform)  # the other asks for more


@pytest.mark.usefixtures("_others")
def test_a_check_goes_on_to_the_next_objective_and_sampler_where_the_first_does_not_work(monkeypatch):
    with_others(monkeypatch, own=False)  # the broken ones come first
    with pytest.warns(UserWarning, match="left out of the check") as told:
        testing.check_evaluator(named(Spread))
    texts = "".join(str(warning.message) for warning in told)
    assert "objective Factory('an_objective'): KeyError: 'no such loss'" in texts
    assert "sampler kit-others/a_lost_one: PluginError" in texts


# ---- kinds -------------------------------------------------------------------------------------------------------


def test_a_kind_names_its_check_and_its_children_have_it():
    class Kernel(Component, kind="kernel", check="somewhere.testing:check_kernel"):
        """A kind."""

    class Laplace(Kernel):
        """A component."""

    class Unchecked(Kernel, kind="another_kernel"):
        """A kind that names none."""

    assert Laplace.check == "somewhere.testing:check_kernel"
    assert Unchecked.check == ""
    with pytest.raises(TypeError, match="a check belongs to a kind"):

        class Lost(Kernel, check="somewhere:else"):
            """A check without a kind."""


def test_a_check_that_is_not_there_is_told():
    from genkit import PluginError

    class Lonely(Component, kind="lonely", check="nowhere.testing:check_lonely"):
        """A kind whose check is not there."""

    with pytest.raises(PluginError, match=r"the check of kind 'lonely', nowhere\.testing:check_lonely, cannot be imp"):
        testing.check_of(Lonely)
