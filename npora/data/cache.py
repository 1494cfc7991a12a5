"""Examples of numbers in a folder whose files are mapped into memory: read as they are needed, however many there are.

about.json says what the examples were made of and by, and how each column lies in its file, with its SHA-256. A column
of numbers is NAME.bin; one of lists has all of their numbers there, and in NAME.ends.bin where each list ends.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from npora.data.columns import Columns, Example
from npora.files import read_json, write_json
from npora.files.atomic import flushed_once, sync_directory
from npora.files.digest import sha256_of
from npora.files.lock import Lock
from npora.files.refusal import naming, shortened
from npora.files.regular import open_regular
from npora.nn.module import Array

ABOUT = "about.json"
_FORMAT = 1
_NAME = re.compile(r"\w{1,60}", re.ASCII)
_KINDS = {"i": "<i4", "f": "<f8"}  # of a column's numbers
_ENDS = "<i8"
_BLOCK = 1024  # examples that are written together

Path = str | os.PathLike[str]


class Lists(Sequence[Any]):
    """Lists of numbers one behind the other, or with no ends numbers, of which none is read before it is asked for."""

    def __init__(self, flat: Array, ends: Array | None) -> None:
        self._flat, self._ends = flat, ends

    def __len__(self) -> int:
        return len(self._flat) if self._ends is None else len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no example {index}; there are {len(self)}")
        place = index % len(self)
        found = self._flat[place] if self._ends is None else self._flat[self._ends[place] : self._ends[place + 1]]
        return found.tolist()


def cached(folder: Path, examples: Iterable[Example], of: Mapping[str, Any], progress: Any = None) -> Columns:
    """The examples of a folder; where there is none, these are written to it first, a thousand at a time.

    of : what they were made of and by, their fingerprint
    progress : is told how many are written

    Raises
    ------
    ValueError: the folder has other examples, or its files are not those that were written; a column that has anything
    but numbers or lists of them.  RuntimeError: another process writes it now.
    """
    if None in of.values():
        raise ValueError("the examples are others each time that they are asked for: in a cache they would be one set")
    folder = os.path.abspath(folder)
    if not os.path.exists(os.path.join(folder, ABOUT)):
        if os.path.isfile(folder) or (os.path.isdir(folder) and os.listdir(folder)):
            raise ValueError(f"{folder} is there, and is no cache of examples: name another folder")
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with Lock(f"{folder}.lock", folder):
            if not os.path.exists(os.path.join(folder, ABOUT)):  # or another process has written it meanwhile
                _write(folder, examples, of, progress)
    return _read(folder, of)


def _write(folder: str, examples: Iterable[Example], of: Mapping[str, Any], progress: Any) -> None:
    above, name = os.path.split(folder)
    for left in os.listdir(above):
        if left.startswith(f"{name}.tmp-"):  # by a process that was killed
            shutil.rmtree(os.path.join(above, left))
    fresh = f"{folder}.tmp-{secrets.token_hex(4)}"
    os.mkdir(fresh)
    try:
        with flushed_once(fresh):
            number, columns, rest = 0, dict[str, _Column](), iter(examples)
            try:
                while block := list(itertools.islice(rest, _BLOCK)):
                    columns = columns or {key: _Column(fresh, key, value) for key, value in block[0].items()}
                    for i, example in enumerate(block):
                        if example.keys() != columns.keys():
                            there = shortened([*example])
                            raise ValueError(
                                f"example {number + i} has {there}, where others have {', '.join(columns)}"
                            )
                    for key, column in columns.items():
                        column.append([example[key] for example in block], number)
                    number += len(block)
                    if progress is not None:
                        progress(number)
            finally:
                for column in columns.values():
                    column.close()
            about = {key: column.about() for key, column in columns.items()}
            write_json(
                os.path.join(fresh, ABOUT), {"format": _FORMAT, "of": dict(of), "number": number, "columns": about}
            )
        os.replace(fresh, folder)
        sync_directory(above)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


class _Column:
    """A column that is being written."""

    def __init__(self, folder: str, name: str, first: Any) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a column of a cache cannot be named {shortened(name)}: letters, digits and _ alone")
        self.name, self._lists = name, _depth(first) == 1
        self._kind: str | None = None
        self._files = [open(os.path.join(folder, f"{name}{end}.bin"), "wb") for end in ("", ".ends")[: 1 + self._lists]]
        self._sha = [hashlib.sha256() for _ in self._files]
        self._end = 0
        if self._lists:
            self._put(1, np.zeros(1, _ENDS))

    def append(self, values: Sequence[Any], number: int) -> None:
        for i, value in enumerate(values):
            if _depth(value) != int(self._lists) or isinstance(value, str | bytes | dict | set):
                raise ValueError(
                    f"example {number + i}: {self.name} is {shortened(value)}: a cache takes numbers, or lists of them"
                )
        numbers = list(itertools.chain.from_iterable(values)) if self._lists else list(values)
        if numbers:
            self._put_numbers(numbers, number)
        if self._lists:
            ends = self._end + np.cumsum([len(value) for value in values])
            self._end = int(ends[-1])
            self._put(1, ends.astype(_ENDS))

    def _put_numbers(self, numbers: list[Any], number: int) -> None:
        kinds = {np.dtype(kind).kind.replace("b", "i").replace("u", "i") for kind in set(map(type, numbers))}
        self._kind = self._kind or min(kinds)
        flat = np.array(numbers)
        stored = flat.astype(_KINDS[self._kind]) if self._kind in _KINDS and flat.dtype.kind in "biuf" else None
        if kinds != {self._kind} or stored is None or not np.array_equal(stored, flat, equal_nan=True):
            raise ValueError(
                f"{self.name} of the examples from {number} on is not all of a kind: a cache takes numbers, all "
                "whole and below 2³¹, or all floats"
            )
        self._put(0, stored)

    def _put(self, which: int, array: Array) -> None:
        data = array.tobytes()
        self._files[which].write(data)
        self._sha[which].update(data)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def about(self) -> dict[str, Any]:
        return {"kind": self._kind or "i", "sha256": [sha.hexdigest() for sha in self._sha]}


def _depth(value: Any) -> int:
    """Of lists in lists; of those of unequal lengths, which NumPy takes for no array, 2."""
    try:
        return np.ndim(value)
    except ValueError:
        return 2


def _read(folder: str, of: Mapping[str, Any]) -> Columns:
    path = os.path.join(folder, ABOUT)
    about = read_json(path)
    with naming(path):
        _check(about)
    wrong = [
        f"{name}={shortened(one)}, and not {shortened(other)}"
        for name in sorted(about["of"].keys() | of.keys())
        if (one := about["of"].get(name)) != (other := of.get(name))
    ]
    if wrong:
        raise ValueError(
            f"{folder} has other examples than these, of {'; '.join(wrong)}: remove it, or name another folder"
        )
    found = {}
    for name, column in about["columns"].items():
        paths = [os.path.join(folder, f"{name}{end}.bin") for end in ("", ".ends")[: len(column["sha256"])]]
        kinds = (_KINDS[column["kind"]], _ENDS)
        flat, *rest = map(_mapped, paths, kinds, column["sha256"])
        ends = rest[0] if rest else None
        fits = ends is None or (len(ends) and ends[0] == 0 and ends[-1] == len(flat) and (np.diff(ends) >= 0).all())
        found[name] = Lists(flat, ends)
        if not fits or len(found[name]) != about["number"]:
            raise ValueError(f"{path}: {name} does not hold {about['number']} examples")
    return Columns(found, of=of)


def _check(about: Mapping[str, Any]) -> None:
    """Raise ValueError where this is not what a cache says of itself."""
    number, columns = about.get("number"), about.get("columns")
    if about.get("format") != _FORMAT or not isinstance(about.get("of"), dict) or not isinstance(columns, dict):
        raise ValueError(f"it is no cache of the format {_FORMAT}")
    if type(number) is not int or number < 0:
        raise ValueError(f"number cannot be {shortened(number)}")
    for name, column in columns.items():
        digests = column.get("sha256") if isinstance(column, dict) else None
        if not (_NAME.fullmatch(name) and isinstance(digests, list) and len(digests) in (1, 2)
                and column.get("kind") in list(_KINDS)):  # fmt: skip
            raise ValueError(f"{shortened(name)} is no column of a cache: {shortened(column)}")


def _mapped(path: str, kind: str, digest: Any) -> Array:
    with open_regular(path):  # a device is no file of a cache
        pass
    if sha256_of(path) != digest:
        raise ValueError(f"{path} is not the file that was written: its SHA-256 differs. Remove the folder")
    size = os.path.getsize(path)
    if size % np.dtype(kind).itemsize:
        raise ValueError(f"{path} has {size} bytes, which are no whole numbers")
    return np.memmap(path, kind, "r") if size else np.zeros(0, kind)
