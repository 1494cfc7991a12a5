"""Every file that is opened is closed, by the mode that it needs; digests, and whether a file can be written."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from npora.files import digest, lock, read_json, write_atomically
from npora.files.atomic import flushed_once
from npora.files.cache import cache_folder
from npora.files.digest import hash_of, sha256_of
from npora.files.journal import Journal
from npora.files.lock import Lock
from npora.files.picture import blank, check_picture, saved
from npora.files.regular import read_regular
from npora.files.writable import check_writable


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[str, int]]:
    """What os.open has opened and os.close not closed: name and flags by descriptor."""
    here: dict[int, tuple[str, int]] = {}
    close, opens = os.close, os.open

    def opening(path: Any, flags: int, *mode: int) -> int:
        here[found := opens(path, flags, *mode)] = (os.path.basename(path), flags)
        return found

    def closing(descriptor: int) -> None:
        here.pop(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "close", closing)
    return here


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX, where folders are opened and flushed")
def test_what_is_written_is_closed(tmp_path: Path, opened: dict[int, tuple[str, int]]) -> None:
    write_atomically(tmp_path / "a", [b"a"])
    journal = Journal(tmp_path / "log")
    journal.write("line")
    assert [name for name, _ in opened.values()] == ["log"]
    journal.close()
    journal.close()
    with Lock(tmp_path / "lock", "it"):
        assert [name for name, _ in opened.values()] == ["lock"]
        with pytest.raises(RuntimeError), Lock(tmp_path / "lock", "it"):
            pass
        assert len(opened) == 1
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path, 9)
    with pytest.raises(ValueError, match="has 1 bytes; at most 0 are read"):
        read_regular(tmp_path / "a", 0)
    assert not opened


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX, where folders are opened and flushed")
def test_a_journal_whose_folder_cannot_be_flushed_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: dict[int, tuple[str, int]]
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        Journal(tmp_path / "log")
    assert not opened


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX modes")
def test_a_file_is_flushed_by_who_only_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, opens = dict[str, int](), os.open

    def opening(path: Any, given: int, *mode: int) -> int:
        flags[os.path.basename(path)] = given
        return opens(path, given, *mode)

    with flushed_once(tmp_path):
        (tmp_path / "a").touch()
        monkeypatch.setattr(os, "open", opening)
    assert flags == {"a": os.O_RDONLY, tmp_path.name: os.O_RDONLY}


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX modes")
def test_a_journal_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o026)
    try:
        Journal(tmp_path / "log").close()
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"{}\n")
    status = os.fstat

    def earlier(descriptor: int) -> os.stat_result:
        found = list(status(descriptor))
        found[6] -= 1
        return os.stat_result(found)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", earlier)
        with pytest.raises(ValueError, match="a has grown beyond its 2 bytes while it was read"):
            read_json(tmp_path / "a")
    assert read_json(tmp_path / "a") == {}


def test_a_digest_is_of_a_whole_file_or_of_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "a").write_bytes(text := b"0123456789")
    for piece in (3, 1 << 20):
        monkeypatch.setattr(digest, "_PIECE", piece)
        assert sha256_of(path) == hashlib.sha256(text).hexdigest()
        for most in (0, 3, 7, 10):
            assert hash_of(path, most).digest() == hashlib.sha256(text[:most]).digest()
        with pytest.raises(ValueError, match="a has 2 bytes fewer than the 12 that were written to it"):
            hash_of(path, 12)


def test_whether_a_file_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    (tmp_path / "old").write_bytes(b"old")
    check_writable(tmp_path / "old")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"old")]
    with pytest.raises(OSError):
        check_writable(tmp_path / "nowhere" / "new")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX locks")
def test_who_holds_a_lock_is_left_alone_and_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lock._is_alive(str(os.getpid())) and lock._is_alive("nobody") and not lock._is_alive(str(2**22 + 1))
    with monkeypatch.context() as patch:
        sent: list[int] = []  # 0 asks and is no signal
        patch.setattr(lock.os, "kill", lambda pid, signal: sent.append(signal))
        assert lock._is_alive("1") and sent == [0]

    def without(descriptor: int, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", without)
    caplog.set_level(logging.WARNING, logger="npora")
    with Lock(tmp_path / "lock", "it"):
        assert "this file system has no locks" in caplog.text


def test_what_can_be_made_again_is_in_the_users_cache_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NPORA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache" / "npora"
    monkeypatch.setenv("XDG_CACHE_HOME", "of the user")
    assert cache_folder() == Path("of the user", "npora")
    monkeypatch.setenv("NPORA_CACHE", "of npora")
    assert cache_folder() == Path("of npora")


def test_a_picture_is_in_a_file_where_one_is_named(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    figure = blank(3, 2)
    assert saved(figure, None) is saved(figure, tmp_path / "a.png") is figure
    assert figure.get_size_inches().tolist() == [3, 2] and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"a picture's name ends in one of \..*; got '.*a\.txt'"):
        saved(figure, tmp_path / "a.txt")
    check_picture(tmp_path / "b.png")
    with pytest.raises(OSError):
        check_picture(tmp_path / "nowhere" / "a.png")  # before the work
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
