"""What samplers that are fitted to latents have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from genkit import (
    Decodes,
    GenerativeModel,
    GenkitError,
    HasLevels,
    LatentVariable,
    Sampler,
    Samples,
    Views,
    spread,
)

BATCH = 500
Output = Literal["draw", "mean"]


class LatentSampler(Sampler):
    """Abstract sampler that decodes latents of a distribution that it learned from the training data's.

    Implementing one:

    1. Learn in ``fit``, from the examples that :meth:`training_examples` gives.
    2. Draw latents in :meth:`draw_latents`; say with :class:`genkit.GenkitError` that :meth:`fit` comes first.

    Args:
        model: A model whose latents are of one level.
        examples: Training examples to learn from at most; ``None`` for all.
        output: What is made of a latent: a draw from the likelihood or its mean.

    Raises:
        ValueError: The model's latents are of several levels.
    """

    requires = (LatentVariable, Decodes)
    fitted = True

    def __init__(self, model: GenerativeModel, examples: int | None, output: Output, /) -> None:
        if isinstance(model, HasLevels) and len(model.levels) > 1:
            sizes = " and ".join(map(str, model.levels))
            raise ValueError(
                f"fits one latent, but {type(model).__name__} has {len(model.levels)} levels of latents, with {sizes} "
                "dimensions; prior would do"
            )
        self.model = model
        self.num_examples = examples
        self.output = output

    @abstractmethod
    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws latents with shape :math:`(N, *Z)`."""

    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws latents and decodes them.

        Raises:
            ValueError: A context is given, of which the latents know nothing.
            GenkitError: Nothing was learned yet.
        """
        if context is not None:
            raise ValueError("a sampler that is fitted to latents cannot be conditioned on a context")
        assert isinstance(self.model, Decodes)
        assert isinstance(self.model, LatentVariable)
        z = self.draw_latents(num_samples)
        if self.output == "mean":
            return Samples(self.model.decode(z))
        likelihood = self.model.likelihood(z)
        return Samples(likelihood.sample(), likelihood.mean)

    def training_examples(self, data: Views) -> Iterator[Tensor]:
        """Training examples from all over the split, in batches.

        Raises:
            GenkitError: There are none.
        """
        if "train" not in data:
            raise GenkitError("a sampler that is fitted to latents needs training data, and there are none")
        view = data["train"]
        count = len(view) if self.num_examples is None else min(self.num_examples, len(view))
        return (batch.x for batch in spread(view, count, BATCH))
