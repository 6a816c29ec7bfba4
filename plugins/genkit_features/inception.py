"""The Inception network of most published Fréchet distances."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from genkit import DataSpec
from genkit_features.extractor import FeatureExtractor, check_images

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


class Inception(FeatureExtractor):
    """The features of the Inception network that published Fréchet distances use, through torchmetrics.

    Grey images are shown as grey colour images; all are resized to 299 x 299 as in the original code. Needs the
    package torch-fidelity and its weights, which genkit never downloads by itself.

    Args:
        layer: The layer: 2048 features before the classes, as published, or an earlier one.
        weights: The file of weights; by default torch-fidelity's own, in torch's folder of checkpoints.

    References:
        Heusel et al.: GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, arXiv 1706.08500.
        Obukhov et al.: torch-fidelity, 2020.
    """

    def __init__(
        self, spec: DataSpec, /, *, layer: Literal["64", "192", "768", "2048"] = "2048", weights: str | None = None
    ) -> None:
        check_images(spec, "inception")
        if spec.shape[0] not in (1, 3):
            raise ValueError(f"inception is for images with 1 or 3 channels, but these have {spec.shape[0]}")
        self.layer = layer
        self.path = Path(torch.hub.get_dir(), "checkpoints", WEIGHTS) if weights is None else Path(weights).expanduser()
        if find_spec("torch_fidelity") is None:
            raise ValueError("inception needs the package torch-fidelity: pip install torch-fidelity")
        if not self.path.is_file():
            raise ValueError(
                f"inception's weights are not there: {self.path}; put torch-fidelity's {WEIGHTS} there, name it with "
                "weights, or use extractor: classifier, which needs none"
            )
        self._network = _network(layer, self.path)

    @property
    def label(self) -> str:
        """The layer and the file of weights."""
        return f"inception {self.layer} ({self.path.name})"

    def features(self, x: Tensor) -> Tensor:
        """The layer's features, of bytes, as in the original code."""
        colour = x.expand(-1, 3, -1, -1)
        return self._network.to(x.device)((colour * 255).round().byte())


def _network(layer: str, path: Path) -> nn.Module:
    from torchmetrics.image.fid import NoTrainInceptionV3  # noqa: PLC0415  (needs torch-fidelity)

    try:
        torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run what a pickle says
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn, then replaced
            return NoTrainInceptionV3("inception-v3-compat", [layer], str(path), antialias=False)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} does not hold torch-fidelity's {WEIGHTS}: {reason}") from error
