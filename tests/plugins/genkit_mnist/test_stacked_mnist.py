"""Stacked MNIST: the right digits, in the right order, from the right files."""

import pytest
import torch

import genkit
from genkit.engine.feed import Feed
from genkit_metrics.mode_coverage import divergence_from_uniform
from genkit_mnist.mnist import read_idx

CPU = torch.device("cpu")


def dataset(**options):
    return genkit.build("dataset", {"use": "stacked_mnist", **options})


def files(name):
    prefix = "t10k" if name == "test" else "train"
    return read_idx(f"{prefix}-images-idx3-ubyte"), read_idx(f"{prefix}-labels-idx1-ubyte")


SMALL = {"train": 90, "validation": 60, "test": 30}


@pytest.mark.parametrize("name", SMALL)
def test_labels_are_the_digits_of_the_channels_red_first(name):
    split = dataset(**SMALL).split(name)
    images, labels = files(name)
    known = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    batch = next(Feed(split, CPU).batches(200))
    assert batch.x.shape == (SMALL[name], 3, 28, 28)
    for x, label in zip(batch.x, batch.labels.tolist(), strict=True):
        red, green, blue = (known[channel.mul(255).round().byte().numpy().tobytes()] for channel in x)  # of that file
        assert label == 100 * red + 10 * green + blue


def test_prepare_puts_the_right_images_together():
    split = dataset(**SMALL).split("train")
    images, _ = files("train")
    chosen = torch.tensor([[0, 1, 59_999], [7, 7, 3]])
    x = split.prepare(chosen)
    assert x.dtype == torch.float32
    assert 0 == x.min() < x.max() == 1
    for i, digits in enumerate(chosen.tolist()):
        for channel, digit in enumerate(digits):
            assert torch.equal(x[i, channel], images[digit].float() / 255)


def test_whole_files_are_drawn_from():
    data = dataset(validation=20_000)
    for name, last in (("train", 60_000), ("validation", 60_000), ("test", 10_000)):
        chosen = data.split(name).source
        assert 0 <= chosen.min() < 20
        assert last - 20 < chosen.max() < last
    sizes = [len(data.split(name)) for name in ("train", "validation", "test")]
    assert sizes == [128_000, 20_000, 26_000]


def test_channels_are_drawn_apart():
    chosen = dataset().split("test").source.float()
    assert (torch.corrcoef(chosen.T) - torch.eye(3)).abs().max() < 5 / 26_000**0.5
    labels = dataset().split("test").labels
    red, blue = labels // 100, labels % 10
    assert (red == blue).float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_test_classes_are_nearly_uniform():
    labels = dataset().split("test").labels
    assert divergence_from_uniform(torch.bincount(labels, minlength=1000)) == pytest.approx(0.024, abs=0.004)
    assert len(labels.unique()) == 1000


def test_splits_differ_and_are_the_same_twice():
    data, again, other = dataset(**SMALL), dataset(**SMALL), dataset(**SMALL, data_seed=1)
    seen = []
    for name in SMALL:
        split = data.split(name)
        torch.rand(3)  # the global generator does not matter
        assert torch.equal(split.source, again.split(name).source)
        assert torch.equal(split.labels, again.split(name).labels)
        seen += [split.source[:30], other.split(name).source[:30]]
    for i, one in enumerate(seen):
        assert not any(torch.equal(one, another) for another in seen[i + 1 :])


def test_spec_counts_a_thousand_classes():
    data = dataset()
    assert (data.spec.shape, data.spec.levels, data.spec.num_classes) == ((3, 28, 28), 256, 1000)
    assert isinstance(data, genkit.StacksImages)
    assert data.channel_classes == 10


def test_empty_splits_are_none():
    data = dataset(validation=0, test=0)
    assert data.split("validation") is None
    assert data.split("test") is None
