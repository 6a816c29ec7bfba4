"""The training loop that people write: a data loader over single examples, plain optimizers, figures at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import ToTensor

from genkit.bench.loops import ByHand
from genkit.dataset import Batch, Split, bytes_to_unit
from genkit.engine.assembly import Assembly
from genkit.objective import Turn

NO_LABEL = -1


class Conventional(ByHand):
    """The conventional loop.

    Its optimizers are torch's default form of the recipe's, neither fused nor multi-tensor unless torch chooses so.
    Its data loader reads the batches of one call of :meth:`take` and rests when they are read, so that its workers do
    not run while other loops are timed.

    Args:
        assembly: What to train.
        workers: Processes of the data loader.
    """

    def __init__(self, assembly: Assembly, workers: int) -> None:
        super().__init__(assembly)
        split = assembly.feeds["train"].split
        self.labelled = split.labels is not None or not isinstance(split.source, Tensor)
        self.order = self._shuffled(len(split))
        self.upcoming: list[list[int]] = []
        self.loader = DataLoader(
            Examples(split), batch_sampler=self.upcoming, num_workers=workers, persistent_workers=workers > 0
        )
        for player in assembly.players.values():
            use_default_form(player.optimizer)
        if self.train.ema is not None:
            self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(self.train.ema))
        self.figures: dict[str, float] = {}

    def steps(self, steps: int) -> Iterator[Sequence[Batch]]:
        """Reads them through the data loader."""
        order = list(islice(self.order, steps))
        self.upcoming[:] = [indices for step in order for indices in step]
        loader = iter(self.loader)
        for step in order:
            yield [self._batch(*next(loader)) for _ in step]

    def move(self, turn: Turn, batches: Sequence[Batch]) -> None:
        """The usual three lines, and every term read."""
        player, norm = self.assembly.players[turn.player], self.norm(turn)
        player.optimizer.zero_grad()
        for batch in batches:
            loss = self.loss(turn, batch)
            (loss.total / len(batches)).backward()
            for name, value in {"loss": loss.total, **loss.terms}.items():
                self.figures[f"{turn.name}/{name}"] = value.item()
        if norm is not None:
            self.figures[f"{turn.name}/grad_norm"] = nn.utils.clip_grad_norm_(player.parameters, norm).item()
        player.optimizer.step()

    def average(self, decay: float) -> None:
        """Torch's own moving average."""
        self.averaged.update_parameters(self.model)

    def _batch(self, x: Tensor, labels: Tensor) -> Batch:
        labelled = self.labelled and bool((labels >= 0).all())
        return Batch(x.to(self.device), labels.to(self.device) if labelled else None)

    def _shuffled(self, length: int) -> Iterator[list[list[int]]]:
        """The indices of each batch of every step, epoch after epoch."""
        size, group = self.train.batch_size, self.assembly.batches_per_step
        end = self.assembly.feeds["train"].steps(size, self.train.drop_last) * size
        while True:
            order = torch.randperm(length).tolist()[:end]
            batches = [order[i : i + size] for i in range(0, len(order), size)]
            yield from (batches[i : i + group] for i in range(0, len(batches), group))


class Examples(TorchDataset[tuple[Tensor, int]]):
    """A split's examples one by one, each prepared when it is read.

    Images that are held as bytes with one or three channels go the usual way, through PIL and torchvision.

    Args:
        split: The split.
    """

    def __init__(self, split: Split) -> None:
        self.labels = split.labels
        self.source: Any = split.source
        self.transform: Callable[[Any], Tensor] = Single(split.prepare)
        if isinstance(split.source, Tensor) and are_pictures(split.source):
            self.source = split.source.permute(0, 2, 3, 1).squeeze(3).contiguous()  # (N, H, W) or (N, H, W, 3)
            self.transform = ThroughPIL(split.prepare)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if isinstance(self.source, Tensor):
            return self.transform(self.source[index]), NO_LABEL if self.labels is None else int(self.labels[index])
        raw, label = self.source[index]
        return self.transform(raw), label


def are_pictures(source: Tensor) -> bool:
    """Whether raw examples are bytes that make grey or colour pictures."""
    return source.dtype == torch.uint8 and source.dim() == 4 and source.shape[1] in (1, 3)


class Single:
    """Prepares one example as a split prepares batches.

    Args:
        prepare: What prepares a batch.
    """

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        self.prepare = prepare

    def __call__(self, raw: Tensor) -> Tensor:
        """The example, float32, with the spec's shape."""
        return self.prepare(raw[None])[0]


class ThroughPIL:
    """Makes a picture of one image's bytes, a tensor of the picture, and prepares that.

    :class:`torchvision.transforms.ToTensor` divides by 255; a split that prepares its images in another way is given
    the bytes' values back, exactly, as floats.

    Args:
        prepare: What prepares a batch of bytes.
    """

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        self.to_tensor = ToTensor()
        self.finish = None if prepare is bytes_to_unit else Single(prepare)

    def __call__(self, pixels: Tensor) -> Tensor:
        """The image with shape :math:`(C, H, W)`, for bytes with shape :math:`(H, W)` or :math:`(H, W, 3)`."""
        unit = self.to_tensor(Image.fromarray(pixels.numpy()))
        return unit if self.finish is None else self.finish(unit.mul_(255))


def use_default_form(optimizer: torch.optim.Optimizer) -> None:
    """Lets torch choose how an optimizer goes over its parameters, as it does where nothing is said."""
    for group in optimizer.param_groups:
        group.update(fused=None, foreach=None)
