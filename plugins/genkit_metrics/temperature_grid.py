"""The same latents at several temperatures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from genkit import Decodes, Evaluator, GenerativeModel, Picture, SplitName, Subject, image_grid

Temperatures = Annotated[Sequence[NonNegativeFloat], Field(min_length=1)]


class TemperatureGrid(Evaluator):
    """Rows of decoded latents, each row at a temperature of its own.

    The rows stand in the order of ``temperatures``, the first on top. All rows are made from the same random numbers,
    so that in a column nothing but the temperature changes: 1 is the prior itself, less trades variety for quality, and
    at 0 all images of the row are the same.

    Args:
        temperatures: One for each row, from top to bottom.
        columns: Images from left to right.
        zoom: Screen pixels for one pixel.

    References:
        Kingma and Dhariwal: Glow: Generative Flow with Invertible 1x1 Convolutions, NeurIPS 2018, arXiv 1807.03039,
        section 6 (effect of temperature).
    """

    requires = (Decodes,)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        temperatures: Temperatures = (0.5, 0.7, 0.8, 0.9, 1.0),
        columns: PositiveInt = 8,
        zoom: PositiveInt = 2,
    ) -> None:
        model.spec.need_images("temperature_grid")
        self.temperatures = temperatures
        self.columns = columns
        self.zoom = zoom

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Decodes row by row."""
        seed = int(torch.randint(2**31, ()))
        with torch.random.fork_rng([]):  # the CPU's generator is put back here, and a device's by who calls evaluators
            images = torch.cat([self._row(subject, temperature, seed) for temperature in self.temperatures])
        yield Picture(image_grid(images, self.columns, zoom=self.zoom))

    def _row(self, subject: Subject, temperature: float, seed: int) -> Tensor:
        assert isinstance(subject.model, Decodes)
        torch.manual_seed(seed)  # of every device
        z = subject.model.sample_latent(self.columns, temperature=temperature)
        return torch.cat([subject.model.decode(part) for part in z.split(subject.batch_size)])
