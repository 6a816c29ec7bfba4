"""A folder of images: found, split and decoded; what is no image is left out, what is damaged is named or replaced."""

import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

import genkit
from genkit import DataError
from genkit_image_data.image_folder import ImageFolder, find_images

SPLITS = ("train", "validation", "test")


def save(path, value=0, size=(10, 8), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def noisy(path, size=64):
    pixels = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def files_of(folder, name):
    return [file for file in folder._files if folder._split_of(file) == name]


@pytest.fixture
def many(tmp_path):
    """500 tiny images in 10 folders; the grey value is the number modulo 256."""
    for i in range(500):
        save(tmp_path / f"{i % 10}" / f"{i:03}.bmp", i % 256, (3, 3))
    return tmp_path


def read(split):
    """All pixels and labels of a split."""
    return default_collate([split.source[i] for i in range(len(split))])


def values(split):
    return read(split)[0][:, 0, 0, 0].tolist()


def test_every_kind_of_file_is_read(tmp_path):
    save(tmp_path / "a.PNG", (10, 20, 30, 255), (30, 20), "RGBA")
    save(tmp_path / "b.jpg", (10, 20, 30), (20, 30), "RGB")
    save(tmp_path / "c.Jpeg", (0, 0, 0, 255), (8, 9), "CMYK")
    save(tmp_path / "d.bmp", 40, (8, 8), "P")
    save(tmp_path / "e.webp", (1, 2, 3), (64, 3), "RGB")
    save(tmp_path / "f.gif", 5, (8, 8))
    save(tmp_path / "deep" / "er" / "g.tif", 60000, (8, 8), "I;16")
    save(tmp_path / "deep" / "h.TIFF", 1, (8, 8), "1")
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path / ".hidden.png")
    save(tmp_path / ".thumbnails" / "i.png")

    split = ImageFolder(path=str(tmp_path), size=16, validation=0, test=0).split("train")

    pixels, labels = read(split)
    assert pixels.shape == (8, 3, 16, 16)
    assert pixels.dtype == torch.uint8
    assert labels.unique().tolist() == [-1]
    by_name = dict(zip(find_images(tmp_path), pixels, strict=True))
    assert by_name["a.PNG"][:, 8, 8].tolist() == [10, 20, 30]
    assert by_name["deep/er/g.tif"][:, 8, 8].tolist() == [60000 >> 8] * 3
    assert by_name["deep/h.TIFF"].min() == 255


def test_the_order_is_that_of_the_paths(tmp_path):
    for value, name in [(3, "b/z.bmp"), (1, "a.bmp"), (2, "b/a.bmp")]:
        save(tmp_path / name, value)
    split = ImageFolder(path=str(tmp_path), size=2, channels=1, validation=0, test=0).split("train")
    assert values(split) == [1, 2, 3]


@pytest.mark.parametrize("channels", [1, 3])
def test_spec_says_what_the_data_are(many, channels):
    folder = ImageFolder(path=str(many), size=[6, 4], channels=channels, binarize="threshold")
    split = folder.split("test")
    batch = split.prepare(read(split)[0])
    assert folder.spec.shape == (channels, 6, 4) == tuple(batch.shape[1:])
    assert folder.spec.levels == 2
    assert folder.spec.protocol == "resized to 6 x 4, binarized at 0.5"
    assert set(batch.unique().tolist()) == {0.0, 1.0}


def test_construction_and_spec_read_nothing():
    assert ImageFolder(path="no/such/folder", size=8).spec.protocol == "resized to 8 x 8"


def test_splits_are_disjoint_complete_and_near_their_fractions(many):
    folder = ImageFolder(path=str(many), validation=0.2, test=0.1)
    parts = {name: files_of(folder, name) for name in SPLITS}
    assert sorted(file for part in parts.values() for file in part) == find_images(many)
    # three standard deviations of a binomial of 500
    assert abs(len(parts["validation"]) - 100) < 27
    assert abs(len(parts["test"]) - 50) < 20


def test_adding_files_moves_no_other(many):
    before = {name: files_of(ImageFolder(path=str(many)), name) for name in SPLITS}
    for i in range(200):
        save(many / "0" / f"{i:03}_new.bmp", size=(3, 3))
    after = {name: files_of(ImageFolder(path=str(many)), name) for name in SPLITS}
    for name in SPLITS:
        assert [file for file in after[name] if "_new" not in file] == before[name]
        assert len(after[name]) > len(before[name])


def test_moving_the_folder_moves_no_file(many, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "images"
    before = files_of(ImageFolder(path=str(many)), "test")
    many.rename(elsewhere)
    assert files_of(ImageFolder(path=str(elsewhere)), "test") == before


def test_a_larger_validation_fraction_keeps_the_test_files(many):
    small, large = (ImageFolder(path=str(many), validation=v) for v in (0.1, 0.4))
    assert files_of(small, "test") == files_of(large, "test")
    assert set(files_of(small, "validation")) < set(files_of(large, "validation"))


def test_the_seed_changes_the_split(many):
    assert files_of(ImageFolder(path=str(many)), "test") != files_of(ImageFolder(path=str(many), seed=1), "test")


def test_fractions_of_zero_are_empty_splits(many):
    folder = ImageFolder(path=str(many), validation=0, test=0, size=3)
    assert folder.split("validation") is None
    assert folder.split("test") is None
    assert len(folder.split("train")) == 500


def test_fractions_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="below 1"):
        ImageFolder(path="images", validation=0.5, test=0.5)


def test_labels_are_the_first_folders(tmp_path):
    save(tmp_path / "dogs" / "1.bmp", 2)
    save(tmp_path / "cats" / "indoors" / "1.bmp", 1)
    save(tmp_path / "owls" / "1.bmp", 3)
    folder = ImageFolder(path=str(tmp_path), size=2, validation=0, test=0, labels="folders")
    split = folder.split("train")
    assert folder.spec.num_classes == 3
    assert values(split) == [1, 2, 3]
    labels = read(split)[1]
    assert labels.tolist() == [0, 1, 2]
    assert labels.dtype == torch.int64


def test_labels_do_not_depend_on_the_split(many):
    folder = ImageFolder(path=str(many), size=3, channels=1, labels="folders")
    split = folder.split("test")
    expected = [int(file.partition("/")[0]) for file in files_of(folder, "test")]
    assert read(split)[1].tolist() == expected


def test_an_image_outside_the_class_folders_is_named(tmp_path):
    save(tmp_path / "cats" / "1.png")
    save(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"1 lie outside: stray\.png"):
        _ = ImageFolder(path=str(tmp_path), labels="folders").spec


def test_unreadable_files_are_counted_named_and_left_out(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.bmp", i + 1)
    for i in range(8):
        (tmp_path / f"text{i}.jpg").write_text("not an image")
    folder = ImageFolder(path=str(tmp_path), size=4, channels=1, validation=0, test=0)
    with pytest.warns(UserWarning, match="left out") as caught:
        split = folder.split("train")
    assert values(split) == [1, 2, 3, 4]
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "8 of 12 train images" in message
    assert "text0.jpg (UnidentifiedImageError: " in message
    assert "text4.jpg" in message
    assert "text5.jpg" not in message
    assert "and 3 more" in message


def test_labels_follow_their_images_when_files_are_left_out(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.png").write_text("not an image")
    save(tmp_path / "b" / "1.bmp", 7)
    folder = ImageFolder(path=str(tmp_path), size=2, validation=0, test=0, labels="folders")
    with pytest.warns(UserWarning, match="1 of 2"):
        split = folder.split("train")
    assert values(split) == [7]
    assert read(split)[1].tolist() == [1]


def test_no_readable_file_at_all_is_an_error(tmp_path):
    (tmp_path / "bad.png").write_text("not an image")
    with pytest.raises(DataError, match=r"1 of 1 train images cannot be read:\s+bad.png \(UnidentifiedImage"):
        ImageFolder(path=str(tmp_path), validation=0, test=0).split("train")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none'} does not exist")):
        ImageFolder(path=str(tmp_path / "none")).split("train")


def test_a_file_is_no_folder(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is not a folder"):
        ImageFolder(path=str(tmp_path / "a.png")).split("test")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no image in this folder or below it; looked for \.png, \.jpg"):
        ImageFolder(path=str(tmp_path)).split("validation")


def test_nothing_left_to_train_on_is_an_error(tmp_path):
    save(tmp_path / "a.png")
    chosen = next(s for s in range(1000) if ImageFolder(path=".", seed=s, test=0.5)._split_of("a.png") == "test")
    with pytest.raises(DataError, match="none of its 1 images is left to train on"):
        ImageFolder(path=str(tmp_path), seed=chosen, test=0.5).split("train")


def test_images_can_be_sent_to_a_worker(many):
    source = ImageFolder(path=str(many), size=3, damaged="replace").split("test").source
    received = pickle.loads(pickle.dumps(source))
    assert len(received) == len(source)
    assert torch.equal(received[7][0], source[7][0])
    assert (received[7][1], received.damaged) == (-1, "replace")


@pytest.fixture
def one_damaged(tmp_path):
    """Two images; the header of the second can be read, its pixels cannot."""
    save(tmp_path / "a.bmp", 5)
    noisy(tmp_path / "z.png")
    truncate(tmp_path / "z.png")
    return {"path": str(tmp_path), "size": 8, "validation": 0, "test": 0}


def test_a_damaged_file_is_named(one_damaged):
    source = ImageFolder(**one_damaged).split("train").source
    assert len(source) == 2
    assert (source[0][0] == 5).all()
    with pytest.raises(DataError, match=r"/z\.png cannot be read \(OSError: .*\): mend it .* data\.damaged=replace$"):
        source[1]


def test_a_damaged_file_is_replaced(one_damaged):
    source = ImageFolder(**one_damaged, damaged="replace").split("train").source
    with pytest.warns(UserWarning, match=r"z\.png is replaced by the next: OSError"):
        x, _ = source[1]
    assert (x == 5).all()


def test_a_folder_that_vanishes_ends_with_an_error(many):
    stop, replace = (ImageFolder(path=str(many), damaged=d).split("train").source for d in ("stop", "replace"))
    many.rename(many.parent / "gone")
    with pytest.raises(DataError, match=r"000\.bmp cannot be read \(FileNotFoundError: "):
        stop[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="100 images in a row cannot be read"):
            replace[0]


@pytest.mark.parametrize("index", [-1, 2])
def test_there_is_nothing_beside_the_images(one_damaged, index):
    with pytest.raises(IndexError):
        ImageFolder(**one_damaged).split("train").source[index]


def test_resolved_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert genkit.build("dataset", {"use": "image_folder", "path": "photos"}).root == tmp_path / "photos"
    from genkit.testing import factory

    assert factory("dataset", {"use": "image_folder", "path": "photos"}).options["path"] == str(tmp_path / "photos")
