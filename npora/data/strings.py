"""Many strings in little memory."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from npora.nn.module import Array

_IN_MEMORY = 1 << 26  # bytes of text; what there is more of lies on the disk
_BLOCK = 4096


class Strings(Sequence[str]):
    """Strings one behind the other in UTF-8: a million short ones take little more than a file of them.

    From 64 MB of them on they lie in a temporary file without a name, which is mapped into memory: the system keeps
    what it has room for. It is in the folder that TMPDIR names.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("q", [0])  # the last ones; where each ends, of all
        self._file: Any = None
        self._map: Any = b""  # the first ones
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        encoded = text.encode("utf-8", "surrogatepass")
        self._bytes += encoded
        self._ends.append(self._ends[-1] + len(encoded))
        if len(self._bytes) >= _IN_MEMORY:
            if self._file is None:
                self._file = tempfile.TemporaryFile()
                weakref.finalize(self, self._file.close)
            self._file.write(self._bytes)
            self._file.flush()
            self._bytes.clear()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no string {index}; there are {len(self)}")
        return self._encoded(index % len(self)).decode("utf-8", "surrogatepass")

    def _encoded(self, place: int) -> bytes:
        begin, end, first = self._ends[place], self._ends[place + 1], len(self._map)
        return bytes(self._map[begin:end] if begin < first else self._bytes[begin - first : end - first])

    def pieces(self, order: Array | None) -> Iterator[bytes]:
        """The bytes of these strings in this order, and how many each has: what tells them from others."""
        places = np.arange(len(self)) if order is None else order
        ends = np.frombuffer(self._ends, np.int64)
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            yield (ends[block + 1] - ends[block]).tobytes()
            yield b"".join(map(self._encoded, block.tolist()))

    def __reduce__(self) -> Any:
        return type(self), (list(self),)
