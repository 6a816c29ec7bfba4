"""Decides where the examples of a streamed dataset stay once they are decoded, and says so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import torch
from rich.filesize import decimal
from torch import Tensor

from genkit.dataset import Shape, Split, SplitName
from genkit.engine.feed import Feed
from genkit.engine.machine import free_bytes
from genkit.engine.pool import Pool
from genkit.errors import Problem, RecipeError
from genkit.recipe import Recipe

HOST = torch.device("cpu")
DEVICE_SHARE = 0.25
"""What the examples may take of a GPU's free memory; gradients, optimizers and activations are still to come."""
HOST_SHARE = 0.5
"""What they may take of the host's free memory."""


def pools_for(recipe: Recipe, splits: Mapping[SplitName, Split], device: torch.device) -> dict[SplitName, Pool]:
    """Room for the examples of streamed splits, all in one place; none where they are to be read in every epoch.

    Raises:
        RecipeError: ``train.cache`` names a place, and the examples cannot stay there.
        DataError: A split's first example cannot be read.
    """
    wanted = recipe.train.cache
    if wanted == "none":
        return {}
    shapes = _shapes(recipe, splits)
    need = sum(len(splits[name]) * math.prod(shape) for name, shape in shapes.items())
    place = place_for(need, device, wanted)
    if place is None and wanted != "auto":
        free = free_bytes(device if wanted == "device" else HOST)
        raise _refusal(recipe, f"its examples take {decimal(need)} as bytes, and {decimal(free)} are free")
    if place is None:
        return {}
    return {name: Pool(len(splits[name]), shape, place, device) for name, shape in shapes.items()}


def _shapes(recipe: Recipe, splits: Mapping[SplitName, Split]) -> Mapping[SplitName, Shape]:
    """The shapes of the raw examples of all streamed splits that can be kept."""
    shapes: dict[SplitName, Shape | None] = {
        name: kept_shape(split) for name, split in splits.items() if not isinstance(split.source, Tensor) and len(split)
    }
    if recipe.train.cache != "auto" and None in shapes.values():
        raise _refusal(recipe, "only bytes that are the same each time can be kept, and its examples are none")
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _refusal(recipe: Recipe, reason: str) -> RecipeError:
    message = f"{recipe.data.name} cannot be kept on the {recipe.train.cache}: {reason}; auto or none would do"
    return RecipeError([Problem("train.cache", message, recipe.place("train.cache"))])


def kept_shape(split: Split) -> Shape | None:
    """The shape of a streamed split's raw examples if they can be kept, being bytes that are the same each time."""
    if not split.fixed:
        return None
    raw, _ = split.source[0]
    return tuple(raw.shape) if isinstance(raw, Tensor) and raw.dtype == torch.uint8 else None


def place_for(need: int, device: torch.device, wanted: str) -> torch.device | None:
    """Where so many bytes may stay; ``None`` if nowhere.

    Args:
        need: The bytes.
        device: Where batches go.
        wanted: ``device``, ``host``, or ``auto``: the first of the two that has more than enough memory.
    """
    share = HOST_SHARE if device.type == "cpu" else DEVICE_SHARE
    choices = {"auto": [(device, share), (HOST, HOST_SHARE)], "device": [(device, 1)], "host": [(HOST, 1)]}
    return next((place for place, share in choices[wanted] if need <= share * free_bytes(place)), None)


def describe(feeds: Mapping[SplitName, Feed]) -> str:
    """Where the examples are and who reads them: ``"20,000 examples streamed by 2 workers"``."""
    counts, sizes = Counter[str](), Counter[str]()
    for feed in feeds.values():
        counts[feed.manner] += len(feed)
        sizes[feed.manner] += feed.held_bytes
    return "; ".join(
        f"{count:,} examples {manner}" + (f" ({decimal(sizes[manner])})" if sizes[manner] else "")
        for manner, count in counts.items()
    )
