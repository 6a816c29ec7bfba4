"""A player: some parameters, their optimizer and their learning rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from genkit.engine.shards import is_shard, part, part_like, total_norm
from genkit.errors import CheckpointError
from genkit.optimizer import Optimizer, Schedule


def moves_all(players: Collection[Sequence[nn.Parameter]], owners: Sequence[nn.Module]) -> bool:
    """Whether one player moves all that can be moved: then gradients go nowhere else, and torch need not look."""
    if len(players) != 1 or not owners:
        return False
    (own,) = players
    return {p for owner in owners for p in owner.parameters() if p.requires_grad} <= set(own)


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
        self._part_groups()
        self.schedule = schedule
        self._base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._rates = list(self._base_rates)
        self._is_shared_out = any(is_shard(parameter) for parameter in self.parameters)
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

    def _part_groups(self) -> None:
        """Has no group of both whole and shared-out parameters: fused kernels take none."""
        for group in list(self.optimizer.param_groups):
            if isinstance(self.optimizer, torch.optim.SGD) and any(is_shard(p) for p in group["params"]):
                group.update(fused=False, foreach=True)  # torch has no fused kernel of it for shared-out parameters
            whole = [parameter for parameter in group["params"] if not is_shard(parameter)]
            if 0 < len(whole) < len(group["params"]):
                group["params"] = [parameter for parameter in group["params"] if is_shard(parameter)]
                self.optimizer.param_groups.append({**group, "params": whole})

    @property
    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def clip(self, norm: float) -> Tensor:
        """Scales the gradients down to a norm; returns the norm that they had, with shape :math:`()`."""
        if not self._is_shared_out:
            return nn.utils.clip_grad_norm_(self.parameters, norm, foreach=True)
        before = self.grad_norm()
        torch._foreach_mul_([part(gradient) for gradient in self._gradients], (norm / (before + 1e-6)).clamp(max=1))  # pyright: ignore[reportPrivateImportUsage]
        return before

    def grad_norm(self) -> Tensor:
        """The norm of the gradients, with shape :math:`()`."""
        return total_norm(self._gradients)

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
        able = getattr(self.optimizer, "_step_supports_amp_scaling", False) and not self._is_shared_out
        return able and all(parameter in self.optimizer.state for parameter in self.parameters)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimizer's state, tensors and plain numbers apart."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
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
                own = self.parameters[index]
                if isinstance(value, Tensor) and value.shape == own.shape:
                    entries[key] = torch.empty_like(own, dtype=value.dtype).copy_(part_like(value, own))
        groups = self.optimizer.state_dict()["param_groups"]
        order = chain.from_iterable(group["params"] for group in self.optimizer.param_groups)
        place = {id(parameter): number for number, parameter in enumerate(order)}
        placed = {place[id(self.parameters[index])]: entries for index, entries in state.items()}
        self.optimizer.load_state_dict({"state": placed, "param_groups": groups})

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
