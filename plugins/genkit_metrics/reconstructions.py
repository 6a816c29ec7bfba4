"""Data beside its reconstructions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import PositiveInt

from genkit import Decodes, Encodes, Evaluator, GenerativeModel, Picture, SplitName, Subject, first_batch, image_grid


class Reconstructions(Evaluator):
    """Pairs of rows: data above, what is decoded from its latents below.

    Shows the first images of the validation data (of the training data, where there is no validation).

    Args:
        rows: Pairs of rows.
        columns: Images in a row.
        zoom: Screen pixels for one pixel.
    """

    requires = (Encodes, Decodes)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        rows: PositiveInt = 4,
        columns: PositiveInt = 8,
        zoom: PositiveInt = 2,
    ) -> None:
        model.spec.need_images("reconstructions")
        self.rows = rows
        self.columns = columns
        self.zoom = zoom

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Encodes and decodes."""
        assert isinstance(subject.model, Encodes)
        assert isinstance(subject.model, Decodes)
        data = first_batch(subject.view(split), self.rows * self.columns).x
        decoded = subject.model.decode(subject.model.encode(data))
        pairs = zip(data.split(self.columns), decoded.split(self.columns), strict=True)
        rows = torch.cat([torch.cat(pair) for pair in pairs])
        yield Picture(image_grid(rows, min(self.columns, len(data)), zoom=self.zoom))
