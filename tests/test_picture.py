"""Grids and files are those that torchvision makes."""

import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid, save_image

from genkit.picture import PAPER, image_grid, save_png


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 4), (3, 4), (4, 4), (5, 4), (8, 4), (7, 1), (6, 2)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap", [0, 1, 2])
def test_grids_are_those_of_torchvision(count, columns, channels, gap):
    images = torch.rand(count, channels, 5, 3)
    expected = make_grid(images, nrow=columns, padding=gap, pad_value=PAPER)
    assert torch.equal(image_grid(images, columns, gap=gap), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_those_of_torchvision(channels, tmp_path):
    image = torch.rand(channels, 6, 4)
    image[0, 0, :2] = torch.tensor([0.0, 1.0])
    save_image(image, tmp_path / "theirs.png")
    save_png(image, tmp_path / "ours.png")
    theirs, ours = (Image.open(tmp_path / f"{name}.png") for name in ("theirs", "ours"))
    assert (ours.mode, ours.size, ours.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())
