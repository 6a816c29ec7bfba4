"""Images to bytes, one and many: what the datasets of this plugin share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from genkit import DataSpec, Shape, bytes_to_unit

Binarize = Literal["none", "threshold"]
Example = tuple[Tensor, int]

NO_LABEL = -1
_CHUNK = 64


def to_bytes(image: Image.Image, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """Decodes an image of any mode into ``uint8``.

    It is turned upright as its EXIF data say, and laid on white where it is transparent. Of 16-bit values the
    upper 8 bits are kept, so that all 256 levels are equally wide.

    Args:
        image: The image.
        channels: 1 for grey, 3 for red, green and blue.
        size: Height and width; the image is resized (bicubic, antialiased) so that it just covers them, then
            centre-cropped. ``None`` keeps it as it is.

    Returns:
        The image with shape :math:`(C, H, W)`.

    Raises:
        ValueError: The pixels are floating-point numbers, whose range nobody knows.

    Example:
        >>> to_bytes(Image.new("RGB", (30, 20), "white"), channels=1, size=(8, 8)).shape
        torch.Size([1, 8, 8])
    """
    mode = "L" if channels == 1 else "RGB"
    image.load()  # only then a file's mode is final
    plain = _on_white(_eight_bit(_upright(image)))
    if plain.mode != mode:  # each of these steps would copy the image even where there is nothing to do
        plain = plain.convert(mode)
    if size is not None and plain.size != size[::-1]:
        plain = ImageOps.fit(plain, size[::-1], Image.Resampling.BICUBIC)
    return pil_to_tensor(plain)


def _upright(image: Image.Image) -> Image.Image:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if not image.mode.startswith("I"):
        return image
    # Pillow's own conversion clips at 255, which turns nearly every 16-bit image white
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    # dropping the alpha channel would uncover whatever colour lies under a transparent pixel
    pixels = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)


def image_spec(shape: Shape, num_classes: int | None, *, resized: bool, binarize: Binarize) -> DataSpec:
    """Describes images; whatever changes likelihoods is named in the protocol.

    Example:
        >>> image_spec((1, 8, 8), None, resized=True, binarize="threshold").describe_values()
        '2 levels, resized to 8 x 8, binarized at 0.5'
    """
    steps = [f"resized to {shape[1]} x {shape[2]}"] if resized else []
    steps += ["binarized at 0.5"] if binarize == "threshold" else []
    return DataSpec(shape, 2 if binarize == "threshold" else 256, num_classes, ", ".join(steps))


def preparation(binarize: Binarize) -> Callable[[Tensor], Tensor]:
    """How raw batches become float32."""
    return _threshold if binarize == "threshold" else bytes_to_unit


def _threshold(raw: Tensor) -> Tensor:
    return (raw > 127).float()


def failures_of(task: Callable[[int], object], count: int) -> dict[int, str]:
    """Runs ``task(0)`` to ``task(count - 1)`` with several threads; says why, by index, some failed."""
    failures: dict[int, str] = {}

    def run(chunk: range) -> None:
        for index in chunk:
            try:
                task(index)
            except Exception as error:  # a damaged file can make an image library raise anything
                failures[index] = reason(error)

    with ThreadPoolExecutor() as pool:
        list(pool.map(run, (range(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK))))
    return dict(sorted(failures.items()))


def reason(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
