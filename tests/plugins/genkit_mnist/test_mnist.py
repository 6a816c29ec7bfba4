"""MNIST: the published files, split and binarized as the recipe says."""

import lzma

import pytest
import torch

import genkit
import genkit_mnist.mnist as module
from genkit.engine.feed import Feed


def dataset(**options):
    return genkit.build("dataset", {"use": "mnist", **options})


def first(split, count=64):
    return next(Feed(split, torch.device("cpu")).batches(count))


def test_splits_follow_each_other():
    data = dataset(train=45_000, validation=5_000)
    images, labels = module.read_idx("train-images-idx3-ubyte"), module.read_idx("train-labels-idx1-ubyte")
    train, validation, test = (data.split(name) for name in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (45_000, 5_000, 10_000)
    assert torch.equal(validation.source[:, 0], images[45_000:50_000])
    assert torch.equal(train.labels, labels[:45_000].long())
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # the best known ten labels there are


def test_label_counts_are_the_published_ones():
    counts = torch.bincount(dataset(train=60_000, validation=0).split("train").labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_empty_validation_is_none():
    assert dataset(train=60_000, validation=0).split("validation") is None


def test_threshold_is_above_one_half():
    grey, binary = first(dataset().split("train")).x, first(dataset(binarize="threshold").split("train")).x
    assert torch.equal(binary, (grey > 0.5).float())
    assert dataset(binarize="threshold").spec == genkit.DataSpec((1, 28, 28), 2, 10, "binarized at 0.5")


def test_grey_values_are_bytes_over_255():
    grey = first(dataset().split("test")).x
    raw = module.read_idx("t10k-images-idx3-ubyte")[:64]
    assert torch.equal((grey[:, 0] * 255).round().byte(), raw)
    assert dataset().spec.levels == 256


def test_dynamic_draws_afresh_in_training_with_the_grey_value_as_mean():
    split, grey = dataset(binarize="dynamic").split("train"), first(dataset().split("train"), 8).x
    draws = torch.stack([first(split, 8).x for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(draws[0], draws[1])
    assert (draws.mean(0) - grey).abs().max() < 5 * 0.5 / 400**0.5


def test_dynamic_draws_once_for_evaluation():
    one, two = dataset(binarize="dynamic"), dataset(binarize="dynamic")
    for name in ("validation", "test"):
        assert torch.equal(first(one.split(name)).x, first(one.split(name)).x)
        assert torch.equal(first(one.split(name)).x, first(two.split(name)).x)
    other = dataset(binarize="dynamic", binarize_seed=1)
    assert not torch.equal(first(one.split("test")).x, first(other.split("test")).x)


def test_more_images_than_there_are_is_refused():
    with pytest.raises(genkit.RecipeError, match="train \\+ validation is 65000, but MNIST has 60000"):
        dataset(train=60_000, validation=5_000)
    with pytest.raises(genkit.RecipeError, match="test is 10001, but MNIST has 10000"):
        dataset(test=10_001)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lzma.compress(b"\0\0\x08\x01\0\0\0\x01\x07"), "not the published one"),
        (b"no xz", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_damaged_package_data_is_told(tmp_path, monkeypatch, data, message):
    (tmp_path / "data").mkdir()
    if data is not None:
        (tmp_path / "data" / "t10k-labels-idx1-ubyte.xz").write_bytes(data)
    monkeypatch.setattr(module.importlib.resources, "files", lambda package: tmp_path)
    module.read_idx.cache_clear()
    with pytest.raises(genkit.DataError, match=message):
        module.read_idx("t10k-labels-idx1-ubyte")
    module.read_idx.cache_clear()
