"""Two circles, one in the other."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from genkit_toy.concentric import Concentric, Radii


class Circles(Concentric):
    r"""Two blurred circles, one in the other; an example's label is its circle.

    The density is that of :class:`genkit_toy.concentric.Concentric`, a sum of Bessel functions. The entropy is 3.2681
    nats. This is ``make_circles`` with factor 0.5 and noise 0.08, three times as large.

    Args:
        radii: The circles' radii, in the order of their labels.
        std: The noise around each.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Pedregosa et al.: Scikit-learn: Machine Learning in Python, JMLR 2011 (``make_circles``, there with angles
        evenly spaced). Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367 (factor, noise and scale).

    Example:
        >>> import torch
        >>> inner, between, outer = Circles().energy(torch.tensor([[1.5, 0.0], [0.0, 2.25], [0.0, 3.0]])).tolist()
        >>> inner < outer < between  # both circles have half of the points, but the outer one is longer
        True
    """

    def __init__(
        self,
        *,
        radii: Radii = (1.5, 3.0),
        std: PositiveFloat = 0.24,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__("circles", radii, std, train=train, validation=validation, test=test, data_seed=data_seed)
