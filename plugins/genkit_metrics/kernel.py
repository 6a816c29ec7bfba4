"""The kernel distance."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from pydantic import PositiveInt
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance

from genkit import Evaluator, Factory, Figure, GenerativeModel, Note, SplitName, Subject, use
from genkit_features.extractor import FeatureExtractor
from genkit_metrics.comparison import Comparison, Splits
from genkit_metrics.frechet import AsTheyAre, Count


class Kernel(Evaluator):
    r"""The kernel distance between features of data and of samples: KID, with features of your choice.

    The squared maximum mean discrepancy

    .. math:: \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y), \qquad
        k(x, y) = \left(\tfrac{1}{D} x^\top y + 1\right)^3

    Unbiased, so that it does not fall with the number of samples and may be a little below 0: the mean over random
    subsets, with the standard deviation over them. Its floor is the distance between training and test data.

    Args:
        extractor: Whose features to use.
        num_samples: Examples on either side.
        subsets: Random subsets.
        subset_size: Examples in each, at most.
        splits: The splits to compare with; test comes once, at the end.

    References:
        Binkowski et al.: Demystifying MMD GANs, ICLR 2018, arXiv 1801.01401, section 4.
    """

    examples = ({}, {"extractor": "values"})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        extractor: Factory[FeatureExtractor] = use("classifier"),
        num_samples: Count = 10_000,
        subsets: PositiveInt = 100,
        subset_size: Count = 1000,
        splits: Splits = ("validation", "test"),
    ) -> None:
        self._splits = tuple(splits)
        self.subsets = subsets
        self.subset_size = subset_size
        self.compare = Comparison(extractor, model.spec, num_samples, self._distance, {"": "lower", "std": None})

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Compares samples with a split."""
        return self.compare(subject, split)

    def _distance(self, data: Tensor, samples: Tensor) -> Mapping[str, float]:
        return kernel_distance(data, samples, self.subsets, self.subset_size)


def kernel_distance(data: Tensor, samples: Tensor, subsets: int = 100, subset_size: int = 1000) -> Mapping[str, float]:
    """Mean (under an empty name) and standard deviation over subsets, by torchmetrics.

    Args:
        data: Features with shape :math:`(N, D)`.
        samples: Features with shape :math:`(M, D)`.
        subsets: Random subsets.
        subset_size: Examples in each, fewer where there are fewer.
    """
    size = min(subset_size, len(data), len(samples))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, which we have anyway
        metric = KernelInceptionDistance(AsTheyAre(data.shape[1]), subsets=subsets, subset_size=size)
    metric.update(data, real=True)
    metric.update(samples, real=False)
    mean, std = metric.compute()
    return {"": mean.item(), "std": std.item()}
