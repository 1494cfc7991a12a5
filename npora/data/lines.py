"""The lines of a text file, with an error that names the line where it is none."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from npora.files.refusal import Refuse, raise_it

Path = str | os.PathLike[str]
_LEAST, _TIMES = 1 << 25, 100  # a .gz file may unpack to so many bytes, or to so many times its own
_AT_ONCE, _LONGEST = 1 << 20, 1 << 30  # bytes of a line: that are read together, and in all
_NUL = "there is a NUL, which no text has; UTF-16 is converted with: iconv -t UTF-8 -f UTF-16"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def lines(path: Path, refuse: Refuse = raise_it) -> Iterator[tuple[int, str]]:
    """Each line with its number and its own end, which may be \\n, \\r\\n or \\r. Of a name in .gz those inside.

    refuse : is given the error of a line that cannot be used; where it returns, that line is left out

    Raises
    ------
    FileNotFoundError; ValueError: not UTF-8, or a NUL, each with its line.
    """
    name = os.fspath(path)
    number = 0
    try:
        with open(path, "rb") as raw, _unpacked(raw, name) if name.lower().endswith(".gz") else raw as file:
            if stat.S_ISCHR(os.fstat(raw.fileno()).st_mode) and not raw.isatty():
                raise ValueError(f"{name} is a device; a file of examples was expected")
            for number, line in lines_of(file, name, refuse):
                yield number, line
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a directory; pass a file of examples") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{name}, after line {number}: not a whole gzip file ({error})") from None


def _unpacked(raw: BinaryIO, name: str) -> BinaryIO:
    most = max(_LEAST, _TIMES * os.fstat(raw.fileno()).st_size)
    return io.BufferedReader(_Bounded(gzip.GzipFile(fileobj=raw, mode="rb"), most, name))


class _Bounded(io.RawIOBase):
    """What another file gives, up to so many bytes: a small file may unpack to more than a machine holds."""

    def __init__(self, file: gzip.GzipFile, most: int, name: str) -> None:
        self._file, self._left, self._most, self._name = file, most, most, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = self._file.readinto(buffer)
        self._left -= number
        if self._left < 0:
            raise ValueError(
                f"{self._name} unpacks to more than {self._most:,} bytes, {_TIMES} times its size, which no text does: "
                "where it is right, unpack it first, with gunzip"
            )
        return number


def lines_of(file: BinaryIO, name: str, refuse: Refuse = raise_it) -> Iterator[tuple[int, str]]:
    """As `lines`, of a file that is open, each as soon as it comes."""
    number = 0
    while raw := file.readline(_AT_ONCE):
        if len(raw) == _AT_ONCE and not raw.endswith(b"\n"):
            raw += _rest(file, raw, f"{name}, line {number + 1}")
        if number == 0:
            if raw.startswith(_UTF16):
                raise ValueError(f"{name} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = _decoded(raw, name, number + 1)
        except ValueError as error:
            refuse(error)
            number += 1
            continue
        for line in io.StringIO(text, newline="") if "\r" in text else (text,):
            number += 1
            yield number, line


def _rest(file: BinaryIO, begins: bytes, where: str) -> bytes:
    """Of a line that begins so. What has no text is not read to an end that it may not have."""
    pieces, left = [begins], _LONGEST - len(begins)
    while pieces[-1] and not pieces[-1].endswith(b"\n"):
        if b"\0" in pieces[-1]:
            raise ValueError(f"{where}: {_NUL}")
        pieces.append(file.readline(_AT_ONCE))
        left -= len(pieces[-1])
        if left < 0:
            raise ValueError(f"{where}: it has more than {_LONGEST:,} bytes, which no line of text has")
    return b"".join(pieces[1:])


def _decoded(raw: bytes, name: str, number: int) -> str:
    where = f"{name}, line {number}"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: not UTF-8 (byte 0x{raw[error.start]:02X}, {error.reason}); where the file is in another "
            "encoding, convert it, as in: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    if "\0" in text:
        raise ValueError(f"{where}: {_NUL}")
    return text
