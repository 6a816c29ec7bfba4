"""Torch's optimizers, in their fused form where there is one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from genkit import Optimizer

Betas = tuple[NonNegativeFloat, NonNegativeFloat]


class Adam(Optimizer):
    """Adam: steps scaled by running moments of the gradient.

    Args:
        lr: Learning rate.
        betas: Decays of the running mean and of the running square.
        eps: Added to the denominator.
        weight_decay: Coefficient of the L2 penalty.

    References:
        Kingma and Ba: Adam: A Method for Stochastic Optimization, ICLR 2015, arXiv 1412.6980.
    """

    def __init__(
        self,
        *,
        lr: PositiveFloat = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        self.constants = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The fused optimizer."""
        return torch.optim.Adam(parameters, fused=True, **self.constants)


class AdamW(Optimizer):
    """AdamW: Adam with weight decay apart from the gradient.

    Args:
        lr: Learning rate.
        betas: Decays of the running mean and of the running square.
        eps: Added to the denominator.
        weight_decay: Share of a weight taken away each step, times the learning rate.

    References:
        Loshchilov and Hutter: Decoupled Weight Decay Regularization, ICLR 2019, arXiv 1711.05101.
    """

    def __init__(
        self,
        *,
        lr: PositiveFloat = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.01,
    ) -> None:
        self.constants = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The fused optimizer."""
        return torch.optim.AdamW(parameters, fused=True, **self.constants)


class Adamax(Optimizer):
    """Adamax: Adam with the infinity norm.

    Args:
        lr: Learning rate.
        betas: Decays of the running mean and of the running maximum.
        eps: Added to the denominator.
        weight_decay: Coefficient of the L2 penalty.

    References:
        Kingma and Ba: Adam: A Method for Stochastic Optimization, ICLR 2015, section 7.1, arXiv 1412.6980.
    """

    def __init__(
        self,
        *,
        lr: PositiveFloat = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        self.constants = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The multi-tensor optimizer; torch has no fused Adamax."""
        return torch.optim.Adamax(parameters, foreach=True, **self.constants)


class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running square of the gradient.

    Args:
        lr: Learning rate.
        alpha: Decay of the running square.
        eps: Added to the denominator.
        momentum: Momentum of the scaled gradient.
        weight_decay: Coefficient of the L2 penalty.
    """

    def __init__(
        self,
        *,
        lr: PositiveFloat = 1e-3,
        alpha: NonNegativeFloat = 0.99,
        eps: PositiveFloat = 1e-8,
        momentum: NonNegativeFloat = 0.0,
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        self.constants = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "weight_decay": weight_decay,
        }

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The multi-tensor optimizer; torch has no fused RMSprop."""
        return torch.optim.RMSprop(parameters, foreach=True, **self.constants)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    Args:
        lr: Learning rate.
        momentum: Share of the last step that is repeated.
        nesterov: Whether the gradient is taken ahead of that share.
        weight_decay: Coefficient of the L2 penalty.
    """

    def __init__(
        self,
        *,
        lr: PositiveFloat = 1e-2,
        momentum: NonNegativeFloat = 0.0,
        nesterov: bool = False,
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        self.constants = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The fused optimizer."""
        return torch.optim.SGD(parameters, fused=True, **self.constants)
