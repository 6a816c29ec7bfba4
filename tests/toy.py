"""A whole family of components for tests of the core, which must not need any plugin."""

import math

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

import genkit
from genkit import Factory, use
from genkit.registry import Plugin, Registrar, Registry, load_registry


class Bits(genkit.Dataset):
    """Random bits, the same for the same sizes."""

    def __init__(self, *, train: PositiveInt = 96, validation: int = 32, test: int = 32, dims: PositiveInt = 8):
        self.sizes = {"train": train, "validation": validation, "test": test}
        self.dims = dims

    @property
    def spec(self):
        return genkit.DataSpec((1, 1, self.dims), levels=2, protocol="toy bits")

    def split(self, name):
        if not self.sizes[name]:
            return None
        generator = torch.Generator().manual_seed(len(name))
        values = torch.rand(self.sizes[name], *self.spec.shape, generator=generator)
        return genkit.Split((values < 0.3).byte(), torch.Tensor.float)


class Line(genkit.Backbone):
    """One linear map."""

    def __init__(self, in_shape: genkit.Shape, out_shape: genkit.Shape, /, *, bias: bool = True):
        super().__init__()
        self.out_shape = out_shape
        self.linear = nn.Linear(math.prod(in_shape), math.prod(out_shape), bias=bias)

    def forward(self, x, context=None):
        genkit.refuse_context(self, context)
        return self.linear(x.flatten(1)).unflatten(1, self.out_shape)


class Denoiser(genkit.GenerativeModel, genkit.Decodes, genkit.HasLogProb):
    """Maps noisy bits to the logits of clean ones."""

    latent_shape = (3,)

    def __init__(
        self, spec: genkit.DataSpec, /, *, network: Factory[genkit.Backbone] = use("line"), noise: PositiveFloat = 0.5
    ):
        super().__init__(spec)
        self.noise = noise
        self.network = network(spec.shape, spec.shape)
        self.output = network(self.latent_shape, spec.shape)

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return temperature * torch.randn(num_samples, *self.latent_shape)

    def decode(self, z, context=None):
        return torch.sigmoid(self.network(self.output(z)))

    def log_prob(self, x, context=None, num_samples=1):
        logits = self.network(x + self.noise * torch.randn_like(x))
        cost = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return genkit.LogProb(-cost.flatten(1).sum(1), "lower bound", "probability")


class Denoising(genkit.Objective):
    """How badly clean bits are guessed from noisy ones, and a second player that likes small outputs."""

    requires = (genkit.HasLogProb,)

    def __init__(self, model: genkit.GenerativeModel, /, *, weight: PositiveFloat = 1.0):
        super().__init__()
        self.weight = weight
        self.scale = nn.Parameter(torch.tensor(2.0))

    def players(self, model):
        return {"model": list(model.parameters()), "scale": [self.scale]}

    def turns(self, model):
        def guess(batch, progress):
            nats = -model.log_prob(batch.x).nats.mean()
            shrink = model.output.linear.weight.square().sum()
            return genkit.Loss(self.weight * nats + shrink, {"nats": nats, "shrink": shrink})

        def shrink(batch, progress):
            return genkit.Loss((self.scale * batch.x.mean()).square())

        return [genkit.Turn("guess", "model", guess, units={"nats": "nats"}), genkit.Turn("shrink", "scale", shrink)]


class Decoded(genkit.Sampler):
    """Decodes latents of the prior."""

    requires = (genkit.Decodes,)

    def __init__(self, model: genkit.GenerativeModel, objective: genkit.Objective, /):
        self.model = model

    def sample(self, num_samples, context=None):
        return genkit.Samples(self.model.decode(self.model.sample_latent(num_samples)))


class Nats(genkit.Evaluator):
    """The mean cost of a split, noise included."""

    requires = (genkit.HasLogProb,)
    splits = ("validation", "test")

    def __init__(self, model: genkit.GenerativeModel, /):
        pass

    def evaluate(self, subject, split):
        nats = torch.cat([-subject.model.log_prob(b.x).nats for b in subject.view(split).batches(subject.batch_size)])
        return [genkit.Figure(nats.mean().item(), unit="nats", better="lower")]


class Strip(genkit.Evaluator):
    """A strip of samples."""

    def __init__(self, model: genkit.GenerativeModel, /, *, count: PositiveInt = 4):
        self.count = count

    def evaluate(self, subject, split):
        return [genkit.Picture(genkit.image_grid(subject.sampler.sample(self.count).x, self.count))]


class Momentum(genkit.Optimizer):
    """Gradient descent with momentum, so that there is a state to keep."""

    def __init__(self, *, lr: PositiveFloat = 0.01, momentum: float = 0.9):
        self.options = {"lr": lr, "momentum": momentum}

    def build(self, parameters):
        return torch.optim.SGD(parameters, **self.options)


class Decay(genkit.Schedule):
    """A factor for each epoch that is over."""

    def __init__(self, *, gamma: PositiveFloat = 1.0):
        self.gamma = gamma

    def factor(self, epoch, total_epochs):
        return self.gamma ** int(epoch)


COMPONENTS = {
    "bits": Bits,
    "line": Line,
    "denoiser": Denoiser,
    "denoising": Denoising,
    "decoded": Decoded,
    "nats": Nats,
    "strip": Strip,
    "momentum": Momentum,
    "decay": Decay,
}
RECIPE = {
    "seed": 3,
    "data": {"use": "bits"},
    "model": {"use": "denoiser"},
    "objective": {"use": "denoising"},
    "sampler": {"use": "decoded"},
    "train": {
        "epochs": 2,
        "batch_size": 32,
        "log_every": 2,
        "optimizer": {"use": "momentum"},
        "schedule": {"use": "decay"},
    },
    "evaluate": {"cost": {"use": "nats", "every": 1}},
}


def registry() -> Registry:
    """A registry of the toys alone."""
    toys = load_registry([])
    register = Registrar(toys, Plugin("toys", "toy", "tests", "0"))
    for name, component in COMPONENTS.items():
        register(name, component)
    return toys
