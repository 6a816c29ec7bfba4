"""Models whose latents are known: a test says what prior, posterior and likelihood are."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

import genkit
from genkit import (
    Decodes,
    Figure,
    GenerativeModel,
    HasLevels,
    HasLogProb,
    LatentVariable,
    LogProb,
    Note,
    Picture,
    Split,
)
from genkit.engine.feed import Feed

SPEC = genkit.DataSpec((2,))


def normal(mean, std):
    """Independent normals, one event."""
    std = torch.as_tensor(std, dtype=torch.float32)
    return Independent(Normal(*torch.broadcast_tensors(mean, std), validate_args=False), 1, validate_args=False)


def standard(size):
    return normal(torch.zeros(size), 1.0)


class Known(GenerativeModel, LatentVariable, Decodes, HasLogProb):
    """A model of two numbers; data are normal around the first two numbers of the latent."""

    def __init__(self, posterior, prior, noise=1.0):
        super().__init__(SPEC)
        self.given = prior, posterior
        self.noise = noise

    @property
    def latent_shape(self):
        return tuple(self.given[0].event_shape)

    def prior(self, context=None):
        return self.given[0]

    def posterior(self, x, context=None):
        return self.given[1](x)

    def likelihood(self, z, context=None):
        return normal(z[:, :2], self.noise)

    def sample_latent(self, num_samples, context=None, temperature=1.0):
        return self.prior().sample((num_samples,))

    def decode(self, z, context=None):
        return self.likelihood(z).mean

    def log_prob(self, x, context=None, num_samples=1):
        return LogProb(torch.zeros(len(x)), "lower bound", "density")


class Levelled(Known, HasLevels):
    """The same with several levels."""

    def __init__(self, posterior, prior, levels):
        super().__init__(posterior, prior)
        self.levels_given = levels

    @property
    def levels(self):
        return self.levels_given


class Opaque(Distribution):
    """Hides what a distribution is: it can only be drawn from, and its mean is a stand-in that is far off."""

    arg_constraints = {}  # noqa: RUF012  (torch's own way)

    def __init__(self, inner):
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)
        self.inner = inner

    @property
    def mean(self):
        return 1000 * self.inner.mean

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008
        return self.inner.rsample(sample_shape)

    def log_prob(self, value):
        return self.inner.log_prob(value)


def view(x):
    return Feed(Split(x, Tensor.float), torch.device("cpu"))


def judge(name, model, x, history=(), epoch=3, split="validation", **options):
    """The figures by name, the notes and the pictures of an evaluator."""
    evaluator = genkit.build("evaluator", {"use": name, **options}, model)
    subject = genkit.Subject(model, None, None, None, {split: view(x)}, epoch, batch_size=64, history=history)
    torch.manual_seed(1)
    with torch.no_grad():
        results = list(evaluator.evaluate(subject, split))
    figures = {result.name: result for result in results if isinstance(result, Figure)}
    kinds = [[result for result in results if isinstance(result, kind)] for kind in (Note, Picture)]
    return figures, *kinds


def values(figures):
    return {name: figure.value for name, figure in figures.items()}


def with_variances(count, variances):
    """Columns whose variances over the examples are exactly these."""
    x = torch.randn(count, len(variances), dtype=torch.float64)
    x = torch.linalg.qr(x - x.mean(0)).Q * (count - 1) ** 0.5  # uncorrelated, each of variance 1
    return (x * torch.tensor(variances, dtype=torch.float64).sqrt() + 7).float()
