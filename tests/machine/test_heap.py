"""What a step frees is kept for the next, as long as one asks for it, and given back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from npora.machine import heap

COUNT = """
import resource, numpy as np
from npora.machine.heap import keeping_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

print(faults(), end=" ")
with keeping_freed_memory():
    with keeping_freed_memory():
        np.ones(10_000_000)
    print(faults(), resident() > 80_000_000, end=" ")
print(faults(), resident() < 80_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's heap, which is Linux's")
def test_within_the_block_an_array_takes_the_place_of_the_one_before() -> None:
    """Five times 80 MB are 100,000 pages of 4 KB, or 190 of 2 MB; what is kept is not asked for again."""
    found = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, within, held, after, given_back = found.stdout.split()
    assert int(within) < 100 and held == "True"
    assert min(int(before), int(after)) > 2 * int(within) and given_back == "True"


class Library:
    """A C library that notes what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[int, ...]] = []

    def mallopt(self, option: int, value: int) -> None:
        self.said.append((option, value))

    def malloc_trim(self, left: int) -> None:
        self.said.append((left,))

    def all_that_was_said(self) -> list[tuple[int, ...]]:
        said, self.said = self.said, []
        return said


# Of glibc's malloc.h: M_MMAP_MAX is −4, M_ARENA_MAX −8, M_TRIM_THRESHOLD −1; then malloc_trim(0).
KEPT = [(-4, 0), (-8, 1), (-1, -1)]
GIVEN_BACK = [(-4, 65536), (-8, 0), (-1, 131_072), (0,)]


def test_the_first_block_keeps_and_the_last_to_end_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(heap, "_glibc", lambda: library)
    for _ in range(2):
        with heap.keeping_freed_memory():
            assert library.all_that_was_said() == KEPT
            with pytest.raises(KeyError), heap.keeping_freed_memory():
                raise KeyError
            assert library.all_that_was_said() == []
        assert library.all_that_was_said() == GIVEN_BACK


def test_of_another_library_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with heap.keeping_freed_memory():
        pass


def test_the_library_is_glibc_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries: list[Any] = [Library(), object()]
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: libraries[0])
    monkeypatch.setattr(heap.sys, "platform", "linux")
    find = heap._glibc.__wrapped__
    assert find() is libraries[0]
    monkeypatch.setattr(heap.sys, "platform", "win32")
    assert find() is None
    monkeypatch.setattr(heap.sys, "platform", "linux")
    assert libraries.pop(0) and find() is None
