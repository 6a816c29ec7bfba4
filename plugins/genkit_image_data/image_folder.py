"""A user's own folder of images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from PIL import Image
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt
from torch.utils.data import Dataset as TorchDataset

from genkit import DataError, Dataset, DataSpec, Shape, Split, SplitName
from genkit_image_data.images import (
    NO_LABEL,
    Binarize,
    Example,
    failures_of,
    image_spec,
    preparation,
    reason,
    to_bytes,
)

Fraction = Annotated[float, Field(ge=0, lt=1)]
Damaged = Literal["stop", "replace"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_NAMED = 5
_TRIES = 100


def absolute(path: str) -> str:
    """A path from the root, so that a resolved recipe means the same folder wherever it is read."""
    return str(Path(path).expanduser().absolute())


class ImageFolder(Dataset):
    """All images in a folder and below it, of any size and kind.

    Files are found by extension (png, jpg, jpeg, bmp, webp, gif, tif, tiff, in any case); hidden ones are
    left out and links to folders are not followed. Each is turned upright as its EXIF data say, laid on white
    where transparent, cut to 8 bits, resized (bicubic, antialiased) so that it just covers ``size``, and
    centre-cropped. Of an animation the first frame counts.

    Which split a file belongs to depends on ``seed`` and its path within the folder alone: adding files moves
    none of the others. The splits' sizes are therefore near the fractions, not equal to them, and in a folder
    of few images one may be empty.

    Images are decoded when they are first needed, and stay in memory where there is room (``train.cache``). Before
    that only the files' headers are read: a file that is no image is left out, with a warning that counts and names
    such files. One whose pixels turn out to be damaged ends the run, or is replaced, as ``damaged`` says.

    Args:
        path: The folder; ``~`` stands for the home folder, and a relative path starts at the working folder.
        size: Height and width in pixels: one number for square images, or ``[height, width]``.
        channels: 3 for colour, 1 for grey.
        validation: Fraction of the images, in [0, 1), that validate.
        test: Fraction of the images, in [0, 1), that test; with ``validation`` below 1.
        seed: Seed of the split.
        labels: ``folders`` makes each folder directly below ``path`` a class, in alphabetical order.
        binarize: ``threshold`` makes every value above 0.5 one and the others zero.
        damaged: ``stop`` ends the run at an image whose pixels cannot be read, and names it; ``replace`` warns, and
            puts the next image that can be read in its place.

    Raises:
        ValueError: The fractions leave nothing to train on.
        DataError: The folder is missing, has no image, none that can be read, one that is damaged, or (with
            ``labels: folders``) some outside its class folders. Raised when the data are read.

    Example:
        >>> ImageFolder(path="photos", size=32).spec.describe_values()
        '256 levels, resized to 32 x 32'
    """

    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({"path": "images"},)

    def __init__(
        self,
        *,
        path: Annotated[str, AfterValidator(absolute)],
        size: PositiveInt | tuple[PositiveInt, PositiveInt] = 64,
        channels: Literal[1, 3] = 3,
        validation: Fraction = 0.1,
        test: Fraction = 0.1,
        seed: NonNegativeInt = 0,
        labels: Literal["none", "folders"] = "none",
        binarize: Binarize = "none",
        damaged: Damaged = "stop",
    ) -> None:
        if validation + test >= 1:
            raise ValueError(
                f"validation {validation} and test {test} leave nothing to train on; keep their sum below 1"
            )
        self.root = Path(absolute(path))
        self.shape: Shape = (channels, *((size, size) if isinstance(size, int) else size))
        self.validation = validation
        self.test = test
        self.seed = seed
        self.labels = labels
        self.binarize: Binarize = binarize
        self.damaged: Damaged = damaged

    @property
    def spec(self) -> DataSpec:
        """Labelled if ``labels`` says so; only then are the folder's names read."""
        num_classes = len(self._classes) if self.labels == "folders" else None
        return image_spec(self.shape, num_classes, resized=True, binarize=self.binarize)

    def split(self, name: SplitName) -> Split | None:
        """The images of a split whose headers can be read."""
        files = [file for file in self._files if self._split_of(file) == name]
        if files:
            images = ImageFiles(self.root, files, [self._label(file) for file in files], self.shape, self.damaged)
            return Split(images.only(self._readable(name, images)), preparation(self.binarize))
        if name == "train":
            raise DataError(
                f"{self.root}: none of its {len(self._files)} images is left to train on; add images, or "
                f"lower validation ({self.validation}) and test ({self.test})"
            )
        return None

    def _readable(self, name: SplitName, images: ImageFiles) -> list[int]:
        """The indices of files that are images; warns of the others."""
        failures = failures_of(images.check, len(images))
        if failures:
            named = "".join(f"\n  {images.files[i]} ({failures[i]})" for i in list(failures)[:_NAMED])
            more = f"\n  and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
            said = f"{self.root}: {len(failures)} of {len(images)} {name} images cannot be read"
            if len(failures) == len(images):
                raise DataError(f"{said}:{named}{more}")
            warnings.warn(f"{said} and are left out:{named}{more}", stacklevel=3)
        return [index for index in range(len(images)) if index not in failures]

    @cached_property
    def _files(self) -> list[str]:
        if not self.root.is_dir():
            problem = "is not a folder" if self.root.exists() else "does not exist"
            raise DataError(f"{self.root.absolute()} {problem}; path must name a folder of images")
        files = find_images(self.root)
        if not files:
            raise DataError(
                f"{self.root.absolute()}: no image in this folder or below it; looked for {', '.join(EXTENSIONS)}"
            )
        return files

    @cached_property
    def _classes(self) -> dict[str, int]:
        loose = [file for file in self._files if "/" not in file]
        if loose:
            raise DataError(
                f"{self.root}: with labels: folders every image must lie in a class's folder, but "
                f"{len(loose)} lie outside: {', '.join(loose[:_NAMED])}{', ...' if loose[_NAMED:] else ''}"
            )
        names = sorted({_first_folder(file) for file in self._files})
        return {name: label for label, name in enumerate(names)}

    def _label(self, file: str) -> int:
        return self._classes[_first_folder(file)] if self.labels == "folders" else NO_LABEL

    def _split_of(self, file: str) -> SplitName:
        place = hashed_uniform(self.seed, file)
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


class ImageFiles(TorchDataset[Example]):
    """Image files as a map-style torch dataset of ``(image, label)``, each decoded when it is asked for.

    Args:
        root: The folder.
        files: Paths within it.
        labels: Their classes.
        shape: What every image becomes, ``(channels, height, width)``.
        damaged: What is done about a file that cannot be read.
    """

    def __init__(
        self, root: Path, files: Sequence[str], labels: Sequence[int], shape: Shape, damaged: Damaged = "stop"
    ) -> None:
        self.root = root
        self.files = files
        self.labels = labels
        self.shape = shape
        self.damaged: Damaged = damaged

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """The example, or if it is damaged and may be replaced, the next one that can be read.

        Raises:
            DataError: It cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.damaged == "replace":
            return self._first_readable(index)
        try:
            return self.read(index)
        except Exception as error:
            raise DataError(
                f"{self.root / self.files[index]} cannot be read ({reason(error)}): mend it or take it away, "
                "or let the next image take its place with data.damaged=replace"
            ) from error

    def _first_readable(self, index: int) -> Example:
        tries = min(len(self), _TRIES)
        for candidate in range(index, index + tries):
            try:
                return self.read(candidate % len(self))
            except Exception as error:
                file = self.files[candidate % len(self)]
                warnings.warn(f"{self.root / file} is replaced by the next: {reason(error)}", stacklevel=2)
        raise DataError(f"{self.root}: {tries} images in a row cannot be read; is the folder still there?")

    def read(self, index: int) -> Example:
        """Decodes one file; raises whatever the image library does."""
        with Image.open(self.root / self.files[index]) as image:
            return to_bytes(image, self.shape[0], self.shape[1:]), self.labels[index]

    def check(self, index: int) -> None:
        """Reads a file's header alone; raises if it is no image."""
        with Image.open(self.root / self.files[index]):
            pass

    def only(self, indices: Sequence[int]) -> ImageFiles:
        """Some of the files."""
        files, labels = [self.files[i] for i in indices], [self.labels[i] for i in indices]
        return ImageFiles(self.root, files, labels, self.shape, self.damaged)


def find_images(root: Path) -> list[str]:
    """The image files in a folder and below it, as sorted paths within it, with ``/`` on every system."""
    found: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [path.relative_to(root).as_posix() for path in paths if path.suffix.lower() in EXTENSIONS]
    return sorted(found)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"a folder of images cannot be read: {error}") from error


def _first_folder(file: str) -> str:
    return file.partition("/")[0]


def hashed_uniform(seed: int, text: str) -> float:
    """A number in :math:`[0, 1)` that depends on the seed and the text alone, on every machine.

    Example:
        >>> round(hashed_uniform(0, "cats/1.png"), 4), round(hashed_uniform(1, "cats/1.png"), 4)
        (0.2529, 0.2403)
    """
    digest = blake2b(f"{seed}/{text}".encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
