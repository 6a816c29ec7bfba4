"""Units of information."""

from __future__ import annotations

import math


def bits_per_dim(nats: float, num_dims: int) -> float:
    r"""Turns a negative log-likelihood in nats into bits per dimension, :math:`\mathrm{nats} / (D \ln 2)`.

    Args:
        nats: Nats per example.
        num_dims: Dimensions of an example, :math:`D`.

    Example:
        >>> bits_per_dim(784 * math.log(2), 784)
        1.0
    """
    return nats / (num_dims * math.log(2))
