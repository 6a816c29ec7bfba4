"""A classifier that is trained once on the data themselves, so that nothing need be downloaded."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from genkit import Backbone, DataSpec, DataView, Factory, use
from genkit.cache import cache_folder
from genkit_features.extractor import Classifies, FeatureExtractor, check_images

SEED = 0  # not the run's: every run on the same data is to be judged by the same classifier
VERSION = 1  # to be raised with any change of how a classifier is trained

_trained: dict[str, dict[str, Tensor]] = {}  # of this process: a run's evaluators share one, even without a cache


class Network(nn.Module):
    """A backbone to features, and a linear map from them to the classes' logits."""

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees."""
        return torch.relu(self.backbone(2 * x - 1))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.head(self.features(x))


class Classifier(FeatureExtractor, Classifies):
    r"""The last hidden layer of a convolutional classifier of the data's own classes.

    It is trained once on the training split, with seeds of its own, and kept in the user's cache folder under a
    hash of the data and of all settings; the next run on the same data finds it there. A hash of its weights is part
    of every figure's tag.

    Args:
        network: The network from an image to the features.
        num_features: Features, before the linear map to the classes.
        epochs: Passes over the training split.
        batch_size: Images in a batch.
        lr: The highest learning rate of a one-cycle schedule.
        shift: Pixels by which training images are moved at most.
    """

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        network: Factory[Backbone] = use("cnn", channels=32, normalization="batch", activation="relu"),
        num_features: PositiveInt = 128,
        epochs: PositiveInt = 8,
        batch_size: PositiveInt = 128,
        lr: PositiveFloat = 3e-3,
        shift: NonNegativeInt = 2,
    ) -> None:
        check_images(spec, "a classifier")
        if spec.num_classes is None:
            raise ValueError(
                "a classifier needs labelled images, and these have no labels; extractor: inception would do"
            )
        self.spec = spec
        self.num_classes = spec.num_classes
        self.build = network
        self.num_features = num_features
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.shift = shift
        self._fingerprint = ""
        self._network: Network | None = None
        with torch.device("meta"):
            self._new()  # refuses now what the network cannot serve

    def _new(self) -> Network:
        return Network(self.build(self.spec.shape, (self.num_features,)), self.num_features, self.num_classes)

    @property
    def label(self) -> str:
        """A hash of the weights: the same data and settings can give others under another torch or device."""
        return f"classifier {self._fingerprint}"

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer."""
        return self._ready().features(x)

    def classify(self, x: Tensor) -> Tensor:
        """The likeliest class."""
        return self._ready()(x).argmax(1)

    def _ready(self) -> Network:
        assert self._network is not None, "call fit first"
        return self._network

    # ---- training once -------------------------------------------------------------------------------------------

    def fit(self, train: DataView, test: DataView | None) -> str:
        """Finds the classifier of these data in the cache, or trains it and puts it there."""
        if self._network is not None:
            return ""
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(SEED)
            x, labels = _gather(train)
            settings = self._settings(x, labels)
            key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
            folder = cache_folder("classifiers", key)
            network = self._new().to(x.device)
            known = _fill(network, _trained.get(key) or _load(folder))
            said = "" if known else self._train(network, x, labels, test, folder, settings)
        _trained[key] = network.state_dict()
        self._network = network.eval().requires_grad_(False)
        self._fingerprint = fingerprint(network)
        return said

    def _settings(self, x: Tensor, labels: Tensor) -> dict[str, Any]:
        """All that the trained classifier depends on."""
        names = ("num_classes", "num_features", "epochs", "batch_size", "lr", "shift")
        return {
            **{name: getattr(self, name) for name in names},
            "network": self.build.to_plain(),
            "seed": SEED,
            "version": VERSION,
            "data": {"sha256": digest(*x.split(1000), labels), "shape": list(x.shape), "protocol": self.spec.protocol},
        }

    def _train(
        self, network: Network, x: Tensor, labels: Tensor, test: DataView | None, folder: Path, settings: dict[str, Any]
    ) -> str:
        began = time.perf_counter()
        with torch.enable_grad():
            train_classifier(network, x, labels, self.epochs, self.batch_size, self.lr, self.shift)
        network.eval()
        split = "the training split" if test is None else "the test split"
        accuracy = _accuracy(network, *_gather(test) if test is not None else (x, labels))
        self._fingerprint = fingerprint(network)
        facts = {
            **settings,
            "weights": self._fingerprint,
            "accuracy": accuracy,
            "accuracy_on": split,
            "device": x.device.type,
        }
        where = _keep(folder, network, facts)
        seconds = time.perf_counter() - began
        return f"trained {self.label} in {seconds:.0f} s: {accuracy:.2%} right on {split}; {where}"


def digest(*tensors: Tensor) -> str:
    """A hash of values."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy())
    return found.hexdigest()


def fingerprint(network: nn.Module) -> str:
    """The beginning of a hash of all weights."""
    return digest(*network.state_dict().values())[:8]


def train_classifier(
    network: nn.Module, x: Tensor, labels: Tensor, epochs: int, batch_size: int, lr: float, shift: int
) -> None:
    """Trains a network on images with shape :math:`(N, C, H, W)`, which are moved at random."""
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    steps = epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).to(x.device).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            if len(chosen) > 1:  # one image has no batch statistics
                cross_entropy(network(_moved(x[chosen], shift)), labels[chosen]).backward()
                optimizer.step()
            schedule.step()


def _moved(x: Tensor, shift: int) -> Tensor:
    """A batch moved by one random distance, with zeros where nothing was."""
    if not shift:
        return x
    top, left = torch.randint(0, 2 * shift + 1, (2,)).tolist()
    height, width = x.shape[2:]
    return pad(x, [shift] * 4)[:, :, top : top + height, left : left + width]


def _gather(view: DataView) -> tuple[Tensor, Tensor]:
    batches = list(view.batches(500))
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return torch.cat([batch.x for batch in batches]), torch.cat(labels)


def _accuracy(network: Network, x: Tensor, labels: Tensor) -> float:
    right = [(network(a).argmax(1) == b).sum() for a, b in zip(x.split(500), labels.split(500), strict=True)]
    return (torch.stack(right).sum() / len(x)).item()


def _keep(folder: Path, network: Network, facts: dict[str, Any]) -> str:
    """Writes weights and settings aside and renames them into place; a cache that cannot be written is no failure."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
            new = Path(aside) / "new"
            new.mkdir()
            save_file(
                {name: value.cpu().contiguous() for name, value in network.state_dict().items()},
                new / "network.safetensors",
            )
            (new / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)  # what is there could not be read
            try:
                new.rename(folder)
            except OSError:
                if _load(folder) is None:  # unless another process was faster
                    raise
        return f"kept in {folder}"
    except (OSError, SafetensorError) as error:
        return f"it could not be kept for the next run: {error}"


def _fill(network: Network, weights: dict[str, Tensor] | None) -> bool:
    """Loads weights, if there are any that fit."""
    if weights is None:
        return False
    try:
        network.load_state_dict(weights)
    except RuntimeError:  # of a network that is no longer made in the same way
        return False
    return True


def _load(folder: Path) -> dict[str, Tensor] | None:
    """The weights in a folder; ``None`` where there are none that can be read."""
    try:
        return load_file(folder / "network.safetensors")
    except (OSError, SafetensorError):
        return None
