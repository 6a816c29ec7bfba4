"""Images from torchvision's datasets and from a folder of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genkit import hookimpl

if TYPE_CHECKING:
    from genkit.registry import Registrar


@hookimpl
def register_components(register: Registrar) -> None:
    """Registers the datasets."""
    register("torchvision", "genkit_image_data.torchvision_images:TorchvisionImages", kind="dataset")
    register("image_folder", "genkit_image_data.image_folder:ImageFolder", kind="dataset")
