"""What breaks the contract of a plugin's kind is caught by the plugin's check of it; what is sound passes."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    StudentT,
)
from torch.nn.functional import softplus

from genkit import Decodes, Factory
from genkit_features.extractor import Classifies, FeatureExtractor
from genkit_features.testing import check_feature_extractor
from genkit_flow.bijection import Bijection
from genkit_flow.dequantizer import Dequantizer
from genkit_flow.testing import check_bijection, check_dequantizer
from genkit_gan.loss import AdversarialLoss
from genkit_gan.regularizer import CriticInput, CriticLabels, CriticPenalty, CriticWeights, ModelPenalty, Regularizer
from genkit_gan.testing import check_adversarial_loss, check_regularizer
from genkit_latents.estimator import Estimate, Estimator, RunningMean
from genkit_latents.testing import check_estimator
from genkit_priors.prior import Prior
from genkit_priors.testing import check_prior
from genkit_vae.likelihood import Likelihood
from genkit_vae.posterior import Posterior
from genkit_vae.testing import check_likelihood, check_posterior
from genkit_vae.weights import draw


def child(base, text="A child of a class that is sound but for this.", **changes):
    """A class with some of its members changed, and the constructor that a component must have."""
    own = {"__doc__": text, **changes}
    own.setdefault("__init__", base.__init__)
    return type("Broken", (base,), own)


def broken(base, complaint, **changes):
    return pytest.param(child(base, **changes), complaint, id=complaint)


def caught(check, cls, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check(Factory("broken", {}, cls))


# ---- priors ------------------------------------------------------------------------------------------------------


class Shifted(Prior):
    """A normal around a learned centre."""

    def __init__(self, latent_shape, /):
        super().__init__()
        self.loc = nn.Parameter(torch.ones(latent_shape))

    def distribution(self, context=None):
        normal = Normal(self.loc, torch.ones_like(self.loc), validate_args=False)
        return Independent(normal, self.loc.dim(), validate_args=False)

    def sample(self, num_samples, context=None, temperature=1.0):
        noise = torch.randn(num_samples, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + temperature * noise


class Scaled(Independent):
    def log_prob(self, value):
        return super().log_prob(value) + 0.1


def refuse_all(self, supplied, /):
    raise ValueError("nothing fits")


PRIORS = [
    broken(Shifted, "refuses latents of all shapes", __init__=refuse_all),
    broken(Shifted, "draws have shape", sample=lambda self, n, context=None, temperature=1.0: torch.randn(n + 1, 2)),
    broken(
        Shifted, "event shape is", distribution=lambda self, context=None: Normal(self.loc, 1.0, validate_args=False)
    ),
    broken(
        Shifted,
        "it is not normalized",
        distribution=lambda self, context=None: Scaled(Normal(self.loc, 1.0), self.loc.dim(), validate_args=False),
    ),
    broken(
        Shifted,
        "draws and density are of two distributions",
        sample=lambda self, n, context=None, temperature=1.0: (
            self.loc
            + temperature
            * 0.7
            * torch.randn(n, *self.loc.shape).clamp(-4, 4).where(torch.rand(n, *self.loc.shape) > 1e-3, 5)
        ),
    ),
    broken(
        Shifted,
        "at temperature 0 draws still differ",
        sample=lambda self, n, context=None, temperature=1.0: Shifted.sample(self, n),
    ),
    broken(
        Shifted,
        "at temperature 0.5 draws spread by",
        sample=lambda self, n, context=None, temperature=1.0: Shifted.sample(self, n, None, float(temperature > 0)),
    ),
    broken(
        Shifted,
        "another seed gives the same draws",
        sample=lambda self, n, context=None, temperature=1.0: (
            self.loc + temperature * torch.randn(n, *self.loc.shape, generator=torch.Generator().manual_seed(0))
        ),
    ),
    broken(
        Shifted,
        "densities carry no gradient",
        distribution=lambda self, context=None: Independent(
            Normal(self.loc.detach(), 1.0, validate_args=False), self.loc.dim(), validate_args=False
        ),
    ),
    broken(
        Shifted,
        "after double.. draws are torch.float32",
        sample=lambda self, n, context=None, temperature=1.0: Shifted.sample(self, n, None, temperature).float(),
    ),
    broken(
        Shifted,
        "seeds torch's global generator",
        sample=lambda self, n, context=None, temperature=1.0: (
            torch.manual_seed(0),
            Shifted.sample(self, n, None, temperature),
        )[1],
    ),
    broken(
        Shifted,
        r"log_prob of \(k, N, \*Z\) values is not that of each N",
        distribution=lambda self, context=None: Flattened(
            Normal(self.loc, torch.ones_like(self.loc), validate_args=False), self.loc.dim(), validate_args=False
        ),
    ),
]


class Flattened(Independent):
    def log_prob(self, value):
        return self.base_dist.log_prob(value).flatten(1).sum(1)


class OfPosteriors(Prior):
    """A mixture of its owner's posteriors at two learned inputs."""

    needs_posterior = True

    def __init__(self, latent_shape, /):
        super().__init__()

    def meet(self, posterior, spec):
        self.posterior = posterior
        self.inputs = nn.Parameter(torch.rand(2, *spec.shape))

    def components(self):
        return self.posterior(self.inputs)

    def distribution(self, context=None):
        q = self.components()
        return MixtureSameFamily(Categorical(q.mean.new_ones(2)), q, validate_args=False)

    def sample(self, num_samples, context=None, temperature=1.0):
        z = self.posterior(self.inputs[torch.randint(2, (num_samples,), device=self.inputs.device)]).rsample()
        return temperature * z + (1 - temperature) * self.components().mean.mean(0)


def _keeps_its_owner(self, posterior, spec):
    OfPosteriors.meet(self, posterior, spec)
    self.owner = posterior.__self__


def _closes_over(self, posterior, spec):
    OfPosteriors.meet(self, lambda x: posterior(x), spec)


@torch.no_grad()
def _components_without_gradients(self):
    return OfPosteriors.components(self)


PRIORS += [
    broken(OfPosteriors, "the posterior's weights became its own", meet=_keeps_its_owner),
    broken(OfPosteriors, "in a copy of its owner it asks the original's posterior", meet=_closes_over),
    broken(OfPosteriors, "no gradient of a density reaches it", components=_components_without_gradients),
]


class Unlearned(Prior):
    """The base of priors that have a distribution and nothing to learn."""

    def __init__(self, latent_shape, /):
        super().__init__()
        self.one = nn.Buffer(torch.ones(latent_shape))

    def sample(self, num_samples, context=None, temperature=1.0):
        return temperature * self.distribution().sample((num_samples,))


class HeavyTails(Unlearned):
    """Student's t with two degrees of freedom, whose variance is infinite."""

    def __init__(self, latent_shape, /):
        super().__init__(latent_shape)

    def distribution(self, context=None):
        values = StudentT(2 * self.one, 0 * self.one, self.one, validate_args=False)
        return Independent(values, self.one.dim(), validate_args=False)


class FarApart(Unlearned):
    """Two narrow normals that are far from each other."""

    def __init__(self, latent_shape, /):
        super().__init__(latent_shape)

    def distribution(self, context=None):
        loc = torch.stack([-10 * self.one, 10 * self.one])
        normals = Independent(Normal(loc, torch.full_like(loc, 0.05), validate_args=False), self.one.dim())
        return MixtureSameFamily(Categorical(loc.new_ones(2)), normals, validate_args=False)


class Flat(Unlearned):
    """Uniform on a box, with edges."""

    def __init__(self, latent_shape, /):
        super().__init__(latent_shape)

    def distribution(self, context=None):
        return Independent(torch.distributions.Uniform(0 * self.one, 2 * self.one, validate_args=False), self.one.dim())

    def sample(self, num_samples, context=None, temperature=1.0):
        return 1 + temperature * (self.distribution().sample((num_samples,)) - 1)


class TwiceTheMass(Independent):
    def log_prob(self, value):
        return super().log_prob(value) + 0.7


def _drawn_narrower(self, num_samples, context=None, temperature=1.0):
    return 0.8 * Unlearned.sample(self, num_samples, context, temperature)


def _refuse_the_plane(self, shape, /):
    if shape != (3,):
        raise ValueError("three dimensions are wanted")
    Unlearned.__init__(self, shape)


def _refuse_vectors(self, shape, /):
    if len(shape) != 3:
        raise ValueError("images are wanted")
    Unlearned.__init__(self, shape)


def _too_much(self, context=None):
    return TwiceTheMass(Normal(0 * self.one, self.one, validate_args=False), self.one.dim(), validate_args=False)


PRIORS += [
    broken(HeavyTails, "draws and density are of two", sample=_drawn_narrower),
    broken(Unlearned, "draws lie where the density has", __init__=_refuse_the_plane, distribution=_too_much),
    broken(Unlearned, "the density's mass is 2", __init__=_refuse_vectors, distribution=_too_much),
]


@pytest.mark.parametrize("cls", [Shifted, HeavyTails, FarApart, Flat, OfPosteriors])
def test_sound_prior_passes(cls):
    check_prior(Factory("sound", {}, cls))


@pytest.mark.parametrize(("cls", "complaint"), PRIORS)
def test_broken_prior_is_caught(cls, complaint):
    caught(check_prior, cls, complaint)


# ---- bijections --------------------------------------------------------------------------------------------------


class Stretch(Bijection):
    """A learned scale for each element, which a context changes."""

    def __init__(self, shape, context_shape, /):
        super().__init__(shape, context_shape)
        if len(shape) != 1 or (context_shape is not None and len(context_shape) != 1):
            raise ValueError("vectors only")
        self.scale = nn.Parameter(torch.zeros(shape))
        self.of_context = None if context_shape is None else nn.Linear(context_shape[0], shape[0])

    def logs(self, x, context):
        return self.scale.expand_as(x) + (0 if self.of_context is None else self.of_context(context))

    def forward(self, x, context=None):
        logs = self.logs(x, context)
        return x * logs.exp(), logs.sum(1)

    def inverse(self, z, context=None):
        logs = self.logs(z, context)
        return z * (-logs).exp(), -logs.sum(1)


def _always_one(self, x, context):
    return self.scale.expand_as(x) + (0 if self.of_context is None else self.of_context(torch.ones_like(context)))


def _only_with(self, shape, context_shape, /):
    if context_shape is None or len(shape) != 1:
        raise ValueError("a context is wanted")
    Stretch.__init__(self, shape, None)


def test_sound_bijection_passes():
    check_bijection(Factory("stretch", {}, Stretch))


@pytest.mark.parametrize(
    "changes", [{"logs": _always_one}, {"__init__": _only_with}], ids=["has weights for it", "is refused without"]
)
def test_a_bijection_that_ignores_the_context_it_is_made_for_is_caught(changes):
    caught(check_bijection, child(Stretch, **changes), "it is made for a context .* and ignores it")


# ---- likelihoods -------------------------------------------------------------------------------------------------


class Bits(Likelihood):
    """Bits from logits."""

    needs = "binary data"
    measure = "probability"

    def __init__(self, spec, /):
        super().__init__(spec)

    @classmethod
    def fits(cls, spec):
        return spec.levels == 2

    def distribution(self, parameters):
        bits = Bernoulli(logits=parameters, validate_args=False)
        return Independent(bits, parameters.dim() - 1, validate_args=False)


class Around(Likelihood):
    """Normal values around the decoder's output."""

    needs = "continuous values"
    measure = "density"

    def __init__(self, spec, /):
        super().__init__(spec)

    @classmethod
    def fits(cls, spec):
        return spec.levels is None

    def distribution(self, parameters):
        return Independent(Normal(parameters, 1.0, validate_args=False), parameters.dim() - 1, validate_args=False)


class Dearer(Independent):
    def log_prob(self, value):
        return super().log_prob(value) - 0.2


class Off(Independent):
    @property
    def mean(self):
        return super().mean * 0 + 0.25


class Grey(Independent):
    def sample(self, sample_shape=()):
        return super().sample(sample_shape) * 0.5


class SameDraw(Independent):
    def sample(self, sample_shape=()):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().sample(sample_shape)


def bits(parameters):
    return Bernoulli(logits=parameters, validate_args=False), parameters.dim() - 1


LIKELIHOODS = [
    broken(Bits, r"fits\(\) says True of .*, and the constructor refuses it", __init__=refuse_all),
    broken(Bits, "refuses all of", fits=classmethod(lambda cls, spec: False)),
    broken(Bits, "sum over an example", distribution=lambda self, parameters: bits(parameters)[0]),
    broken(Bits, "sum to 0.818731, not 1", distribution=lambda self, parameters: Dearer(*bits(parameters))),
    broken(Bits, "mean is 0.25, and that of", distribution=lambda self, parameters: Off(*bits(parameters))),
    broken(Bits, "samples are not on the 2 levels", distribution=lambda self, parameters: Grey(*bits(parameters))),
    broken(Bits, "another seed gives the same", distribution=lambda self, parameters: SameDraw(*bits(parameters))),
    broken(
        Bits,
        "no gradient reaches the decoder's output",
        distribution=lambda self, parameters: Independent(
            Bernoulli(logits=parameters.detach() + 0 * parameters, validate_args=False), parameters.dim() - 1
        ),
    ),
    broken(Around, "calls itself a probability, and the data is continuous", measure="probability"),
    broken(
        Around,
        "the density's mass is 0.818",
        distribution=lambda self, parameters: Dearer(Normal(parameters, 1.0), parameters.dim() - 1),
    ),
]


@pytest.mark.parametrize("cls", [Bits, Around])
def test_sound_likelihood_passes(cls):
    check_likelihood(Factory("sound", {}, cls))


@pytest.mark.parametrize(("cls", "complaint"), LIKELIHOODS)
def test_broken_likelihood_is_caught(cls, complaint):
    caught(check_likelihood, cls, complaint)


# ---- posteriors --------------------------------------------------------------------------------------------------


class Diagonal(Posterior):
    """A mean and a log standard deviation for each number."""

    def __init__(self, latent_shape, /):
        super().__init__()
        self.latent_shape = tuple(latent_shape)

    @property
    def parameter_shape(self):
        return (2 * self.latent_shape[0], *self.latent_shape[1:])

    def parts(self, parameters):
        mean, log_std = parameters.chunk(2, dim=1)
        return Normal(mean, log_std.exp(), validate_args=False), mean.dim() - 1

    def distribution(self, parameters, context=None):
        return Independent(*self.parts(parameters), validate_args=False)


class NoGradient(Independent):
    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape).detach()


def mixed(self, parameters, context=None):
    return Diagonal.distribution(self, parameters - parameters.mean(0))


POSTERIORS = [
    broken(Diagonal, "refuses latents of all shapes", __init__=refuse_all),
    broken(Diagonal, "log_prob has shape", distribution=lambda self, p, context=None: self.parts(p)[0]),
    broken(
        Diagonal, "samples carry no gradient", distribution=lambda self, p, context=None: NoGradient(*self.parts(p))
    ),
    broken(
        Diagonal,
        "no gradient reaches 1 numbers of the encoder's output",
        distribution=lambda self, p, context=None: Diagonal.distribution(
            self, torch.cat([p[:, :1].detach(), p[:, 1:]], 1)
        ),
    ),
    broken(Diagonal, "it is not normalized", distribution=lambda self, p, context=None: Dearer(*self.parts(p))),
    broken(Diagonal, "an example's samples depend on the others", distribution=mixed),
    broken(
        Diagonal,
        "another seed gives the same samples",
        distribution=lambda self, p, context=None: Fixed(*self.parts(p)),
    ),
]


class OneDraw(Independent):
    def rsample(self, sample_shape=()):
        return super().rsample()


class Uneven(Independent):
    def log_prob(self, value):
        return super().log_prob(value) - 0.1 * (value.dim() > len(self.batch_shape) + len(self.event_shape))


class OneByOne(Independent):
    def log_prob(self, value):
        return (
            super()
            .log_prob(value.reshape(-1, *self.batch_shape, *self.event_shape))
            .reshape(value.shape[: value.dim() - len(self.event_shape)])
        )


class Forgetful(Independent):
    drawn = None

    def rsample(self, sample_shape=()):
        self.drawn = super().rsample(sample_shape)
        return self.drawn

    def log_prob(self, value):
        if value is not self.drawn:
            raise NotImplementedError
        return super().log_prob(value)


def of(family):
    """The distribution of a posterior, made by another class than Independent."""
    return {"distribution": lambda self, p, context=None: family(*self.parts(p), validate_args=False)}


POSTERIORS += [
    broken(Diagonal, r"rsample\(\(3,\)\) has shape \(5, 2\)", **of(OneDraw)),
    broken(Diagonal, r"log_prob of rsample\(\(3,\)\) has shape \(3,\), not \(3, B\)", **of(Flattened)),
    broken(Diagonal, r"log_prob of \(k, B, \*Z\) values is not that of each B", **of(Uneven)),
    broken(Diagonal, r"values of shape \(N, 1, \*Z\) do not broadcast against the batch", **of(OneByOne)),
    broken(Diagonal, "it knows only its own draws' density; say so", **of(Forgetful)),
    broken(Diagonal, "it says that it knows only its own draws' density, and knows", own_draws_only=True),
]


class Fixed(Independent):
    def rsample(self, sample_shape=()):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().rsample(sample_shape)


def test_sound_posterior_passes():
    check_posterior(Factory("diagonal", {}, Diagonal))
    check_posterior(Factory("forgetful", {}, child(Diagonal, own_draws_only=True, **of(Forgetful))))


@pytest.mark.parametrize(("cls", "complaint"), POSTERIORS)
def test_broken_posterior_is_caught(cls, complaint):
    caught(check_posterior, cls, complaint)


# ---- dequantizers ------------------------------------------------------------------------------------------------


class Uniform(Dequantizer):
    """Uniform noise."""

    label = "uniform noise"

    def __init__(self, spec, /):
        super().__init__(spec)
        if spec.levels is None:
            raise ValueError("discrete data only")

    def dequantize(self, x):
        return self.within_cell(x, torch.rand_like(x)), x.new_full((len(x),), -self.log_cells)


DEQUANTIZERS = [
    broken(Uniform, "refuses all of", __init__=refuse_all),
    broken(Uniform, "leaves the cell of its level", dequantize=lambda self, x: (x + 1, x.flatten(1).sum(1))),
    broken(Uniform, "its label, part of a likelihood's tag, is empty", label=""),
    broken(
        Uniform,
        "1 / q has the mean",
        dequantize=lambda self, x: (Uniform.dequantize(self, x)[0], Uniform.dequantize(self, x)[1] + 0.1),
    ),
    broken(
        Uniform,
        "1 / q has the mean",
        dequantize=lambda self, x: (self.within_cell(x, torch.rand_like(x)), x.new_zeros(len(x))),
    ),
    broken(
        Uniform,
        "another seed gives the same noise",
        dequantize=lambda self, x: (self.centre(x), x.new_full((len(x),), -self.log_cells)),
    ),
    broken(Uniform, "does not give a value back from y", quantize=lambda self, y: y),
    broken(
        Uniform, "does not give a value back from the centre", centre=lambda self, x: self.index(x) / self.levels - 0.01
    ),
    broken(
        Uniform,
        "caller's tensor was changed",
        dequantize=lambda self, x: (x.copy_(Uniform.dequantize(self, x)[0]), x.new_full((len(x),), -self.log_cells)),
    ),
]


def test_sound_dequantizer_passes():
    check_dequantizer(Factory("uniform", {}, Uniform))


@pytest.mark.parametrize(("cls", "complaint"), DEQUANTIZERS)
def test_broken_dequantizer_is_caught(cls, complaint):
    caught(check_dequantizer, cls, complaint)


# ---- adversarial losses ------------------------------------------------------------------------------------------


class Classifying(AdversarialLoss):
    """Cross-entropies of a classifier."""

    labels = True
    log_ratio = True

    def __init__(self):
        pass

    def critic_loss(self, real, fake, real_label=1.0):
        return (real_label * softplus(-real) + (1 - real_label) * softplus(real)).mean() + softplus(fake).mean()

    def model_loss(self, fake, real=None):
        return softplus(-fake).mean()


LOSSES = [
    broken(Classifying, "return the mean over the batch", model_loss=lambda self, fake, real=None: softplus(-fake)),
    broken(
        Classifying, "a mean over the batch, not a sum", model_loss=lambda self, fake, real=None: softplus(-fake).sum()
    ),
    broken(
        Classifying,
        "model_loss is inf for scores of",
        model_loss=lambda self, fake, real=None: (1 + (-fake).exp()).log().mean(),
    ),
    broken(
        Classifying,
        "does not drive low scores of real data up",
        critic_loss=lambda self, real, fake, real_label=1.0: softplus(real).mean() + softplus(fake).mean(),
    ),
    broken(
        Classifying,
        "does not drive high scores of samples down",
        critic_loss=lambda self, real, fake, real_label=1.0: softplus(-real).mean() + softplus(-fake).mean(),
    ),
    broken(
        Classifying, "does not drive low scores of samples up", model_loss=lambda self, f, r=None: softplus(f).mean()
    ),
    broken(Classifying, "does not look at scores of real data", compares=True),
    broken(
        Classifying,
        "say so: compares = True",
        model_loss=lambda self, fake, real=None: softplus(-fake).mean() + (0 if real is None else real.mean()),
    ),
    broken(
        Classifying,
        "a smaller label must lower the best score",
        log_ratio=False,
        critic_loss=lambda self, real, fake, real_label=1.0: (real - 2).square().mean() + (fake + 2).square().mean(),
    ),
    broken(Classifying, "accuracy is 0.5 where", accuracy=lambda self, real, fake: torch.tensor(0.5)),
    broken(
        Classifying,
        "its best scores are off the log-ratio",
        labels=False,
        critic_loss=lambda self, real, fake, real_label=1.0: (real - 1).square().mean() + (fake + 1).square().mean(),
        model_loss=lambda self, fake, real=None: (fake - 1).square().mean(),
    ),
    broken(
        Classifying,
        "draws random numbers",
        model_loss=lambda self, fake, real=None: softplus(-fake).mean() + torch.rand(()).to(fake.dtype),
    ),
]


def test_sound_loss_passes():
    check_adversarial_loss(Factory("classifying", {}, Classifying))


@pytest.mark.parametrize(("cls", "complaint"), LOSSES)
def test_broken_loss_is_caught(cls, complaint):
    caught(check_adversarial_loss, cls, complaint)


# ---- regularizers ------------------------------------------------------------------------------------------------


def nothing(self):
    """A constructor without options."""


class Flat(CriticPenalty):
    """Gradients at real data."""

    __init__ = nothing

    def penalty(self, critic, real, fake):
        return real.squared_gradients.mean()


class Wide(ModelPenalty):
    """Rewards samples that spread."""

    requires = (Decodes,)
    __init__ = nothing

    def penalty(self, model, num_samples):
        return -model.decode(model.sample_latent(num_samples)).std(0).mean()


class Half(CriticInput):
    """Shows the critic half of everything."""

    __init__ = nothing

    def apply(self, x, progress):
        return x / 2


class Bounded(CriticWeights):
    """Scales the first linear map down."""

    __init__ = nothing

    def apply(self, network):
        next(network.parameters()).data.mul_(0.5)


class Smooth(CriticLabels):
    """Less than certain."""

    real_label = 0.9
    __init__ = nothing


REGULARIZERS = [
    broken(Regularizer, "it acts nowhere; inherit", __init__=nothing),
    broken(Flat, r"the penalty has shape \(12,\)", penalty=lambda self, critic, real, fake: real.squared_gradients),
    broken(
        Flat,
        "no gradient of the penalty reaches the critic",
        penalty=lambda self, critic, real, fake: real.x.square().mean(),
    ),
    broken(
        Flat,
        "the penalty is nan",
        penalty=lambda self, critic, real, fake: real.squared_gradients.mean() * float("nan"),
    ),
    broken(
        Flat,
        "does not follow the global seed",
        penalty=lambda self, critic, real, fake: real.squared_gradients.mean() * torch.rand((), generator=GENERATOR),
    ),
    broken(Wide, "the penalty has shape", penalty=lambda self, model, n: model.decode(model.sample_latent(n)).std(0)),
    broken(Half, "and shape.. and group announce", apply=lambda self, x, progress: x[..., :1]),
    broken(Half, "no gradient reaches the examples", apply=lambda self, x, progress: x.detach() + 0 * x),
    broken(Half, "draws random numbers", apply=lambda self, x, progress: x + torch.randn_like(x)),
    broken(Half, "say so: joint = True", apply=lambda self, x, progress: x - x.mean(0)),
    broken(Half, "no score depends on more than one example", joint=True),
    broken(Bounded, "it changes nothing of a network", apply=lambda self, network: None),
    broken(
        Bounded,
        "changed network: the gradient of .* is zero",
        apply=lambda self, network: network.append(nn.Linear(1, 1)).append(Constant()),
    ),
    broken(Smooth, r"the label of real data is 1.5; it must lie in \(0, 1\]", real_label=1.5),
]
GENERATOR = torch.Generator()


class Constant(nn.Module):
    def forward(self, y):
        return 0 * y + 1


@pytest.mark.parametrize("cls", [Flat, Wide, Half, Bounded, Smooth])
def test_sound_regularizer_passes(cls):
    check_regularizer(Factory("sound", {}, cls))


@pytest.mark.parametrize(("cls", "complaint"), REGULARIZERS)
def test_broken_regularizer_is_caught(cls, complaint):
    caught(check_regularizer, cls, complaint)


# ---- feature extractors ------------------------------------------------------------------------------------------


class Means(FeatureExtractor):
    """The values themselves, in a row, after what is learned is taken off."""

    label = "means"

    def __init__(self, spec, /):
        self.spec = spec

    def fit(self, train, test):
        self.mean = next(train.batches(100)).x.mean(0)
        return ""

    def features(self, x):
        return (x - self.mean).flatten(1)


class Guesses(Means, Classifies):
    """Classes that are not there."""

    def __init__(self, spec, /):
        super().__init__(spec)

    def classify(self, x):
        return torch.full((len(x),), 1000)


EXTRACTORS = [
    broken(Means, r"features have shape .*, not \(B, D\)", features=lambda self, x: x[:1].flatten(1)),
    broken(Means, "not float32", features=lambda self, x: x.flatten(1).double()),
    broken(Means, "draws random numbers", features=lambda self, x: torch.rand(len(x), 3)),
    broken(Means, "all examples have the same features", features=lambda self, x: torch.zeros(len(x), 3)),
    broken(Means, "depend on the rest of the batch", features=lambda self, x: (x - x.mean(0)).flatten(1)),
    broken(Means, "fit draws random numbers", fit=lambda self, train, test: str(torch.rand(1))),
    broken(Means, "its label is empty", label=""),
    broken(
        Means,
        "under another global seed the features are others",
        __init__=lambda self, spec, /: setattr(self, "offset", torch.rand(1)),
        features=lambda self, x: x.flatten(1) + self.offset,
    ),
    broken(Guesses, "classes leave those of the data"),
]


def test_sound_extractor_passes():
    check_feature_extractor(Factory("means", {}, Means))


@pytest.mark.parametrize(("cls", "complaint"), EXTRACTORS)
def test_broken_extractor_is_caught(cls, complaint):
    caught(check_feature_extractor, cls, complaint)


# ---- estimators --------------------------------------------------------------------------------------------------

LATENTS = 20  # for each example


class Weighs(Estimator):
    """Importance sampling, all at once."""

    label = "importance sampling"

    def __init__(self):
        pass

    @torch.no_grad()
    def estimate(self, model, x):
        return course_of(draw(model, x, LATENTS).log_weights)


def course_of(log_weights):
    mean = RunningMean(log_weights[0])
    mean.add(log_weights)
    return mean.course()


def altered(**changes):
    """Every estimate of the course with some of its parts made of the sound ones."""

    def estimate(self, model, x):
        course = Weighs.estimate(self, model, x)
        return [Estimate(**{**vars(each), **{name: make(each) for name, make in changes.items()}}) for each in course]

    return estimate


def weighing(log_weights):
    """Some of what makes a weight, in place of all of it."""

    @torch.no_grad()
    def estimate(self, model, x):
        return course_of(log_weights(draw(model, x, LATENTS)))

    return estimate


def before(act):
    """Something that is done to the model first."""

    def estimate(self, model, x):
        act(model)
        return Weighs.estimate(self, model, x)

    return estimate


def learns(model):
    with torch.enable_grad():
        sum(parameter.square().sum() for parameter in model.parameters()).backward()


def alone(self, model, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Weighs.estimate(self, model, x)


def seeds(self, model, x):
    torch.manual_seed(5)
    return Weighs.estimate(self, model, x)


ESTIMATORS = [
    broken(Weighs, "its label, part of each figure's tag, is empty", label=""),
    broken(
        Weighs,
        r"estimates are of \[20\] draws; of the first 1, 10, 100",
        estimate=lambda self, model, x: Weighs.estimate(self, model, x)[-1:],
    ),
    broken(Weighs, r"estimates are of \[2, 11, 21\] draws", estimate=altered(draws=lambda each: each.draws + 1)),
    broken(Weighs, r"estimates are of \[\] draws", estimate=lambda self, model, x: []),
    broken(Weighs, r"nats have shape \(\), not \(3,\)", estimate=altered(nats=lambda each: each.nats.mean())),
    broken(Weighs, "nats are not finite", estimate=altered(nats=lambda each: each.nats / 0)),
    broken(Weighs, "errors are .*; nan of one draw", estimate=altered(errors=lambda each: 0 * each.effective)),
    broken(
        Weighs, "effective samples; from 1 to the draws", estimate=altered(effective=lambda each: each.errors + 1e3)
    ),
    broken(Weighs, "nats carry gradients", estimate=altered(nats=lambda each: each.nats.requires_grad_())),
    broken(Weighs, "another seed gives the same estimates", estimate=alone),
    broken(Weighs, "seeds torch's global generator", estimate=seeds),
    broken(
        Weighs,
        "the model was changed",
        estimate=before(lambda model: next(model.parameters()).data.add_(1.0)),
    ),
    broken(Weighs, "a gradient was changed", estimate=before(learns)),
    broken(Weighs, "was taken away", estimate=before(lambda model: model.zero_grad())),
    broken(Weighs, "no longer asks for gradients", estimate=before(lambda model: model.requires_grad_(False))),
    broken(Weighs, "leaves the model in training mode", estimate=before(lambda model: model.train())),
    broken(
        Weighs,
        "caller's tensor was changed",
        estimate=lambda self, model, x: Weighs.estimate(self, model, x.mul_(0.5)),
    ),
    broken(
        Weighs,
        "depend on whether gradients are recorded",
        estimate=lambda self, model, x: course_of(
            draw(model, x, LATENTS).log_weights.detach() + torch.is_grad_enabled()
        ),
    ),
    broken(
        Weighs,
        "10 draws: the estimates are 10.* times the likelihood",
        estimate=altered(nats=lambda each: each.nats + torch.tensor(each.draws).log()),
    ),
    broken(
        Weighs,
        "times the likelihood in the mean of 1000 examples, not 1",
        estimate=weighing(lambda d: d.log_likelihood - d.log_posterior),
    ),
    broken(Weighs, "times the likelihood", estimate=weighing(lambda d: d.log_likelihood)),
    broken(Weighs, "times the likelihood|errors that are told", estimate=weighing(lambda d: d.log_weights.roll(1, 1))),
    broken(
        Weighs,
        "errors that are told come to",
        estimate=altered(errors=lambda each: each.errors * each.draws**0.5),
    ),
    broken(Weighs, "errors that are told come to", estimate=altered(errors=lambda each: 0.3 * each.errors)),
    broken(Weighs, "float64 in, torch.float32 out", estimate=altered(nats=lambda each: each.nats.float())),
]


def test_sound_estimator_passes():
    check_estimator(Factory("weighs", {}, Weighs))


@pytest.mark.parametrize(("cls", "complaint"), ESTIMATORS)
def test_broken_estimator_is_caught(cls, complaint):
    caught(check_estimator, cls, complaint)
