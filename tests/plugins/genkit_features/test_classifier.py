"""The classifier: it learns, it is trained once, and it leaves everything else alone."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import genkit
import genkit_features.classifier as module
from genkit import DataSpec, Split
from genkit.cache import cache_folder
from genkit.engine.feed import Feed
from genkit.engine.seeds import random_states, seed_all
from genkit.testing.keeping import same_random_states

CPU = torch.device("cpu")
SPEC = DataSpec((1, 6, 6), num_classes=3, protocol="stripes")
OPTIONS = {"network": {"use": "mlp", "hidden_dims": [16]}, "num_features": 8, "epochs": 8, "batch_size": 16, "shift": 1}


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache and a process of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_trained", {})


@pytest.fixture
def trained(monkeypatch):
    """How often something was trained."""
    calls, real = [], module.train_classifier

    def train(*args, **options):
        calls.append(args)
        real(*args, **options)

    monkeypatch.setattr(module, "train_classifier", train)
    return calls


def stripes(seed=0, count=120, change=None):
    """Images whose class is the bright third."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    x = 0.2 * torch.rand(count, 1, 6, 6, generator=generator)
    for i, label in enumerate(labels.tolist()):
        x[i, :, 2 * label : 2 * label + 2] += 0.8
    if change is not None:
        change(x, labels)
    return Feed(Split(x, Tensor.float, labels), CPU)


def built(spec=SPEC, **options):
    return genkit.build("feature_extractor", {"use": "classifier", **OPTIONS, **options}, spec)


def fitted(train=None, test=None, **options):
    classifier = built(**options)
    with torch.no_grad():  # as evaluators are called
        said = classifier.fit(train or stripes(), test or stripes(seed=1, count=50))
    return classifier, said


def folders():
    """What the cache holds, the newest last."""
    return sorted(cache_folder("classifiers").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def folder():
    """The only thing in the cache."""
    (path,) = folders()
    return path


def test_learns_what_is_easy():
    classifier, said = fitted()
    batch = next(stripes(seed=2, count=70).batches(70))
    assert torch.equal(classifier.classify(batch.x), batch.labels)
    assert classifier.classify(batch.x).dtype == torch.int64
    assert f"trained {classifier.label} in " in said
    assert "100.00% right on the test split; kept in " in said


def test_accuracy_is_that_of_the_test_split():
    def mislabel(x, labels):
        labels[:20] = (labels[:20] + 1) % 3

    _, said = fitted(test=stripes(seed=1, count=50, change=mislabel))
    assert "60.00% right on the test split" in said
    module._trained.clear()
    classifier = built(epochs=7)
    assert "100.00% right on the training split" in classifier.fit(stripes(), None)


def test_default_network_learns_too():
    classifier = genkit.build(
        "feature_extractor", {"use": "classifier", "epochs": 2, "batch_size": 16}, DataSpec((1, 6, 6), num_classes=3)
    )
    assert "100.00% right" in classifier.fit(stripes(), stripes(seed=1))
    assert classifier.features(torch.rand(5, 1, 6, 6)).shape == (5, 128)


def test_features_are_the_last_hidden_layer():
    classifier, _ = fitted()
    x = torch.rand(9, 1, 6, 6)
    features = classifier.features(x)
    assert features.shape == (9, 8)
    assert features.min() >= 0
    assert torch.equal(classifier._network.head(features).argmax(1), classifier.classify(x))
    with torch.enable_grad():
        assert not classifier.features(x).requires_grad
    assert torch.allclose(classifier.features(x[:1]), features[:1], atol=1e-6)  # no batch statistics


def test_second_instance_of_a_process_shares_the_first(trained, tmp_path):
    first, _ = fitted()
    shutil.rmtree(tmp_path / "cache")
    second, said = fitted()
    assert (len(trained), said) == (1, "")
    x = torch.rand(4, 1, 6, 6)
    assert torch.equal(first.features(x), second.features(x))


def test_next_process_finds_it_in_the_cache(trained):
    first, _ = fitted()
    module._trained.clear()
    second, said = fitted()
    assert (len(trained), said) == (1, "")
    assert second.label == first.label
    x = torch.rand(4, 1, 6, 6)
    assert torch.equal(first.features(x), second.features(x))
    assert torch.equal(first.classify(x), second.classify(x))


def test_second_fit_does_nothing(trained):
    classifier, _ = fitted()
    assert classifier.fit(stripes(seed=5), None) == ""
    assert len(trained) == 1


def test_cache_says_what_it_holds():
    classifier, _ = fitted()
    assert sorted(path.name for path in folder().iterdir()) == ["network.safetensors", "recipe.json"]
    facts = json.loads((folder() / "recipe.json").read_text())
    assert classifier.label == f"classifier {facts['weights']}"
    assert facts["accuracy"] == 1
    assert facts["accuracy_on"] == "the test split"
    assert facts["epochs"] == 8
    assert facts["network"]["hidden_dims"] == [16]


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def other_weights(path):
    save_file({"something.else": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" * 99),
        lambda path: path.unlink(),
        other_weights,
    ],
    ids=["cut", "empty", "garbage", "missing", "other weights"],
)
def test_damaged_cache_is_replaced(trained, damage):
    first, _ = fitted()
    path = folder() / "network.safetensors"
    good = {name: value.clone() for name, value in load_file(path).items()}  # the file is mapped into memory
    damage(path)
    module._trained.clear()
    second, said = fitted()
    assert len(trained) == 2
    assert "kept in" in said
    assert second.label == first.label
    assert all(torch.equal(value, good[name]) for name, value in load_file(path).items())
    module._trained.clear()
    fitted()
    assert len(trained) == 2


def test_cache_that_cannot_be_written_is_said_and_is_no_failure(trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    classifier, said = fitted()
    assert "100.00% right on the test split; it could not be kept for the next run: " in said
    assert classifier.features(torch.rand(2, 1, 6, 6)).shape == (2, 8)
    fitted()
    assert len(trained) == 1  # this process keeps it all the same


def test_kept_is_said_only_of_what_is_kept():
    fitted()
    place = folder()
    shutil.rmtree(place)
    place.write_text("in the way")
    module._trained.clear()
    _, said = fitted()
    assert ("kept in" in said) == (place / "network.safetensors").is_file(), said


def test_same_data_and_settings_give_the_same_hash_whatever_the_seed(trained):
    labels = set()
    weights = []
    for seed in (1, 2):
        seed_all(seed)
        module._trained.clear()
        classifier, _ = fitted()
        labels.add(classifier.label)
        weights.append({n: v.clone() for n, v in load_file(folder() / "network.safetensors").items()})
        shutil.rmtree(folder())
    assert len(labels) == 1
    assert len(trained) == 2
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def brighter(x, labels):
    x[7, 0, 3, 3] += 0.01


def another_class(x, labels):
    labels[7] = (labels[7] + 1) % 3


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (brighter, {}),
        (another_class, {}),
        (None, {"num_features": 9}),
        (None, {"epochs": 7}),
        (None, {"batch_size": 15}),
        (None, {"lr": 2e-3}),
        (None, {"shift": 0}),
        (None, {"network": {"use": "mlp", "hidden_dims": [17]}}),
        (None, {"network": {"use": "mlp", "hidden_dims": [16], "activation": "silu"}}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_other_data_or_settings_give_another_hash(change, options):
    usual, _ = fitted()
    other, said = fitted(stripes(change=change), **options)
    assert other.label != usual.label
    assert "trained" in said
    assert len(folders()) == 2


def test_test_data_are_no_part_of_the_hash_and_the_number_of_training_images_is():
    usual, _ = fitted()
    assert fitted(test=stripes(seed=9, count=20))[0].label == usual.label
    assert fitted(stripes(count=119))[0].label != usual.label


def test_global_generators_are_left_alone():
    seed_all(11)
    before = random_states(CPU)
    fitted()
    assert same_random_states(before)
    module._trained.clear()
    fitted()  # from the cache
    assert same_random_states(before)


def test_global_generators_are_left_alone_by_data_that_are_drawn_afresh():
    options = {"binarize": "dynamic", "train": 40, "validation": 10, "test": 20}
    data = genkit.build("dataset", {"use": "mnist", **options})
    views = [Feed(data.split(name), CPU) for name in ("train", "test")]
    seed_all(11)
    before = random_states(CPU)
    built(data.spec, epochs=1).fit(*views)
    assert same_random_states(before)


def test_data_that_are_drawn_afresh_have_one_hash():
    data = genkit.build("dataset", {"use": "mnist", "binarize": "dynamic", "train": 40, "validation": 10, "test": 20})
    labels = set()
    for seed in (1, 2):
        seed_all(seed)
        classifier = built(data.spec, epochs=1)
        classifier.fit(Feed(data.split("train"), CPU), None)
        labels.add(classifier.label)
    assert len(labels) == 1


def test_building_draws_nothing():
    before = random_states(CPU)
    built()
    assert same_random_states(before)


def test_last_batch_of_one_image_is_no_failure():
    network = {"use": "mlp", "hidden_dims": [16], "normalization": "batch"}  # has no statistics of one
    options = {"network": network, "batch_size": 16, "epochs": 1}
    classifier, _ = fitted(stripes(count=33), **options)
    assert torch.isfinite(classifier.features(torch.rand(3, 1, 6, 6))).all()


def test_features_of_an_image_do_not_depend_on_its_neighbours():
    network = {"use": "cnn", "channels": 4, "normalization": "batch"}
    classifier, _ = fitted(network=network, epochs=1)
    x = torch.rand(9, 1, 6, 6)
    assert torch.allclose(classifier.features(x[:2]), classifier.features(x)[:2], atol=1e-5)
    module._trained.clear()
    again, said = fitted(network=network, epochs=1)  # from the cache, running statistics included
    assert said == ""
    assert torch.equal(again.features(x), classifier.features(x))


def test_label_is_that_of_the_weights():
    first, _ = fitted()
    with torch.no_grad():
        kept = load_file(folder() / "network.safetensors")
        changed = {name: value + 0.25 if name == "head.bias" else value.clone() for name, value in kept.items()}
    save_file(changed, folder() / "network.safetensors")
    module._trained.clear()
    second, said = fitted()
    assert said == ""
    assert second.label != first.label


@pytest.mark.parametrize("shift", [0, 2])
def test_images_are_moved_as_far_as_is_said_and_no_further(shift):
    x = torch.zeros(2, 1, 7, 7)
    x[:, :, 3, 3] = 1
    places = set()
    for _ in range(300):
        moved = module._moved(x, shift)
        assert moved.shape == x.shape
        places |= {tuple(place[1:]) for place in moved.flatten(0, 1).nonzero().tolist()}
    assert places == {(3 + i, 3 + j) for i in range(-shift, shift + 1) for j in range(-shift, shift + 1)}


def test_unlabelled_images_are_refused_with_what_would_do():
    with pytest.raises(genkit.RecipeError, match=r"needs labelled images.*extractor: inception would do"):
        built(DataSpec((1, 6, 6)))


def test_vectors_are_refused_with_what_would_do():
    with pytest.raises(genkit.RecipeError, match=r"is for images, but the data has shape \(2,\); extractor: values"):
        built(DataSpec((2,), num_classes=8))


def test_network_that_does_not_fit_is_refused_before_anything_is_trained():
    class Never(genkit.Backbone):
        def __init__(self, in_shape, out_shape, /):
            raise ValueError(f"no way from {in_shape} to {out_shape}")

        def forward(self, x, context=None):
            raise NotImplementedError

    network = genkit.Factory("never", {}, Never)
    with pytest.raises(genkit.RecipeError, match=r"never: no way from \(1, 6, 6\) to \(8,\)"):
        module.Classifier(SPEC, network=network, num_features=8)
