"""One-sided label smoothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from genkit_gan.regularizer import CriticLabels


class LabelSmoothing(CriticLabels):
    """Teaches the critic that real data are real with less than certainty; the label of samples stays 0.

    Args:
        amount: How far the label of real data lies below 1.

    References:
        Salimans et al.: Improved Techniques for Training GANs, NeurIPS 2016, arXiv 1606.03498, section 3.4.
    """

    def __init__(self, *, amount: Annotated[float, Field(gt=0, lt=0.5)] = 0.1) -> None:
        self.amount = amount

    @property
    def real_label(self) -> float:
        """1 less the amount."""
        return 1 - self.amount
