"""A grid of samples."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from genkit import Evaluator, GenerativeModel, Picture, SplitName, Subject, image_grid


class SampleGrid(Evaluator):
    """A grid of samples, and of their means where the model has means.

    The random numbers are the same at every epoch, so that pictures show how the same latents develop.

    Args:
        rows: Images from top to bottom.
        columns: Images from left to right.
        zoom: Screen pixels for one pixel.
    """

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        rows: PositiveInt = 8,
        columns: PositiveInt = 8,
        zoom: PositiveInt = 2,
    ) -> None:
        model.spec.need_images("sample_grid")
        self.rows = rows
        self.columns = columns
        self.zoom = zoom

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Draws from the recipe's sampler."""
        samples = subject.sampler.sample(self.rows * self.columns)
        yield Picture(image_grid(samples.x, self.columns, zoom=self.zoom), "samples")
        if samples.mean is not None:
            yield Picture(image_grid(samples.mean, self.columns, zoom=self.zoom), "means")
