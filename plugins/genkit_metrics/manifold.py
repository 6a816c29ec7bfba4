"""The data manifold of a two-dimensional latent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import Decodes, Evaluator, GenerativeModel, Picture, SplitName, Subject, image_grid


def percentiles(size: int, spacing: Literal["centred", "practical"] = "centred") -> Tensor:
    r"""Standard normal quantiles at evenly spaced percentiles, float64, with shape :math:`(g,)`.

    ``centred`` takes :math:`(i + 0.5) / g`, symmetric about the median; ``practical`` takes
    :math:`(i + 0.5) / (g + 1)`, the first :math:`g` values of a list that the 2020 practical gives, which is lopsided.

    Example:
        >>> [round(v, 2) for v in percentiles(20)[[0, -1]].tolist()]
        [-1.96, 1.96]
        >>> [round(v, 2) for v in percentiles(20, "practical")[[0, -1]].tolist()]
        [-1.98, 1.47]
    """
    divisor = size if spacing == "centred" else size + 1
    return torch.special.ndtri((torch.arange(size, dtype=torch.float64) + 0.5) / divisor)


class Manifold(Evaluator):
    r"""What each place of a two-dimensional latent stands for: a grid of decoded latents.

    The grid covers equal shares of the standard normal prior. The first latent grows from left to right, the
    second from bottom to top, as in a plot with axes.

    Args:
        grid: Images along each axis, :math:`g`.
        spacing: Where the percentiles lie: "centred" at (i + 0.5)/g, or "practical" at (i + 0.5)/(g + 1) as the
            2020 edition of the UvA practical has them.
        zoom: Screen pixels for one pixel.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, figure 4.
    """

    requires = (Decodes,)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        grid: PositiveInt = 20,
        spacing: Literal["centred", "practical"] = "centred",
        zoom: PositiveInt = 1,
    ) -> None:
        model.spec.need_images("manifold")
        assert isinstance(model, Decodes)
        if tuple(model.latent_shape) != (2,):
            raise ValueError(
                f"the manifold is a plane: it needs latents with 2 dimensions, and this model's have shape "
                f"{tuple(model.latent_shape)} (for a VAE, set model.latent_dim to 2)"
            )
        self.grid = grid
        self.spacing: Literal["centred", "practical"] = spacing
        self.zoom = zoom

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Decodes the grid, row by row from the top."""
        assert isinstance(subject.model, Decodes)
        device = subject.model.sample_latent(1).device
        z = latent_plane(self.grid, self.spacing).to(device)
        images = torch.cat([subject.model.decode(part) for part in z.split(subject.batch_size)])
        yield Picture(image_grid(images, self.grid, zoom=self.zoom, gap=0))


def latent_plane(size: int, spacing: Literal["centred", "practical"] = "centred") -> Tensor:
    """The grid's latents, row by row from the top left, with shape :math:`(g^2, 2)`.

    Example:
        >>> latent_plane(2).sign().tolist()
        [[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
    """
    values = percentiles(size, spacing).float()
    first, second = torch.meshgrid(values, values.flip(0), indexing="xy")
    return torch.stack([first, second], dim=-1).flatten(0, 1)
