"""The memory of a mapped file is given back, and its numbers are read again when they are asked for."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.machine.maps import let_go
from npora.stored import BFloat16


class Watched(mmap.mmap):
    """A map that notes what is advised of it."""

    advised: list[int]

    def madvise(self, option: int, *more: Any) -> None:
        self.advised.append(option)
        super().madvise(option, *more)


@pytest.fixture
def mapped(tmp_path: Path) -> Watched:
    (tmp_path / "bits").write_bytes(np.arange(30, dtype=np.uint16).tobytes())
    with open(tmp_path / "bits", "rb") as file:
        made = Watched(file.fileno(), 0, access=mmap.ACCESS_READ)
    made.advised = []
    return made


def test_a_map_is_let_go_of_and_an_array_in_memory_is_not(mapped: Watched) -> None:
    whole = np.frombuffer(mapped, np.uint16)
    through_a_view = np.asarray(memoryview(mapped)[2:].cast("H"))
    for matrix in (whole, whole.reshape(5, 6)[1:].T, through_a_view, BFloat16(whole.reshape(5, 6))):
        before = np.array(matrix)
        mapped.advised.clear()
        assert let_go(matrix)
        assert mapped.advised == ([mmap.MADV_DONTNEED] if hasattr(mmap, "MADV_DONTNEED") else [])
        np.testing.assert_array_equal(np.asarray(matrix), before)
    for matrix in (whole.copy(), np.frombuffer(whole.tobytes(), np.uint16), BFloat16(whole.copy())):
        assert not let_go(matrix)


def test_where_memory_cannot_be_given_back_it_stays(mapped: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    assert let_go(np.frombuffer(mapped, np.uint16)) and not mapped.advised
