"""Precision and recall, density and coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import Evaluator, Factory, Figure, GenerativeModel, Note, SplitName, Subject, use
from genkit.events import Better
from genkit_features.extractor import FeatureExtractor
from genkit_metrics.comparison import Comparison, Splits
from genkit_metrics.frechet import Count

READINGS: dict[str, Better | None] = dict.fromkeys(("precision", "recall", "density", "coverage"), "higher")
ROWS = 1000  # of a matrix of distances at a time


class PrecisionRecall(Evaluator):
    r"""Fidelity and variety apart, by nearest neighbours among features of data and of samples.

    Balls around each example reach to its k-th nearest neighbour in its own set. ``precision`` is the share of
    samples in a ball of data, ``recall`` the share of data in a ball of samples, ``density`` the number of balls of
    data that a sample lies in, over k, and ``coverage`` the share of data with a sample in their ball. Each has its
    floor: training data in the place of samples.

    Args:
        extractor: Whose features to use.
        num_samples: Examples on either side.
        neighbours: The neighbour that a ball reaches to, k.
        splits: The splits to compare with; test comes once, at the end.

    References:
        Kynkaanniemi et al.: Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS 2019, arXiv
        1904.06991, equation 2. Naeem et al.: Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020,
        arXiv 2002.09797, equations 3 and 4.
    """

    examples = ({}, {"extractor": "values"})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        extractor: Factory[FeatureExtractor] = use("classifier"),
        num_samples: Count = 10_000,
        neighbours: PositiveInt = 5,
        splits: Splits = ("validation", "test"),
    ) -> None:
        self._splits = tuple(splits)
        self.neighbours = neighbours
        self.compare = Comparison(extractor, model.spec, num_samples, self._measure, READINGS)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Compares samples with a split."""
        return self.compare(subject, split)

    def _measure(self, data: Tensor, samples: Tensor) -> Mapping[str, float]:
        return precision_recall(data, samples, self.neighbours)


def precision_recall(data: Tensor, samples: Tensor, neighbours: int = 5) -> Mapping[str, float]:
    """The four figures.

    Args:
        data: Features with shape :math:`(N, D)`.
        samples: Features with shape :math:`(M, D)`.
        neighbours: The neighbour that a ball reaches to, fewer where a set has fewer.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        >>> precision_recall(x, torch.tensor([[0.5], [1.5], [30.0], [31.0]]), neighbours=1)
        {'precision': 0.5, 'recall': 0.75, 'density': 1.0, 'coverage': 0.75}
    """
    data, samples = data.double(), samples.double()  # matrix products lose the digits that tell near from nearer
    data_radii, sample_radii = radii(data, neighbours), radii(samples, neighbours)
    in_sample_ball = torch.zeros(len(data), dtype=torch.bool, device=data.device)
    covered = torch.zeros_like(in_sample_ball)
    balls_of_data = []
    for rows, rows_radii in zip(samples.split(ROWS), sample_radii.split(ROWS), strict=True):
        distances = torch.cdist(rows, data)  # (m, N)
        inside = distances <= data_radii
        balls_of_data.append(inside.sum(1))
        covered |= inside.any(0)
        in_sample_ball |= (distances <= rows_radii[:, None]).any(0)
    counts = torch.cat(balls_of_data).float()
    return {
        "precision": (counts > 0).float().mean().item(),
        "recall": in_sample_ball.float().mean().item(),
        "density": counts.mean().item() / min(neighbours, len(data) - 1),
        "coverage": covered.float().mean().item(),
    }


def radii(features: Tensor, neighbours: int) -> Tensor:
    """The distance of each example from its k-th nearest neighbour in the same set, with shape :math:`(N,)`."""
    rank = min(neighbours, len(features) - 1) + 1  # the nearest is the example itself
    return torch.cat([torch.cdist(rows, features).kthvalue(rank, dim=1).values for rows in features.split(ROWS)])
