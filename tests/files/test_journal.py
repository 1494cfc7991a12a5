"""A file of lines goes on from a mark, whatever was done to it since, and loses nothing that was before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npora.files.journal import Journal
from tests.files.test_atomic import Fault


def begun(path: Path, *written: str) -> dict[str, Any]:
    journal = Journal(path)
    for line in written:
        journal.write(line)
    mark = journal.mark()
    journal.write("later")
    journal.close()
    return mark


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"))), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_goes_on_from_a_mark_in_its_own_file_and_in_another(tmp_path: Path, written: list[str], same: bool) -> None:
    path, other = tmp_path / "a.jsonl", tmp_path / ("a.jsonl" if same else "b.jsonl")
    for file in tmp_path.iterdir():
        file.unlink()
    mark = begun(path, *written)
    journal = Journal.resume(other, path, mark)
    journal.write("again")
    again = journal.mark()
    journal.close()
    content = other.read_bytes()
    assert content == "".join(f"{line}\n" for line in [*written, "again"]).encode()
    assert again == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("change", "kept", "said"),
    [
        (lambda text: b"\xff" + text[1:], b"\xffne\ntwo\n", "is not as it was written"),
        (lambda text: text[:5], b"one\nt\n", "3 bytes fewer than the 8"),
        (lambda text: None, b"", "there is no"),
    ],
    ids=["changed", "cut", "gone"],
)
def test_what_was_done_to_it_is_said_and_ends_nothing(
    tmp_path: Path, change: Any, kept: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    mark = begun(path, "one", "two")
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    journal = Journal.resume(path, path, mark)
    assert said in caplog.text
    caplog.clear()
    journal.write("three")
    again = journal.mark()
    journal.close()
    assert path.read_bytes() == kept + b"three\n"
    Journal.resume(path, path, again).close()
    assert not caplog.records  # it is said once


def test_another_runs_file_is_set_aside(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        begun(tmp_path / "log.jsonl", text)
    names = {"log-1.jsonl": "first", "log-2.jsonl": "second", "log.jsonl": "third"}
    assert {path.name: path.read_text().split()[0] for path in tmp_path.iterdir()} == names


def test_what_is_in_the_place_of_a_resumed_file_is_set_aside(tmp_path: Path) -> None:
    mark = begun(tmp_path / "a.jsonl", "one")
    (tmp_path / "b.jsonl").write_text("another run's\n")
    Journal.resume(tmp_path / "b.jsonl", tmp_path / "a.jsonl", mark).close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.jsonl": "one\nlater\n", "b.jsonl": "one\n", "b-1.jsonl": "another run's\n"}


def test_a_fault_at_any_call_of_a_resume_loses_no_line(tmp_path: Path) -> None:
    """Be it the disk or a kill."""
    path, kept = tmp_path / "log.jsonl", b"one\ntwo\n"
    mark = begun(path, "one", "two")
    for at in range(20):
        with pytest.MonkeyPatch.context() as monkeypatch:
            fault = Fault(monkeypatch, at, OSError(5, "Input/output error"))
            try:
                Journal.resume(path, path, mark).close()
            except OSError as caught:
                assert caught is fault.error
        assert path.read_bytes().startswith(kept)
        if not fault.raised:
            break
    assert at > 1 and path.read_bytes() == kept


@pytest.mark.parametrize("marked", [True, False])
def test_what_a_failed_write_has_left_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: bool) -> None:
    journal, write = Journal(tmp_path / "log.jsonl"), os.write

    def half(descriptor: int, data: Any) -> int:
        if len(data) > 3:
            return write(descriptor, data[:3])
        raise OSError(28, "No space left on device")

    journal.write("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            journal.write("three")
    if marked:
        assert journal.mark()["bytes"] == 4 and (tmp_path / "log.jsonl").read_text() == "one\n"
    journal.write("two")
    journal.close()
    assert (tmp_path / "log.jsonl").read_text() == "one\ntwo\n"


def test_a_mark_is_of_what_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    journal = Journal(tmp_path / "log.jsonl")
    journal.write("one")
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    journal.mark()
    journal.close()
    assert flushed == [(tmp_path / "log.jsonl").stat().st_ino]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are pipes with names on Unix alone")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    mark = begun(tmp_path / "log.jsonl", "one")
    os.unlink(tmp_path / "log.jsonl")
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match=r"log\.jsonl is a pipe, a socket or a device"):
        Journal.resume(tmp_path / "log.jsonl", tmp_path / "log.jsonl", mark)
