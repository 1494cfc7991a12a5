"""Images with a class each: from a folder of classes, or from an archive of arrays; and as batches."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from npora.data.collate import LABELS
from npora.data.columns import Columns
from npora.data.dataset import Dataset
from npora.data.fingerprint import sha256_of
from npora.data.image_processor import check_image, pillow
from npora.data.lines import Path
from npora.data.readers import Told, watched
from npora.files.digest import sha256_of as sha256_of_file
from npora.files.refusal import Refuse, naming, raise_it, shortened
from npora.nn.module import Array

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".npy")


def read_images(
    path: Path,
    label2id: Mapping[str, int] | None = None,
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `image` and `label`, a number.

    A folder has a folder for each class, whose name is the class's, with images in files (.png, .jpg, … and .npy);
    `image` is the path of one, and none is read; names that begin with a dot are passed over. A file .npz has the
    arrays `images` uint8 [n, height, width] or [n, height, width, channels] and `labels`, whole numbers [n] or names;
    `image` is the array.

    label2id : the numbers of the names. Without it they are numbered in sorted order, and the dataset has the mapping
    refuse, progress : as in read_examples

    Raises
    ------
    FileNotFoundError: there is no such path.  ValueError: neither of the two; a class that label2id lacks, or without
    it one that has no image; a file that is none of an image, or an image beside the folders of the classes.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        return _folder(name, label2id, refuse, progress)
    if not name.lower().endswith(".npz"):
        raise ValueError(f"{name}: images are in a folder with a folder for each class, or in a file .npz")
    return _archive(name, label2id)


def load_image(path: Path) -> Array:
    """uint8 [height, width] or [height, width, channels], of a file that NumPy (.npy) or else Pillow reads.

    Raises
    ------
    FileNotFoundError; ValueError: no image.  ImportError: Pillow is not installed.
    """
    name = os.fspath(path)
    if os.path.isdir(name):
        raise ValueError(f"{name} is a folder, where the file of an image is expected")
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    read = _array if name.lower().endswith(".npy") else partial(_picture, pillow())
    try:
        return read(name)
    except MemoryError:
        raise
    except Exception as error:  # what a broken file makes of a reader has no end of names
        raise ValueError(f"{name} is no image that can be read: {error}") from None


def _array(name: str) -> Array:
    with open(name, "rb") as file:
        array = np.asarray(np.lib.format.read_array(file))
    check_image(array)
    return array


def _picture(pillow: Any, name: str) -> Array:
    with pillow.open(name) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its numbers are those of the mode {image.mode}, which go beyond 0 … 255")
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def collate_images(
    examples: Sequence[Mapping[str, Any]],
    names: Collection[str],
    pad_token_id: int = 0,
    numbers: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The batch of examples whose pixel_values are arrays [channels, height, width] of one shape, and which have a
    label each or none. `pad_token_id` is not used: nothing is padded.

    Raises
    ------
    ValueError: an example without pixel_values, or of another shape; a label that only some of them have.
    """
    numbers = range(len(examples)) if numbers is None else numbers
    for example, number in zip(examples, numbers, strict=True):
        if example.get("pixel_values") is None:
            raise ValueError(f"example {number} needs pixel_values; it has: {', '.join(example) or 'nothing'}")
    pixels = [np.asarray(example["pixel_values"]) for example in examples]
    for image, number in zip(pixels, numbers, strict=True):
        if image.shape != pixels[0].shape:
            raise ValueError(
                f"pixel_values have the shape {pixels[0].shape} in example {numbers[0]}, and {image.shape} in example "
                f"{number}"
            )
    labels = [next((example[key] for key in LABELS if example.get(key) is not None), None) for example in examples]
    batch = {"pixel_values": np.stack(pixels)}
    if "labels" in names and any(label is not None for label in labels):
        if None in labels:
            raise ValueError(f"some examples have a label, and example {numbers[labels.index(None)]} has none")
        batch["labels"] = np.asarray(labels)
    return batch


def _folder(name: str, label2id: Mapping[str, int] | None, refuse: Refuse, progress: Told | None) -> Dataset:
    classes = sorted(entry.name for entry in os.scandir(name) if entry.is_dir() and not entry.name.startswith("."))
    beside = [os.path.join(name, file) for file in sorted(os.listdir(name)) if _is_image(name, file)]
    found = [
        (os.path.join(name, kind, file), kind)
        for kind in classes
        for file in sorted(os.listdir(os.path.join(name, kind)))
        if not file.startswith(".")
    ]
    if not found:
        raise ValueError(f"{name}: there is no folder of a class with images in it")
    for path in beside:
        refuse(ValueError(f"{path} is in no folder of a class, whose name would say what it shows"))
    empty = {*classes} - {kind for _, kind in found}
    for kind in sorted(empty if label2id is None else ()):
        refuse(ValueError(f"{os.path.join(name, kind)}: there is no image of this class: remove the folder"))
    numbers = _numbers(name, classes, label2id)
    paths: list[str] = []
    labels: list[int] = []
    for path, kind in watched(found, progress):
        if os.path.isdir(path):
            refuse(ValueError(f"{path} is a folder, and images are expected in that of the class {kind!r}: name the "
                "folder whose own folders are the classes"))  # fmt: skip
            continue
        if not path.lower().endswith(SUFFIXES):
            refuse(ValueError(f"{path} is none of {', '.join(SUFFIXES)}"))
            continue
        paths.append(path)
        labels.append(numbers[kind])
    parts = [(os.path.relpath(path, name), os.path.getsize(path)) for path in paths]
    of = {"sha256": sha256_of([*parts, labels])}
    dataset = Dataset(Columns({"image": paths, "label": labels}, of=of, where=paths.__getitem__))
    dataset.label2id = numbers
    return dataset


def _archive(name: str, label2id: Mapping[str, int] | None) -> Dataset:
    try:
        with zipfile.ZipFile(name):  # what np.load takes for an array by itself, or a pickle, is none
            arrays = np.load(name)
        with arrays:
            images, labels = (np.asarray(arrays[key]) for key in ("images", "labels"))
    except KeyError:
        raise ValueError(f"{name} must hold the arrays images and labels; it has: {', '.join(arrays.files)}") from None
    except (ValueError, EOFError, zlib.error, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is no archive of arrays: {error}") from None
    if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}: images must be [n, height, width] or [n, height, width, channels], and labels [n]; got shapes "
            f"{images.shape} and {labels.shape}"
        )
    if len(images):
        with naming(name):
            check_image(images[0])
    names = None
    if labels.dtype.kind == "U":
        names = _numbers(name, np.unique(labels).tolist(), label2id)
        labels = np.array([names[str(label)] for label in labels], dtype=np.int64)
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        raise ValueError(f"{name}: labels must be numbers from 0 on, or names; got {shortened(labels.tolist())}")
    columns = Columns(
        {"image": list(images), "label": labels.tolist()}, of={"sha256": sha256_of_file(name)},
        where=lambda place: f"{name}, image {place}",
    )  # fmt: skip
    dataset = Dataset(columns)
    dataset.label2id = names
    return dataset


def _is_image(folder: str, file: str) -> bool:
    is_hidden = file.startswith(".")
    return not is_hidden and file.lower().endswith(SUFFIXES) and os.path.isfile(os.path.join(folder, file))


def _numbers(name: str, classes: Sequence[str], label2id: Mapping[str, int] | None) -> dict[str, int]:
    if label2id is None:
        return {kind: number for number, kind in enumerate(classes)}
    if unknown := [kind for kind in classes if kind not in label2id]:
        raise ValueError(f"{name}: the class {unknown[0]!r} is none of this model's, which are {', '.join(label2id)}")
    return dict(label2id)
