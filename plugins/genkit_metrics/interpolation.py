"""Interpolation between latents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from genkit import (
    Decodes,
    Encodes,
    Evaluator,
    GenerativeModel,
    GenkitError,
    Picture,
    SplitName,
    Subject,
    first_batch,
    image_grid,
)
from genkit.model import lacking

Path = Literal["lerp", "slerp"]


class Interpolation(Evaluator):
    r"""Rows of images that change from one latent's to another's, both ends included.

    ``lerp`` goes straight, :math:`(1 - t) z_0 + t z_1`; ``slerp`` goes along the arc between the two,
    which keeps to lengths that a normal prior makes likely.

    Args:
        pairs: Rows: pairs of latents.
        steps: Images between the two ends.
        path: The way from one end to the other, "lerp" or "slerp".
        between: Where the ends come from: "prior", or the latents of "data" for a model that encodes: the first
            images of the validation data (of the training data, where there is no validation).
        zoom: Screen pixels for one pixel.

    References:
        White: Sampling Generative Networks, 2016, arXiv 1609.04468, section 3.1 (slerp).
    """

    requires = (Decodes,)

    examples = ({}, {"path": "slerp", "between": "data"})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        pairs: PositiveInt = 4,
        steps: NonNegativeInt = 5,
        path: Path = "lerp",
        between: Literal["prior", "data"] = "prior",
        zoom: PositiveInt = 2,
    ) -> None:
        model.spec.need_images("interpolation")
        if between == "data" and lacking(model, (Encodes,)):
            reason = model.withheld.get(Encodes, f"{type(model).__name__} does not")
            raise ValueError(f"between: data needs a model that encodes: {reason}; between: prior would do")
        self.pairs = pairs
        self.steps = steps
        self.path: Path = path
        self.between = between
        self.zoom = zoom

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Decodes the latents of each row."""
        assert isinstance(subject.model, Decodes)
        start, end = self._ends(subject).chunk(2)
        z = interpolate(start, end, self.steps, self.path)  # (pairs, steps + 2, *Z)
        images = torch.cat([subject.model.decode(part) for part in z.flatten(0, 1).split(subject.batch_size)])
        yield Picture(image_grid(images, self.steps + 2, zoom=self.zoom))

    def _ends(self, subject: Subject) -> Tensor:
        if self.between == "prior":
            assert isinstance(subject.model, Decodes)
            return subject.model.sample_latent(2 * self.pairs)
        assert isinstance(subject.model, Encodes)
        data = first_batch(subject.view(None), 2 * self.pairs).x
        if len(data) < 2:
            raise GenkitError("interpolation between data takes at least 2 examples, and the split has 1")
        return subject.model.encode(data[: len(data) // 2 * 2])


def interpolate(start: Tensor, end: Tensor, steps: int, path: Path = "lerp") -> Tensor:
    """Latents on the way from one to another.

    Args:
        start: Where the ways begin, with shape :math:`(B, *Z)`.
        end: Where they end, with the same shape.
        steps: Latents between the two.
        path: Straight ("lerp") or along the arc between the two as seen from the origin ("slerp").

    Returns:
        With shape :math:`(B, steps + 2, *Z)`, both ends included.

    Example:
        >>> interpolate(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 1).tolist()
        [[[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]]
        >>> [[round(v, 2) for v in z] for z in interpolate(torch.eye(2)[:1], torch.eye(2)[1:], 1, "slerp")[0].tolist()]
        [[1.0, 0.0], [0.71, 0.71], [0.0, 1.0]]
    """
    t = torch.linspace(0, 1, steps + 2, device=start.device)
    a, b = start.flatten(1).unsqueeze(1), end.flatten(1).unsqueeze(1)  # (B, 1, D)
    share_a, share_b = 1 - t[None, :, None], t[None, :, None]  # (1, T, 1)
    if path == "slerp":
        cosine = torch.cosine_similarity(a, b, dim=-1).clamp(-1, 1).unsqueeze(-1)  # (B, 1, 1)
        angle = cosine.arccos()
        curved = angle.sin() > 1e-3  # latents in one line, or opposite, have no one arc between them
        sine = torch.where(curved, angle.sin(), 1)
        share_a = torch.where(curved, (share_a * angle).sin() / sine, share_a)
        share_b = torch.where(curved, (share_b * angle).sin() / sine, share_b)
    return (share_a * a + share_b * b).unflatten(-1, start.shape[1:])
