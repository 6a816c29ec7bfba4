"""How far the first moments of samples are from those of the data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import Evaluator, Figure, GenerativeModel, Picture, SplitName, Subject, image_grid, spread


class Template(Evaluator):
    r"""How far mean and spread of the samples are from those of the data, element by element.

    .. math:: \sqrt{\tfrac1D \textstyle\sum_d (m_d - m'_d)^2}, \qquad \sqrt{\tfrac1D \textstyle\sum_d (s_d - s'_d)^2}

    with means :math:`m` and standard deviations :math:`s` of the data, :math:`m'` and :math:`s'` of the samples.

    Both figures are in units of the data. Their floors are what real examples get in the samples' place: half of the
    data against the other half. Of images, it shows the two means side by side, data on the left.

    Args:
        num_samples: Samples to draw, and at most twice as many examples to compare them with.
    """

    examples = ({}, {"num_samples": 8})

    def __init__(self, model: GenerativeModel, /, *, num_samples: PositiveInt = 1000) -> None:
        self.num_samples = num_samples

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """Data that the model was not trained on."""
        return ("validation", "test")

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Picture]:
        """Draws samples and compares them with a split's data."""
        view = subject.view(split)
        count = min(2 * self.num_samples, len(view))
        real = torch.cat([batch.x for batch in spread(view, count, subject.batch_size)])
        samples = subject.sampler.sample(self.num_samples).x
        real = real[torch.randperm(len(real))]  # neighbours may be of two kinds, as MNIST's are
        (mean, deviation), (floor, deviation_floor) = gaps(real, samples), gaps(real[::2], real[1::2])
        yield Figure(mean, better="lower", floor=floor)
        yield Figure(deviation, "spread", better="lower", floor=deviation_floor)
        if subject.spec.is_image:
            yield Picture(image_grid(torch.stack([real.mean(0), samples.mean(0)]), columns=2, zoom=4))


def gaps(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Root mean squares of the differences in mean and standard deviation of two sets with shape :math:`(N, *S)`.

    Example:
        >>> gaps(torch.zeros(4, 2), torch.ones(4, 2))
        (1.0, 0.0)
    """
    means = x.mean(0) - y.mean(0)
    deviations = x.std(0, unbiased=False) - y.std(0, unbiased=False)
    return means.square().mean().sqrt().item(), deviations.square().mean().sqrt().item()
