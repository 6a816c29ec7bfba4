"""Statically binarized MNIST, from files made in the published format."""

import re

import pytest
import torch

import genkit
from genkit.testing import check_dataset, factory

COUNTS = {"train": 30, "valid": 12, "test": 9}


@pytest.fixture
def folder(tmp_path):
    """The three files, as they are published: digits with spaces between them, an image a line."""
    torch.manual_seed(0)
    made = {}
    for name, count in COUNTS.items():
        made[name] = torch.bernoulli(torch.full((count, 784), 0.3)).byte()
        lines = (" ".join(map(str, image)) for image in made[name].tolist())
        (tmp_path / f"binarized_mnist_{name}.amat").write_text("".join(f"{line} \n" for line in lines))
    return tmp_path, made


def build(path, **options):
    return genkit.build("dataset", {"use": "static_mnist", "path": str(path), **options})


def test_keeps_the_contract(folder):
    check_dataset(factory("dataset", {"use": "static_mnist", "path": str(folder[0])}))


def test_images_are_those_of_the_files(folder):
    path, made = folder
    dataset = build(path)
    for name, file in (("train", "train"), ("validation", "valid"), ("test", "test")):
        split = dataset.split(name)
        assert torch.equal(split.source, made[file].view(-1, 1, 28, 28))
        assert torch.equal(split.prepare(split.source), made[file].view(-1, 1, 28, 28).float())
        assert split.labels is None


def test_the_tag_says_static(folder):
    assert build(folder[0]).spec.describe_values() == "2 levels, statically binarized"
    kinds = {
        genkit.build("dataset", {"use": "mnist", "binarize": how}).spec.protocol for how in ("threshold", "dynamic")
    }
    assert "statically binarized" not in kinds


def test_fewer_images_are_the_first(folder):
    path, made = folder
    assert torch.equal(build(path, train=5).split("train").source, made["train"][:5].view(-1, 1, 28, 28))
    with pytest.raises(genkit.DataError, match="train is to have 31 images, but there are 30"):
        build(path, train=31).split("train")


def test_a_last_line_may_lack_its_end_and_windows_may_have_written_it(folder):
    path, made = folder
    file = path / "binarized_mnist_test.amat"
    text = file.read_text()
    for same in (text.rstrip(), text.replace("\n", "\r\n")):
        file.write_bytes(same.encode())
        assert torch.equal(build(path).split("test").source, made["test"].view(-1, 1, 28, 28))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(genkit.DataError, match=re.escape("binarized_mnist_train.amat cannot be read: No such file")):
        build(tmp_path).split("train")


@pytest.mark.parametrize(
    "text", ["", "0 1 2\n", "0 2 " * 392 + "\n", "0 1 0\n" * 784, "0 1 " * 392 + "\n" + "0 1\n", "<html>"]
)
def test_what_is_no_such_file_is_refused(tmp_path, text):
    (tmp_path / "binarized_mnist_train.amat").write_text(text)
    with pytest.raises(genkit.DataError, match="is no text of images: 784 zeros and ones on each line"):
        build(tmp_path).split("train")


def test_it_trains(folder):
    node = {"use": "mlp", "hidden_dims": [8]}
    recipe = {
        "data": {"use": "static_mnist", "path": str(folder[0])},
        "model": {"use": "vae", "latent_dim": 2, "encoder": node, "decoder": node},
        "objective": "elbo",
        "train": {"batch_size": 10},
        "evaluate": {"bpd": {"use": "bits_per_dim"}},
    }
    end = genkit.run(recipe, name="static", runs=folder[0], device="cpu")
    assert end.records[0].tag == "lower bound; 2 levels, statically binarized"
