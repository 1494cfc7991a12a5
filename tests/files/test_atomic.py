"""A save that fails anywhere leaves the old file whole and nothing else."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npora.files import write_atomically
from npora.files.atomic import flushed_once, sync_directory

OLD, NEW = b"old " * 100, [b"new ", b"content " * 50]


class Fault:
    """Makes the n-th of all calls of these functions of `os` raise."""

    NAMES = ("open", "write", "fsync", "replace")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.left, self.error, self.raised = at, error, False
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **keywords: Any) -> Any:
            if self.left == 0 and not self.raised:
                self.raised = True
                raise self.error
            self.left -= 1
            return function(*args, **keywords)

        return wrapped


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "^C"])
def test_a_fault_at_any_call_leaves_the_old_file_or_the_new_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    outcomes = set()
    for at in range(20):
        path.write_bytes(OLD)
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = Fault(monkeypatch, at, error)
            try:
                write_atomically(path, NEW)
            except BaseException as caught:
                assert caught is error
        content = path.read_bytes()
        assert content in (OLD, b"".join(NEW))
        assert os.listdir(tmp_path) == ["file"]
        outcomes.add((fault.raised, content == OLD))
        if not fault.raised:
            break
    assert outcomes == {
        (True, True),
        (True, False),
        (False, False),
    }  # only the folder's own sync fails after the rename


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_atomically(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == b"".join(NEW)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX modes")
def test_a_new_file_has_the_umasks_mode_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o026)
    try:
        write_atomically(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o604)
    write_atomically(tmp_path / "new", NEW)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    directory = tmp_path / "ein Ördner"
    directory.mkdir()
    write_atomically(directory / "ü ß.bin", [b"x"])
    assert (directory / "ü ß.bin").read_bytes() == b"x" and len(os.listdir(directory)) == 1


def test_a_folder_in_the_files_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "file", NEW)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_nobody_reads_yet_is_flushed_at_the_end_each_of_its_files_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within another such block, whose end does it; another thread flushes as ever; what fails flushes nothing."""
    flushed: list[int] = []

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "below").mkdir()
    with flushed_once(tmp_path):
        with flushed_once(tmp_path / "below"):
            write_atomically(tmp_path / "below" / "a", NEW)
        write_atomically(tmp_path / "b", NEW)
        sync_directory(tmp_path)
        assert not flushed
        thread = threading.Thread(target=lambda: write_atomically(tmp_path / "c", NEW))
        thread.start()
        thread.join()
        assert len(flushed) == 2  # it, and the folder
        flushed.clear()
    folders = [] if os.name == "nt" else [tmp_path, tmp_path / "below"]
    assert sorted(flushed) == sorted(
        path.stat().st_ino for path in [*folders, tmp_path / "b", tmp_path / "c", tmp_path / "below" / "a"]
    )
    flushed.clear()
    with pytest.raises(KeyError), flushed_once(tmp_path):
        raise KeyError
    assert not flushed
    write_atomically(tmp_path / "b", NEW)
    assert len(flushed) == (1 if os.name == "nt" else 2)
