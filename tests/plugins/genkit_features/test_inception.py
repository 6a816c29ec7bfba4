"""Inception: refused where it cannot work, and given what the published distances give it."""

import pytest
import torch
import torchmetrics.image.fid

import genkit
import genkit_features.inception as module

GREY, COLOUR = genkit.DataSpec((1, 4, 4), 256), genkit.DataSpec((3, 4, 4), 256)


def built(spec=GREY, **options):
    return genkit.build("feature_extractor", {"use": "inception", **options}, spec)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    path = tmp_path / "there.pth"
    path.touch()
    return str(path)


class Recorder(torch.nn.Module):
    """Stands where the network would."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        self.made = (name, features_list, feature_extractor_weights_path)
        self.seen = None

    def forward(self, x):
        self.seen = x
        return x.flatten(1).float()


def test_is_refused_without_its_package(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "find_spec", asked.append)
    with pytest.raises(genkit.RecipeError, match="inception needs the package torch-fidelity: pip install"):
        built()
    assert asked == ["torch_fidelity"]


@pytest.mark.parametrize("given", [True, False])
def test_is_refused_without_its_weights(weights, tmp_path, monkeypatch, given):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "mine.pth" if given else tmp_path / "hub" / "checkpoints" / module.WEIGHTS
    options = {"weights": str(path)} if given else {}
    with pytest.raises(
        genkit.RecipeError, match=r"weights are not there: .*extractor: classifier, which needs"
    ) as info:
        built(**options)
    assert str(path) in str(info.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert built(**options).label == f"inception 2048 ({path.name})"


def test_home_folder_of_weights_is_understood(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert built(weights="~/there.pth", layer="64").label == "inception 64 (there.pth)"


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(weights, channels):
    with pytest.raises(genkit.RecipeError, match=f"images with 1 or 3 channels, but these have {channels}"):
        built(genkit.DataSpec((channels, 4, 4)), weights=weights)


def test_vectors_are_refused(weights):
    with pytest.raises(genkit.RecipeError, match=r"inception is for images.*\(2,\); extractor: values would do"):
        built(genkit.DataSpec((2,)), weights=weights)


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_network_sees_bytes_in_three_channels(weights, monkeypatch, spec):
    monkeypatch.setattr(torchmetrics.image.fid, "NoTrainInceptionV3", Recorder)
    extractor = built(spec, weights=weights, layer="192")
    raw = torch.randint(256, (5, *spec.shape), dtype=torch.uint8)
    features = extractor.features(genkit.bytes_to_unit(raw))
    assert features.shape == (5, 48)
    assert extractor._network.made == ("inception-v3-compat", ["192"], weights)
    assert extractor._network.seen.dtype == torch.uint8
    assert torch.equal(extractor._network.seen, raw.expand(5, 3, 4, 4))
    network = extractor._network
    for between in (-0.4, 0.4):  # what a model draws lies between the levels
        extractor.features((raw + between).clamp(0, 255) / 255)
        assert torch.equal(network.seen, raw.expand(5, 3, 4, 4))
    assert extractor._network is network  # loaded once
