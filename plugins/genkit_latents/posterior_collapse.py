"""Posterior collapse: latents that say nothing of an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from genkit import Figure, GenerativeModel, LatentVariable, Note, SplitName, Subject
from genkit_latents.latent_evaluator import LatentEvaluator, Splits
from genkit_latents.usage import Level, Usage, usage_of

Share = Annotated[float, Field(gt=0, le=1)]
REMEDY = (
    "a divergence that sets in slowly (warmup_epochs: 10, of the objective elbo) or costs nothing at first "
    "(free_bits: 0.1) keeps latents in use; so does a decoder that can do less without them"
)


class PosteriorCollapse(LatentEvaluator):
    r"""How many latent dimensions have collapsed: their posterior is the prior, whatever the example.

    .. math:: \mathbb{E}_x\left[\mathrm{KL}(q(z_i \mid x) \,\|\, p(z_i))\right] < \epsilon

    The principal figure is their number, ``share`` their share among all; latents of several levels have both for each,
    ``level_1`` next to the data. A collapse is said aloud: when the share reaches ``warn_at``, and when a level as a
    whole has collapsed. Where prior or posterior does not factorize, only a collapse of all dimensions together can be
    told: then all of them count, or none.

    Args:
        threshold: The nats :math:`\epsilon` below which a dimension has collapsed.
        warn_at: The share of collapsed dimensions from which a warning is given.
        after: Epochs before which no warning is given: of an untrained model all latents say nothing.
        k: Latents for each example, where the divergence has no closed form.
        examples: How many examples, from all over the split; all of them, where nothing is said.
        splits: The splits to judge; test comes once, at the end.

    References:
        He et al.: Lagging Inference Networks and Posterior Collapse in Variational Autoencoders, ICLR 2019,
        arXiv 1901.05534. Lucas et al.: Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse, NeurIPS
        2019, arXiv 1911.02469.
    """

    examples = ({}, {"examples": 7, "k": 3, "splits": ["train"]})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        threshold: PositiveFloat = 0.01,
        warn_at: Share = 0.5,
        after: PositiveInt = 1,
        k: PositiveInt = 10,
        examples: PositiveInt | None = None,
        splits: Splits = ("validation", "test"),
    ) -> None:
        super().__init__(examples, splits)
        self.threshold = threshold
        self.warn_at = warn_at
        self.after = after
        self.k = k

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Counts."""
        assert isinstance(subject.model, LatentVariable)
        usage = usage_of(subject.model, self.batches(subject, split), self.k)
        yield from self._figures(usage.levels, "", usage)
        for level in usage.parts:
            yield from self._figures([level], level.name, usage)
        if subject.epoch >= self.after:
            yield from self._warnings(usage)

    def _figures(self, levels: Sequence[Level], name: str, usage: Usage) -> Iterator[Figure]:
        size, silent = sum(level.size for level in levels), self._silent(levels)
        tag = f"of {size} dimensions; below {self.threshold:g} nats; {usage.tag}"
        if not all(level.factorizes for level in levels):
            tag += "; dimensions that do not factorize count together"
        yield Figure(silent, name, tag=tag)
        yield Figure(silent / size, f"{name}/share" if name else "share", tag=tag)

    def _warnings(self, usage: Usage) -> Iterator[Note]:
        silent, size = self._silent(usage.levels), usage.size
        less = f"less than {self.threshold:g} nats on average"
        if silent >= self.warn_at * size:
            yield Note(f"collapsed: {silent} of {size} latent dimensions say nothing of an example ({less}); {REMEDY}")
        gone = [level.name for level in usage.parts if self._silent([level]) == level.size]
        if gone and silent < size:
            yield Note(f"collapsed: all dimensions of {' and '.join(gone)} say nothing of an example ({less})")

    def _silent(self, levels: Sequence[Level]) -> int:
        return sum(level.silent(self.threshold) for level in levels)
