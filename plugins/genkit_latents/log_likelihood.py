"""Log-likelihoods of models with latents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated

import torch
from pydantic import Field, PositiveInt

from genkit import (
    Factory,
    Figure,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    LogProb,
    Note,
    Picture,
    SplitName,
    Subject,
    bits_per_dim,
    first_batch,
    use,
)
from genkit.model import Measure
from genkit_latents.courses import draw_courses
from genkit_latents.estimator import Estimate, Estimator
from genkit_latents.latent_evaluator import LatentEvaluator, Splits, part_of

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
EXAMPLES = 20  # at a time: a chunk of latents then holds many of each
HARDLY_ONE = 1.5  # effective samples
MOST = 0.5  # of the examples
OWN = ("bits_per_dim", "standard_error", "draws_error", "effective_samples")


class LogLikelihood(LatentEvaluator):
    r"""The mean of :math:`-\log p(x)` over a split, by an estimator that says how far it can be trusted.

    The principal figure is in nats per example; lower is better. Beside it stand ``bits_per_dim``, the same in bits
    per dimension, and in nats ``standard_error``, the standard deviation of the estimates over the examples over
    :math:`\sqrt N`, which is how far another split of the same size would lie; ``draws_error``, the part of it that is
    due to the estimator's draws alone; and ``effective_samples``, the mean over the examples of how many equally
    weighted draws those of an example are worth. Where most examples have hardly one, the figure is a bound and no
    more, and a note says so. Where no draw of an example has any weight, the figure is infinite, and a note says that.

    Other estimators may stand beside the first, each with the same figures under its name. The picture ``course``
    shows what each of them would have said with its first 1, 10, 100, ... draws: how far it is off (by the place of the
    line) and how much it varies (by the bars, two standard errors of a single example's estimate on either side).

    Args:
        estimator: How :math:`\log p(x)` is estimated.
        compare: Other estimators on the same examples, by the names that their figures go under.
        examples: How many examples, from all over the split; all of them, where nothing is said.
        splits: The splits to measure; test comes once, at the end.

    References:
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, section 5.
        Wu et al.: On the Quantitative Analysis of Decoder-Based Generative Models, ICLR 2017, arXiv 1611.04273.
    """

    requires = (LatentVariable, HasLogProb)
    examples = (
        {"estimator": {"use": "importance", "k": 10}, "compare": {"fewer": {"use": "importance", "k": 2}}},
        {
            "estimator": {"use": "importance", "k": 2},
            "compare": {
                "from_the_prior": {"use": "monte_carlo", "k": 2},
                "in_steps": {"use": "annealed", "k": 2, "temperatures": 3, "leapfrog": 1},
            },
            "examples": 3,
            "splits": ["validation"],
        },
    )

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        estimator: Factory[Estimator] = use("importance"),
        compare: Mapping[Name, Factory[Estimator]] | None = None,
        examples: PositiveInt | None = None,
        splits: Splits = ("test",),
    ) -> None:
        super().__init__(examples, splits)
        others = {name: factory() for name, factory in (compare or {}).items()}
        if taken := sorted({estimator.name, *OWN} & others.keys()):
            raise ValueError(
                f"compare: the name {taken[0]!r} is taken by the figures of {estimator.name!r}; use another"
            )
        self.estimators = {"": estimator(), **others}
        self.names = {"": estimator.name, **{name: name for name in others}}

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note | Picture]:
        """Estimates example by example."""
        measure = self._measure(subject, split)
        courses: dict[str, list[Estimate]] = {}
        for name, estimator in self.estimators.items():
            courses[self.names[name]] = course = self._course(estimator, subject, split)
            last = course[-1]
            tag = LogProb(last.nats, "estimate", measure, last.draws, estimator.label).tag(subject.spec)
            tag += part_of(len(last.nats), len(subject.view(split)))
            yield from figures(last, name, tag, subject.spec.num_dims)
            yield from notes(last, self.names[name])
        yield Picture(draw_courses(courses), "course")

    def _course(self, estimator: Estimator, subject: Subject, split: SplitName | None) -> list[Estimate]:
        """The estimates of all examples together, with more and more draws.

        They are kept as numbers: of tensors that stay while chunks of latents come and go, the allocator makes holes
        that no chunk fits in any more, and memory would grow with the examples.
        """
        model = subject.model
        assert isinstance(model, LatentVariable)
        few = (part for x in self.batches(subject, split) for part in x.split(EXAMPLES))
        parts = [[Numbers(one) for one in estimator.estimate(model, x)] for x in few]
        return [together(same) for same in zip(*parts, strict=True)]

    def _measure(self, subject: Subject, split: SplitName | None) -> Measure:
        model = subject.model
        assert isinstance(model, HasLogProb)
        return model.log_prob(first_batch(subject.view(split), 1).x).measure


class Numbers:
    """An estimate's values as numbers.

    Args:
        estimate: The estimate.
    """

    def __init__(self, estimate: Estimate) -> None:
        self.draws = estimate.draws
        self.columns = [values.tolist() for values in (estimate.nats, estimate.errors, estimate.effective)]


def together(parts: Sequence[Numbers]) -> Estimate:
    """The estimates of several batches as one, in double precision on the host."""
    columns = zip(*(part.columns for part in parts), strict=True)
    nats, errors, effective = (torch.tensor(list(chain(*column)), dtype=torch.float64) for column in columns)
    return Estimate(parts[0].draws, nats, errors, effective)


def figures(estimate: Estimate, name: str, tag: str, num_dims: int) -> Iterator[Figure]:
    """What an estimator's figures are called and come to."""
    inner = f"{name}/" if name else ""
    nats = -estimate.nats.mean().item()
    count = len(estimate.nats)
    yield Figure(nats, name, unit="nats", tag=tag, better="lower")
    yield Figure(bits_per_dim(nats, num_dims), f"{inner}bits_per_dim", unit="bits/dim", tag=tag, better="lower")
    known = math.isfinite(nats)
    if known and count > 1:
        error = estimate.nats.std().item() / count**0.5
        yield Figure(error, f"{inner}standard_error", unit="nats", tag=tag)
    if known and estimate.draws > 1:
        yield Figure(estimate.errors.norm().item() / count, f"{inner}draws_error", unit="nats", tag=tag)
    yield Figure(
        estimate.effective.mean().item(), f"{inner}effective_samples", tag=f"{tag}; mean over {count} examples"
    )


def notes(estimate: Estimate, name: str) -> Iterator[Note]:
    """What should worry the reader of an estimator's figures."""
    draws, count = estimate.draws, len(estimate.nats)
    lost, odd = int((estimate.effective == 0).sum()), int(estimate.nats.isnan().sum())
    if odd:
        yield Note(f"{name}: for {odd} of {count} examples the estimate is no number: the model has diverged")
    poor = (estimate.effective < HARDLY_ONE).double().mean().item()
    if lost:
        yield Note(
            f"{name}: for {lost} of {count} examples no draw of {draws} has any weight: their likelihood is estimated "
            "as 0, and the figure is infinite; more draws, or another estimator, may find some"
        )
    elif draws == 1:
        yield Note(
            f"{name}: from one draw for each example comes a bound on the likelihood and no estimate of it", "note"
        )
    elif poor > MOST:
        yield Note(
            f"{name}: of {draws} draws one has nearly all the weight for {poor:.0%} of the examples: the figure is a "
            "bound on the likelihood, and the likelihood may be far above it"
        )
