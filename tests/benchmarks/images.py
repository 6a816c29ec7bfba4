"""Times one epoch over a folder of JPEGs: as people read it, and as genkit does. Nothing is trained.

``python tests/benchmarks/images.py`` generates 20,000 images of 64 x 64 in a temporary folder. All ways run in one
process, in rounds that alternate, with the files in the system's cache; ratios are taken within a round.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder as PlainFolder
from torchvision.transforms import ToTensor

import genkit
from genkit.engine.feed import Feed
from genkit.engine.placement import kept_shape
from genkit.engine.pool import Pool

CPU = torch.device("cpu")
SIZE, BATCH, CLASSES = 64, 128, 10
REFERENCE = "DataLoader, 2 workers"


def generate(folder, count):
    """Smooth random images, in folders of their classes."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"{label}").mkdir()
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        image.save(folder / f"{number % CLASSES}" / f"{number:06}.jpg", quality=90)


def conventional(folder, workers):
    """Torchvision's dataset and transform in torch's loader."""
    data = PlainFolder(str(folder), ToTensor())
    return lambda epoch: DataLoader(data, BATCH, shuffle=True, num_workers=workers)


def ours(split, workers, pool=None):
    """The engine's batches."""
    feed = Feed(split, CPU, workers, pool)
    return lambda epoch: (batch.x for batch in feed.epoch(BATCH, seed=0, epoch=epoch))


def new_pool(split):
    """Room for all images, empty."""
    return Pool(len(split), kept_shape(split), CPU, CPU)


def seconds(batches, epoch):
    """How long an epoch takes; every batch arrives as float32."""
    began = time.perf_counter()
    for x in batches(epoch):
        assert (x if isinstance(x, torch.Tensor) else x[0]).dtype == torch.float32
    return time.perf_counter() - began


def one_round(folder, split, epoch):
    """Seconds of each way, the order turned around in every second round."""
    ways = {f"DataLoader, {n} workers": conventional(folder, n) for n in (0, 2)}
    ways |= {f"genkit, streamed, {n} workers": ours(split, n) for n in (0, 2)}
    found = {name: seconds(ways[name], epoch) for name in list(ways)[:: -1 if epoch % 2 else 1]}
    pool = new_pool(split)
    for name in ("genkit, kept, 2 workers, first epoch", "genkit, kept, second epoch"):
        found[name] = seconds(ours(split, 2, pool), epoch)
    found["genkit, a tensor from the start"] = seconds(ours(genkit.Split(pool.raw), 0), epoch)
    return found


def start_of_workers(split, rounds):
    """Seconds that two workers take to start, to read one image each and to end, beyond reading these two here."""
    few = genkit.Split(torch.utils.data.Subset(split.source, range(2)))
    costs = [list(map(timed, (Feed(few, CPU, 2), Feed(few, CPU, 0)))) for _ in range(rounds)]
    return statistics.median(workers - alone for workers, alone in costs)


def timed(feed):
    """How long a pass takes in batches of one image."""
    began = time.perf_counter()
    list(feed.batches(1))
    return time.perf_counter() - began


def report(rounds, count):
    """Medians, and quartiles of the ratios of single rounds."""
    print(f"{'one epoch':40}{'seconds':>9}{'images/s':>11}{'ratio':>8}   quartiles")
    for name in rounds[0]:
        times = [found[name] for found in rounds]
        ratios = [found[REFERENCE] / found[name] for found in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        taken = statistics.median(times)
        print(f"{name:40}{taken:9.2f}{count / taken:11,.0f}{middle:8.2f}   {low:.2f} to {high:.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genkit-images-") as place:
        folder = Path(place)
        generate(folder, options.images)
        began = time.perf_counter()
        data = genkit.build("dataset", {"use": "image_folder", "path": place, "size": SIZE, "validation": 0, "test": 0})
        split = data.split("train")
        headers = time.perf_counter() - began
        one_round(folder, split, 0)
        rounds = [one_round(folder, split, epoch) for epoch in range(options.rounds)]
        start = start_of_workers(split, 20)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__},")
    print(
        f"Pillow {PIL.__version__}; {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads; batches of"
    )
    print(f"{BATCH} of {options.images:,} JPEGs of {SIZE} x {SIZE}; {options.rounds} rounds after one to warm up")
    report(rounds, options.images)
    print(f"before the first batch, all headers are read: {headers:.2f} s")
    print(f"two workers start and end in {1000 * start:.0f} ms")


if __name__ == "__main__":
    main()
