"""Four thin rings."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from genkit_toy.concentric import Concentric, Radii


class Rings(Concentric):
    r"""Four thin rings around the origin; an example's label is its ring.

    The density is that of :class:`genkit_toy.concentric.Concentric`, a sum of Bessel functions. The entropy is 2.6232
    nats.

    Args:
        radii: The rings' radii, in the order of their labels.
        std: The noise around each.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367 (their code; there with angles evenly spaced).

    Example:
        >>> data = Rings(train=1000)
        >>> split = data.split("train")
        >>> bool(((split.source.norm(dim=1) - 0.75 * (split.labels + 1)).abs() < 0.5).all())
        True
    """

    examples = ({}, {"radii": [2.0], "std": 0.5})

    def __init__(
        self,
        *,
        radii: Radii = (0.75, 1.5, 2.25, 3.0),
        std: PositiveFloat = 0.08,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__("rings", radii, std, train=train, validation=validation, test=test, data_seed=data_seed)
