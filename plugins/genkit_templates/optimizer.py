"""Lion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from genkit import Optimizer

Decay = Annotated[float, Field(ge=0, lt=1)]


class Template(Optimizer):
    r"""Lion: steps of one size, whose direction is the sign of a running mean of the gradient.

    .. math:: \theta \leftarrow \theta - \eta \left(\mathrm{sign}(\beta_1 m + (1 - \beta_1) g) + \lambda \theta\right),
        \qquad m \leftarrow \beta_2 m + (1 - \beta_2) g

    Every step moves every weight by the learning rate: it wants to be three to ten times smaller than Adam's.

    Args:
        lr: Learning rate :math:`\eta`.
        betas: Decays :math:`\beta_1` of the mean that gives the direction, :math:`\beta_2` of the one that is kept.
        weight_decay: Share :math:`\lambda` of a weight taken away each step, times the learning rate.

    References:
        Chen et al.: Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, arXiv 2302.06675, program 1.
    """

    examples = ({}, {"lr": 1e-3, "betas": [0.5, 0.9], "weight_decay": 0.1})

    def __init__(
        self,
        *,
        lr: PositiveFloat = 1e-4,
        betas: tuple[Decay, Decay] = (0.9, 0.99),
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        self.constants = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        return Steps(parameters, self.constants)


class Steps(torch.optim.Optimizer):
    """The steps themselves, as torch wants them. All that is to survive a checkpoint is a tensor in ``state``.

    Args:
        params: What is moved.
        defaults: The constants, ``lr`` among them, which the schedule changes from step to step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                direction = torch.lerp(parameter.grad, state["mean"], beta1).sign_()
                parameter.mul_(1 - lr * group["weight_decay"]).sub_(lr * direction)
                state["mean"].lerp_(parameter.grad, 1 - beta2)
