"""A player: some parameters, their optimizer and their learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genkit.errors import CheckpointError
from genkit.optimizer import Optimizer, Schedule


class Player:
    """Steps its parameters down the gradient of its turns' losses.

    Args:
        parameters: What it moves.
        optimizer: How it moves.
        schedule: Course of the learning rate.
        recordable: Keep what changes from step to step in tensors on the device, so that steps can be replayed.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        recordable: bool = False,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = optimizer.build(self.parameters)
        self.schedule = schedule
        self._base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._rates = list(self._base_rates)
        if recordable:
            self._make_recordable()

    @property
    def num_parameters(self) -> int:
        """Numbers that it moves."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def optimizer_kind(self) -> str:
        """What the optimizer's state looks like: that of another kind is of no use to it."""
        momentum = self.optimizer.defaults.get("momentum")
        return f"{type(self.optimizer).__name__}{' with momentum' if momentum else ''}"

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._rates[0]

    def set_learning_rate(self, epoch: float, total_epochs: int) -> None:
        """Follows the schedule."""
        factor = self.schedule.factor(epoch, total_epochs)
        rates = [base * factor for base in self._base_rates]
        if rates == self._rates:
            return
        self._rates = rates
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _make_recordable(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=self.parameters[0].device)
            if "capturable" in group:
                group["capturable"] = True

    def clip(self, norm: float) -> Tensor:
        """Scales the gradients down to a norm; returns the norm that they had, with shape :math:`()`."""
        return nn.utils.clip_grad_norm_(self.parameters, norm, foreach=True)

    def grad_norm(self) -> Tensor:
        """The norm of the gradients, with shape :math:`()`."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return nn.utils.get_total_norm(gradients, foreach=True)

    def step(self) -> None:
        """Moves the parameters."""
        self.optimizer.step()

    def step_if(self, sound: Tensor) -> None:
        """Moves the parameters if a condition holds, and else leaves them and the optimizer's state as they are.

        Args:
            sound: The condition, bool with shape :math:`()`. The host waits for it, unless the optimizer can take it
                on the device.
        """
        if sound.is_cuda and self._takes_conditions():
            self.optimizer.found_inf = (~sound).float()  # pyright: ignore[reportAttributeAccessIssue]
            self.optimizer.grad_scale = None  # pyright: ignore[reportAttributeAccessIssue]
            self.optimizer.step()
        elif sound:
            self.optimizer.step()

    def _takes_conditions(self) -> bool:
        """Whether the optimizer reads torch's ``found_inf``, and has a state to begin with: it would make one up."""
        able = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        return able and all(parameter in self.optimizer.state for parameter in self.parameters)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimizer's state, tensors and plain numbers apart."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, entries in self.optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                place = tensors if isinstance(value, Tensor) else numbers
                place[f"{index}.{key}"] = value
        return tensors, numbers

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned.

        Raises:
            CheckpointError: It belongs to other parameters.
        """
        state: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors, **numbers}.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self._check_shapes(state)
        for index, entries in state.items():  # fused kernels take a parameter and its state in the order of memory
            for key, value in entries.items():
                if isinstance(value, Tensor) and value.shape == self.parameters[index].shape:
                    entries[key] = torch.empty_like(self.parameters[index], dtype=value.dtype).copy_(value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check_shapes(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        for index, entries in state.items():
            for key, value in entries.items():
                fits = index < len(self.parameters) and (
                    not isinstance(value, torch.Tensor)
                    or value.dim() == 0
                    or value.shape == self.parameters[index].shape
                )
                if not fits:
                    raise CheckpointError(
                        f"the optimizer's {key!r} of parameter {index} does not fit this recipe's model"
                    )
