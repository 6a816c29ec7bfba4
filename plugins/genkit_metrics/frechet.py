"""The Fréchet distance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from genkit import Evaluator, Factory, Figure, GenerativeModel, Note, SplitName, Subject, use
from genkit_features.extractor import FeatureExtractor
from genkit_metrics.comparison import Comparison, Splits

Count = Annotated[int, Field(ge=2)]


class Frechet(Evaluator):
    r"""The Fréchet distance between features of data and of samples: FID, with features of your choice.

    Of normals fitted to both sets of features:

    .. math:: \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\left(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\right)

    Depends on the extractor, on the number of examples and on the split: all three are in the tag. Its floor is the
    distance between training and test data. Never compare it with published figures in other features.

    Args:
        extractor: Whose features to use.
        num_samples: Examples on either side.
        splits: The splits to compare with; test comes once, at the end.

    References:
        Heusel et al.: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, NeurIPS
        2017, arXiv 1706.08500, equation 6.
    """

    examples = ({}, {"extractor": "values"})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        extractor: Factory[FeatureExtractor] = use("classifier"),
        num_samples: Count = 10_000,
        splits: Splits = ("validation", "test"),
    ) -> None:
        self._splits = tuple(splits)
        self.compare = Comparison(extractor, model.spec, num_samples, frechet_distance, {"": "lower"})

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Compares samples with a split."""
        return self.compare(subject, split)


class AsTheyAre(nn.Identity):
    """In the place of torchmetrics' extractor: what it is given are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def frechet_distance(data: Tensor, samples: Tensor) -> Mapping[str, float]:
    """The distance, under an empty name, of features with shape :math:`(N, D)`; by torchmetrics, in float64.

    Example:
        >>> import torch
        >>> x = torch.tensor([[-1.0], [1.0], [3.0]])
        >>> round(frechet_distance(x, 2 * x)[""], 4)  # (1 - 2)^2 + (2 - 4)^2
        5.0
    """
    metric = FrechetInceptionDistance(AsTheyAre(data.shape[1]))
    metric.update(data.double(), real=True)
    metric.update(samples.double(), real=False)
    return {"": metric.compute().clamp(min=0).item()}
