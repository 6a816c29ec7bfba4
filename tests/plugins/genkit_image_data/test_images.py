"""One image to bytes: every mode must come out as a person would see it."""

import numpy as np
import pytest
import torch
from PIL import Image

from genkit_image_data.images import failures_of, image_spec, preparation, to_bytes


def solid(mode, colour):
    return Image.new(mode, (4, 4), colour)


def palette_with_transparency():
    image = solid("P", 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (solid("L", 77), (77, 77, 77)),
        (solid("1", 1), (255, 255, 255)),
        (solid("RGB", (1, 2, 3)), (1, 2, 3)),
        (solid("RGBA", (9, 9, 9, 0)), (255, 255, 255)),
        (solid("RGBA", (9, 8, 7, 255)), (9, 8, 7)),
        (solid("LA", (50, 255)), (50, 50, 50)),
        (solid("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (solid("I;16", 200 * 257), (200, 200, 200)),
        (solid("I", 300), (1, 1, 1)),
        (solid("I", 1 << 20), (255, 255, 255)),
        (palette_with_transparency(), (255, 0, 0)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_modes(image, expected):
    pixels = to_bytes(image, channels=3)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 4, 4)
    assert tuple(pixels[:, 2, 2].tolist()) == expected


def test_a_transparent_palette_entry_is_white():
    assert to_bytes(palette_with_transparency(), channels=3)[:, 0, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_keep_their_upper_half():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = to_bytes(Image.fromarray(values), channels=1)
    assert torch.equal(pixels[0], torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 256))


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="range is not known"):
        to_bytes(Image.new("F", (2, 2)), channels=1)


def test_grey_from_colour_weighs_green_most():
    red, green, blue = (to_bytes(solid("RGB", c), 1)[0, 0, 0] for c in [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    assert green > red > blue > 0


def test_exif_orientation_turns_the_image():
    image = Image.new("L", (6, 2), 0)
    image.putpixel((0, 0), 255)
    image.getexif()[0x0112] = 6  # to be turned clockwise: the upper left corner goes to the upper right
    pixels = to_bytes(image, channels=1)
    assert pixels.shape == (1, 6, 2)
    assert pixels[0, 0, 1] == 255


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (30, 10)])
def test_resized_to_height_and_width(size):
    assert to_bytes(Image.new("RGB", (40, 20)), 3, size).shape == (3, *size)


def test_the_centre_is_kept():
    columns = np.repeat([0, 0, 255, 255, 255, 255, 0, 0], 4)
    image = Image.fromarray(np.tile(columns, (16, 1)).astype(np.uint8))  # 32 wide, 16 high
    pixels = to_bytes(image, 1, (8, 8)).float()
    assert pixels.mean() > 240
    assert pixels[0, :, 2:6].min() == 255


def test_downscaling_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    pixels = to_bytes(Image.fromarray(stripes), 1, (8, 8)).float()
    assert pixels.sub(127.5).abs().max() < 20


def test_an_image_of_the_right_size_is_not_touched():
    values = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    pixels = to_bytes(Image.fromarray(values), 3, (9, 9))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), values)


def test_preparations_agree_with_the_spec():
    raw = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    grey, binary = preparation("none")(raw), preparation("threshold")(raw)
    assert torch.equal(grey, raw / 255)
    assert torch.equal(binary, (grey > 0.5).float())
    assert image_spec((1, 16, 16), None, resized=False, binarize="none").levels == 256
    assert image_spec((1, 16, 16), None, resized=False, binarize="threshold").protocol == "binarized at 0.5"


def test_failures_are_named_in_their_order():
    def task(index):
        if index in (200, 3):
            raise OSError("torn\napart")

    assert list(failures_of(task, 300).items()) == [(3, "OSError: torn apart"), (200, "OSError: torn apart")]
