"""Weights, gradients and optimizer states shared out among the processes that train together: FSDP2.

References:
    Zhao et al.: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, VLDB 2023, arXiv 2304.11277.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from genkit.dataset import Batch
from genkit.engine.shards import is_shard
from genkit.model import GenerativeModel
from genkit.objective import Loss, Objective, Progress, Turn

LARGE = 2**20
"""Parameters from which on a layer is gathered only while it computes."""
LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.Embedding, nn.MultiheadAttention),
)
"""Layers whose parameters nobody but their own ``forward`` should touch."""


class Shards(nn.Module):
    """A model and its objective, of whose parameters each process keeps its part; calling it is computing a loss.

    Between two losses there is nothing whole. While a loss is computed and its gradients are, all weights are; but
    where one player moves everything, large layers are gathered one after another, each while it is needed. A layer
    that is gathered so cannot be differentiated through twice, as critics are for a gradient penalty: their games have
    several players.

    Scalars cannot be shared out: they stay whole, and their gradients are averaged.

    Args:
        model: The model.
        objective: The objective.
        device: What this process trains on.
        alone: Whether one player moves everything.
    """

    def __init__(self, model: GenerativeModel, objective: Objective, device: torch.device, *, alone: bool) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.alone = alone
        self.gathered: dict[str, nn.Parameter] = {}
        self.mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        scalars = {parameter for parameter in self.parameters() if not parameter.dim()}
        for layer in self._large_layers() if alone else ():
            fully_shard(layer, mesh=self.mesh)
        fully_shard(self, mesh=self.mesh, ignored_params=scalars)
        for scalar in scalars:
            if scalar.requires_grad:
                scalar.register_hook(_averaged)

    def forward(self, turn: Turn, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is descended upon, the loss itself, and its terms."""
        self.gathered = dict(self.named_parameters())
        loss = turn.loss(batch, progress)
        return loss.total * batch.weight, loss.total.detach(), {k: v.detach() for k, v in loss.terms.items()}

    def loss_of(self, turn: Turn, parameters: Sequence[Tensor]) -> ShardedLoss:
        """A turn's loss, for the parameters that its player moves."""
        return ShardedLoss(turn, parameters, self)

    def share_out(self, other: nn.Module) -> None:
        """Leaves this process its part of the parameters of a module that nobody trains, such as an average."""
        for owner in other.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if parameter.dim():
                    own = distribute_tensor(parameter.detach(), self.mesh, [Shard(0)], src_data_rank=None)
                    owner.register_parameter(name, nn.Parameter(own, parameter.requires_grad))

    def _large_layers(self) -> list[nn.Module]:
        sizes = {layer: sum(own.numel() for own in layer.parameters()) for layer in self.modules()}
        return [layer for layer, size in sizes.items() if type(layer) in LAYERS and size >= LARGE]


class ShardedLoss:
    """A turn's loss on this process's part of a batch; gradients become those of the whole batch, shared out.

    Args:
        turn: The turn.
        parameters: What its player moves.
        shards: All that there is.
    """

    def __init__(self, turn: Turn, parameters: Sequence[Tensor], shards: Shards) -> None:
        own = set(parameters)
        self.turn = turn
        self.shards = shards
        self.names = [name for name, parameter in shards.named_parameters() if parameter in own]

    def __call__(self, batch: Batch, progress: Progress) -> tuple[Tensor, Loss]:
        """What is descended upon, and the loss to be logged."""
        descended, total, terms = self.shards(self.turn, batch, progress)
        return descended, Loss(total, terms)

    @property
    def inputs(self) -> Sequence[Tensor] | None:
        """The parameters that the last loss is to be differentiated by; ``None`` for all that there are."""
        return None if self.shards.alone else [self.shards.gathered[name] for name in self.names]

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Gradients of each batch are shared out at once: whole ones would need the room that sharing them saves."""
        return contextlib.nullcontext()


def _averaged(gradient: Tensor) -> Tensor:
    """The mean over all ranks of what is the same tensor on each."""
    assert not is_shard(gradient)
    summed = gradient.clone()
    dist.all_reduce(summed)
    return summed / dist.get_world_size()
