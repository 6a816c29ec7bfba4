"""Torchvision's datasets, read from files that the tests write as the real ones are written."""

import bz2
import csv
import gzip
import hashlib
import inspect
import pickle
import struct
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from torch.utils.data import default_collate

from genkit import DataError
from genkit_image_data.catalogue import CATALOGUE
from genkit_image_data.torchvision_images import TorchvisionImages


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_fashion_mnist(root, train=60, test=20):
    raw = root / "FashionMNIST" / "raw"
    for prefix, count, seed in [("train", train, 0), ("t10k", test, 1)]:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (count, 28, 28))
        pixels[:, 0, 0] = np.arange(count)
        write_idx(raw / f"{prefix}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)


def write_emnist_letters(root):
    for part in ("train", "test"):
        pixels = np.zeros((26, 28, 28))
        pixels[:, 20, 3] = 255  # column 20, row 3 of the letter: the files hold it on its side
        write_idx(root / "EMNIST" / "raw" / f"emnist-letters-{part}-images-idx3-ubyte", pixels)
        write_idx(root / "EMNIST" / "raw" / f"emnist-letters-{part}-labels-idx1-ubyte", np.arange(1, 27))


def write_gtsrb(root, classes=4, each=10):
    """Photos of different sizes, class by class; the grey value is ten times the class."""
    for label in range(classes):
        folder = root / "gtsrb" / "GTSRB" / "Training" / f"{label:05}"
        folder.mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (20 + i, 30 - i), (10 * label,) * 3).save(folder / f"{i:05}.ppm")
    folder = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    folder.mkdir(parents=True)
    with (root / "gtsrb" / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Filename", "ClassId"])
        for i in range(6):
            Image.new("RGB", (16, 25)).save(folder / f"{i:05}.ppm")
            writer.writerow([f"{i:05}.ppm", i % classes])


def read(split):
    """All pixels and labels of a split."""
    return default_collate([split.source[i] for i in range(len(split))])


@pytest.fixture
def fashion(tmp_path):
    write_fashion_mnist(tmp_path)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    asked = []

    def refuse(request, *args, **kwargs):
        asked.append(request.full_url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


def test_the_splits_are_where_they_are_said_to_be(fashion, no_network):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), train=40, validation=15, test=12)
    (train, _), (validation, labels), (test, _) = (read(data.split(name)) for name in ("train", "validation", "test"))
    assert train[:, 0, 0, 0].tolist() == list(range(40))
    assert validation[:, 0, 0, 0].tolist() == list(range(40, 55))
    assert test[:, 0, 0, 0].tolist() == list(range(12))
    assert labels.tolist() == [i % 10 for i in range(40, 55)]
    assert not torch.equal(train[:12], test)
    assert no_network == []


def test_training_takes_all_that_validation_leaves(fashion):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=7)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [53, 7, 20]


def test_no_validation(fashion):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=0)
    assert data.split("validation") is None
    assert len(data.split("train")) == 60


def test_pixels_are_those_of_the_file(fashion):
    split = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=5).split("test")
    content = (fashion / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    pixels, _ = read(split)
    assert pixels.dtype == torch.uint8
    assert pixels.numpy().tobytes() == content
    assert torch.equal(split.prepare(pixels), pixels.float() / 255)


def test_binarized(fashion):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=5, binarize="threshold")
    split = data.split("test")
    pixels, _ = read(split)
    assert torch.equal(split.prepare(pixels), (pixels.float() / 255 > 0.5).float())
    assert data.spec.levels == 2
    assert data.spec.protocol == "binarized at 0.5"


def test_resized(fashion):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=5, size=14)
    assert read(data.split("test"))[0].shape == (20, 1, 14, 14)
    assert data.spec.shape == (1, 14, 14)
    assert data.spec.protocol == "resized to 14 x 14"


def test_its_own_size_is_no_resizing():
    assert TorchvisionImages(name="MNIST", size=28).spec == TorchvisionImages(name="MNIST").spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 56}, "train: 56 and validation: 5: this split .* FashionMNIST has only 60 images"),
        ({"validation": 60}, "validation: 60.* only 60 images"),
        ({"test": 21}, "test: 21.* only 20 images"),
    ],
)
def test_more_images_than_there_are(fashion, options, message):
    data = TorchvisionImages(name="FashionMNIST", root=str(fashion), **{"validation": 5, **options})
    with pytest.raises(DataError, match=message):
        data.split("test" if "test" in options else "train")


def test_images_can_be_sent_to_a_worker(fashion):
    source = TorchvisionImages(name="FashionMNIST", root=str(fashion), validation=9).split("validation").source
    received = pickle.loads(pickle.dumps(source))
    assert len(received) == len(source) == 9
    assert torch.equal(received[4][0], source[4][0])
    assert received[4][1] == source[4][1] == 5


def test_emnist_is_upright_and_counts_letters_from_zero(tmp_path):
    write_emnist_letters(tmp_path)
    data = TorchvisionImages(name="EMNIST-letters", root=str(tmp_path), validation=2)
    split = data.split("test")
    pixels, labels = read(split)
    assert pixels[0, 0].nonzero().tolist() == [[3, 20]]
    assert labels.tolist() == list(range(26))
    assert data.spec.num_classes == 26


def test_cifar_colours_stay_in_place(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()

    pixels = rng.integers(0, 256, (12, 3 * 32 * 32), dtype=np.uint8)
    batch = {"data": pixels, "labels": [i % 10 for i in range(12)]}
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [["data_batch_1", write("data_batch_1", batch)]])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", write("test_batch", batch)]])
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": meta})

    split = TorchvisionImages(name="CIFAR10", root=str(tmp_path), validation=4).split("train")
    found, labels = read(split)
    assert np.array_equal(found.numpy(), pixels[:8].reshape(8, 3, 32, 32))
    assert labels.tolist() == list(range(8))


def test_usps_from_its_text_files(tmp_path):
    values = np.linspace(-1, 1, 256)
    line = "3 " + " ".join(f"{i + 1}:{v:.4f}" for i, v in enumerate(values))
    for name, count in [("usps.bz2", 3), ("usps.t.bz2", 2)]:
        (tmp_path / name).write_bytes(bz2.compress("\n".join([line] * count).encode()))
    split = TorchvisionImages(name="USPS", root=str(tmp_path), validation=1).split("train")
    pixels, labels = read(split)
    assert pixels.shape == (2, 1, 16, 16)
    assert labels.tolist() == [2, 2]
    assert (pixels[0].flatten().int() - torch.arange(256)).abs().max() <= 1


def test_photos_sorted_by_class_are_mixed_before_they_are_split(tmp_path):
    write_gtsrb(tmp_path)
    data = TorchvisionImages(name="GTSRB", root=str(tmp_path), size=16, validation=12)
    (train, labels), (_, held_out) = (read(data.split(name)) for name in ("train", "validation"))
    assert set(held_out.tolist()) == set(labels.tolist()) == {0, 1, 2, 3}
    assert torch.equal(train[:, 0, 8, 8], (10 * labels).byte())
    assert torch.bincount(torch.cat([labels, held_out])).tolist() == [10, 10, 10, 10]
    assert train.shape == (28, 3, 16, 16)
    assert len(data.split("test")) == 6
    assert torch.equal(read(data.split("train"))[0], train)


def test_unlabelled_data_have_no_labels(tmp_path, monkeypatch):
    class Stub:
        def __init__(self, root, split):
            self.split = split

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return Image.new("RGB", (178, 218), (index, 0, 0)), torch.zeros(40)

    monkeypatch.setattr(torchvision.datasets, "CelebA", Stub)
    split = TorchvisionImages(name="CelebA", root=str(tmp_path), validation=1, size=32).split("test")
    pixels, labels = read(split)
    assert labels.unique().tolist() == [-1]
    assert pixels[:, 0, 16, 16].tolist() == [0, 1, 2]


def test_without_a_network_the_message_says_what_to_do(tmp_path, no_network):
    data = TorchvisionImages(name="KMNIST", root=str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        data.split("train")
    message = str(caught.value)
    assert f"torchvision's KMNIST in {tmp_path / 'data'}" in message
    assert "the network was tried without success" in message
    assert "Name or service not known" in message
    assert "KMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte" in message
    assert "\n" not in message
    assert no_network


def test_download_off_never_asks_the_network(tmp_path, no_network):
    with pytest.raises(DataError, match=r"Dataset not found.*download is off.*by hand"):
        TorchvisionImages(name="CIFAR10", root=str(tmp_path), download=False).split("test")
    assert no_network == []


def test_downloads_are_torchvisions(tmp_path, monkeypatch):
    """An archive that torchvision's own download finds in place is unpacked."""
    write_fashion_mnist(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    resources = []
    for file in sorted(raw.iterdir()):
        packed = gzip.compress(file.read_bytes())
        (raw / f"{file.name}.gz").write_bytes(packed)
        resources.append((f"{file.name}.gz", hashlib.md5(packed, usedforsecurity=False).hexdigest()))
        file.unlink()
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
    options = {"name": "FashionMNIST", "root": str(tmp_path), "validation": 5}
    with pytest.raises(DataError, match="download is off"):
        TorchvisionImages(**options, download=False).split("test")
    assert len(TorchvisionImages(**options).split("test")) == 20


def test_damaged_files_are_an_error(fashion, no_network):
    path = fashion / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"FashionMNIST.*cannot be opened.*Delete files that are incomplete"):
        TorchvisionImages(name="FashionMNIST", root=str(fashion)).split("train")


def test_an_image_that_cannot_be_read_is_an_error(tmp_path):
    write_gtsrb(tmp_path)
    (tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "00002.ppm").write_bytes(b"P6 9")
    data = TorchvisionImages(name="GTSRB", root=str(tmp_path), size=16, validation=12)
    source = data.split("test").source
    with pytest.raises(DataError, match=r"torchvision's GTSRB: image \d of a split cannot be read \(.*; delete its"):
        [source[i] for i in range(6)]


def test_an_unknown_name_is_refused_with_the_closest():
    with pytest.raises(ValueError, match=r"'FashonMNIST'; did you mean 'FashionMNIST'\? \(allowed: CIFAR10, "):
        TorchvisionImages(name="FashonMNIST")


def test_images_of_different_sizes_need_a_size():
    with pytest.raises(ValueError, match="Flowers102 differ in size; give size"):
        TorchvisionImages(name="Flowers102")


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert TorchvisionImages(name="MNIST").root == tmp_path / "cache" / "genkit" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert TorchvisionImages(name="MNIST").root == tmp_path / "home" / ".cache" / "genkit" / "data"


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_agrees_with_torchvision(name, tmp_path, no_network):
    """Torchvision knows the class and takes the options: it fails for want of files, not of arguments."""
    source = CATALOGUE[name]
    cls = getattr(torchvision.datasets, source.cls)
    assert {*source.train} == {*source.test} <= {*inspect.signature(cls).parameters} | {"train"}
    for options in (source.train, source.test):
        with pytest.raises((RuntimeError, FileNotFoundError)):
            cls(str(tmp_path), **options)
        with pytest.raises((RuntimeError, OSError)):
            cls(str(tmp_path), **options, download=True)
    assert TorchvisionImages(name=name, size=64).spec.shape == (source.shape[0], 64, 64)
    by_split = getattr(cls, "classes_split_dict", {})
    classes = by_split.get(source.train.get("split"), getattr(cls, "classes", None))
    if isinstance(classes, list):
        assert len(classes) - source.first_label == source.num_classes
