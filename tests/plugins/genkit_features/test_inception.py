"""Inception: refused where it cannot work, and elsewhere the network and the pixels of the published distances."""

import pickle

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as reference
from torchmetrics.image.fid import FrechetInceptionDistance

import genkit
import genkit_features.inception as module
from genkit_metrics.frechet import frechet_distance

GREY, COLOUR = genkit.DataSpec((1, 4, 4), 256), genkit.DataSpec((3, 4, 4), 256)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file like torch-fidelity's, with weights drawn at random."""
    path = tmp_path_factory.mktemp("inception") / "drawn.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "load_state_dict_from_url", lambda url, progress: {})
        patch.setattr(reference.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(1)
        network = reference.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), path)
    return str(path)


def built(spec=GREY, **options):
    return genkit.build("feature_extractor", {"use": "inception", **options}, spec)


def test_is_refused_without_its_package(monkeypatch, weights):
    asked = []
    monkeypatch.setattr(module, "find_spec", asked.append)
    with pytest.raises(genkit.RecipeError, match="inception needs the package torch-fidelity: pip install"):
        built(weights=weights)
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
    path.hardlink_to(weights)
    assert built(**options).label == f"inception 2048 ({path.name})"


def test_home_folder_of_weights_is_understood(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there.pth").hardlink_to(weights)
    assert built(weights="~/there.pth", layer="64").label == "inception 64 (there.pth)"


class Malicious:
    """What a file of weights could do when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("content", ["empty", "cut", "another network", "pickle"])
def test_other_files_are_refused_and_never_unpickled(weights, tmp_path, capsys, content):
    path = tmp_path / "wrong.pth"
    if content == "cut":
        with open(weights, "rb") as whole:
            path.write_bytes(whole.read(1_000_000))
    elif content == "another network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    else:
        path.write_bytes(pickle.dumps(Malicious()) if content == "pickle" else b"")
    with pytest.raises(genkit.RecipeError, match=r"wrong\.pth does not hold torch-fidelity's weights-inception-2015"):
        built(weights=str(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(weights, channels):
    with pytest.raises(genkit.RecipeError, match=f"images with 1 or 3 channels, but these have {channels}"):
        built(genkit.DataSpec((channels, 4, 4)), weights=weights)


def test_vectors_are_refused(weights):
    with pytest.raises(genkit.RecipeError, match=r"inception is for images.*\(2,\); extractor: values would do"):
        built(genkit.DataSpec((2,)), weights=weights)


def test_global_generator_is_left_alone(weights):
    before = torch.get_rng_state()
    built(weights=weights)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("spec", "layer"), [(GREY, "64"), (COLOUR, "192"), (COLOUR, "768"), (GREY, "2048")])
def test_features_are_those_of_torch_fidelity(weights, spec, layer):
    extractor = built(spec, weights=weights, layer=layer)
    raw = torch.randint(256, (2, *spec.shape), dtype=torch.uint8)
    features = extractor.features(genkit.bytes_to_unit(raw))
    network = reference.FeatureExtractorInceptionV3("inception-v3-compat", [layer], weights)
    (wanted,) = network(raw.expand(-1, 3, -1, -1))
    assert features.shape == (2, int(layer))
    assert not torch.allclose(wanted[0], wanted[1])
    torch.testing.assert_close(features, wanted)


def test_values_between_the_levels_are_rounded(weights):
    extractor = built(weights=weights, layer="64")
    raw = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8)
    features = extractor.features(genkit.bytes_to_unit(raw))
    for between in (-0.4, 0.4):  # what a model draws lies between the levels
        assert torch.equal(extractor.features((raw + between).clamp(0, 255) / 255), features)


def test_distance_is_that_of_torchmetrics(weights, monkeypatch):
    """The evaluator's distance in these features, against the metric that others report."""
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda url, progress: torch.load(weights))
    metric = FrechetInceptionDistance(feature=64, antialias=False)
    raw = torch.randint(256, (40, 3, 4, 4), dtype=torch.uint8)
    real, fake = raw[:20], raw[20:] // 2
    metric.update(real, real=True)
    metric.update(fake, real=False)
    extractor = built(COLOUR, weights=weights, layer="64")
    own = frechet_distance(*(extractor.features(genkit.bytes_to_unit(x)) for x in (real, fake)))[""]
    assert own == pytest.approx(float(metric.compute()), rel=1e-3)
    assert own > 0
