"""What a training step of the engine costs against a bare loop, and against the loop that people write.

Run it with ``python tests/benchmarks/step.py [recipe]`` on a quiet machine. In one process, in turn: the engine's
step; a bare loop over the same model, tensors and fused optimizer; a conventional loop with a DataLoader, transforms
on single images and ``.item()`` at every step. The figure is the ratio of medians over rounds of so many steps.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import VisionDataset
from torchvision.transforms import Compose, ToTensor

from genkit.dataset import Batch
from genkit.engine import assemble
from genkit.engine.assembly import Assembly
from genkit.engine.ledger import Ledger
from genkit.engine.step import TrainStep
from genkit.objective import Progress
from genkit.recipe import load_recipe

ROUNDS, STEPS, WARM_UP = 12, 50, 20


def endless(assembly: Assembly) -> Iterator:
    epoch = 0
    while True:
        yield from assembly.feeds["train"].epoch(assembly.recipe.train.batch_size, seed=1, epoch=epoch)
        epoch += 1


def engine(assembly: Assembly) -> Callable[[], None]:
    step = TrainStep(assembly.turns, assembly.players, assembly.device)
    ledger, batches = Ledger(STEPS), endless(assembly)
    progress = Progress(torch.zeros(()), torch.zeros(()))
    taken = 0

    def advance() -> None:
        nonlocal taken
        for player in assembly.players.values():
            player.set_learning_rate(0.0, 80)
        row = step([next(batches)], progress)
        ledger.write(step.names, row)
        taken += 1
        if taken % STEPS == 0:
            ledger.read(taken)
            ledger.window.take()

    return advance


def bare(assembly: Assembly) -> Callable[[], None]:
    (turn,) = assembly.turns
    player = assembly.players[turn.player]
    progress = Progress(torch.zeros(()), torch.zeros(()))
    images, size = assembly.feeds["train"].resident, assembly.recipe.train.batch_size
    order = torch.randperm(len(images))
    taken = 0

    def advance() -> None:
        nonlocal taken
        start = taken * size % (len(images) - size)
        batch = assembly.feeds["train"].split.prepare(images[order[start : start + size]])
        player.optimizer.zero_grad(set_to_none=True)
        turn.loss(Batch(batch), progress).total.backward()
        player.optimizer.step()
        taken += 1

    return advance


class Files(VisionDataset):
    """Images one by one, as torchvision's MNIST gives them: from an array through PIL and transforms."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__(transform=Compose([ToTensor(), lambda x: (x > 0.5).float()]))
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.fromarray(self.images[index].numpy(), mode="L"))


def conventional(assembly: Assembly) -> Callable[[], None]:
    (turn,) = assembly.turns
    model = assembly.parts.model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    progress = Progress(torch.zeros(()), torch.zeros(()))
    images = assembly.feeds["train"].resident[:, 0] * 255
    loader = DataLoader(Files(images), assembly.recipe.train.batch_size, shuffle=True)
    batches = (batch for _ in iter(int, 1) for batch in loader)

    def advance() -> None:
        loss = turn.loss(Batch(next(batches)), progress).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return advance


def main() -> None:
    recipe = sys.argv[1] if len(sys.argv) > 1 else "recipes/vae_mlp.yaml"
    loops = {
        loop.__name__: loop(assemble(load_recipe(recipe), torch.device("cpu"))) for loop in (bare, engine, conventional)
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for round_ in range(ROUNDS + 1):
        for name, advance in loops.items():
            began = time.perf_counter()
            for _ in range(STEPS if round_ else WARM_UP):
                advance()
            if round_:
                times[name].append((time.perf_counter() - began) / STEPS)
    floor = statistics.median(times["bare"])
    print(f"{recipe}, {torch.get_num_threads()} threads")
    for name, values in times.items():
        ratios = [own / base for own, base in zip(values, times["bare"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(values)
        print(
            f"{name:14} {1000 * median:6.2f} ms a step  {median / floor:.3f} x the bare loop  ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
