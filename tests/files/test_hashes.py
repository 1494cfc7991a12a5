"""A file of the hub's cache is checked once against its name there, whatever can be written beside it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from npora.files import hashes
from npora.files.hashes import check_hashes, is_snapshot

TEXT = b"weights"
GIT = hashlib.sha1(b"blob 7\0" + TEXT, usedforsecurity=False).hexdigest()


@pytest.fixture(params=[hashlib.sha256(TEXT).hexdigest(), GIT], ids=["large", "small"])
def snapshot(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of one file, `a`, that this process has not seen."""
    monkeypatch.setattr(hashes, "_seen", set())
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / request.param).write_bytes(TEXT)
    (tmp_path / "snapshots" / "commit").mkdir(parents=True)
    try:
        (tmp_path / "snapshots" / "commit" / "a").symlink_to(Path("../../blobs", request.param))
    except OSError:
        pytest.skip("needs the right to make symbolic links")
    return tmp_path / "snapshots" / "commit"


def checked(snapshot: Path, caplog: pytest.LogCaptureFixture) -> int:
    caplog.clear()
    with caplog.at_level(logging.INFO, "npora"):
        check_hashes(str(snapshot), ["a"])
    return len(caplog.records)


def test_that_a_file_was_checked_is_remembered_beside_the_blobs(
    snapshot: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snapshot / "snapshots" / "commit").mkdir(parents=True)
    assert not is_snapshot(str(snapshot / "snapshots" / "commit"))  # there are no blobs
    assert is_snapshot(str(snapshot)) and not is_snapshot(str(snapshot.parent)) and not is_snapshot(str(snapshot / "a"))
    assert checked(snapshot, caplog) == 1 and checked(snapshot, caplog) == 0
    (mark,) = (snapshot.parents[1] / ".npora-checked").iterdir()
    assert mark.name == (snapshot / "a").resolve().name
    monkeypatch.setattr(hashes, "_seen", set())  # another process
    assert checked(snapshot, caplog) == 0
    os.utime(snapshot / "a", (1, 1))
    assert checked(snapshot, caplog) == 1 and checked(snapshot, caplog) == 0
    mark.write_text("other")
    assert checked(snapshot, caplog) == 0  # this process knows


def test_a_cache_that_cannot_be_written_to_is_checked_once_by_each_process(
    snapshot: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snapshot.parents[1] / ".npora-checked").touch()
    assert checked(snapshot, caplog) == 1 and checked(snapshot, caplog) == 0
    monkeypatch.setattr(hashes, "_seen", set())
    assert checked(snapshot, caplog) == 1


def test_what_is_not_what_the_hub_gave_is_refused(snapshot: Path) -> None:
    (snapshot / "a").resolve().write_bytes(b"weighty")
    with pytest.raises(ValueError, match=r"a is not what the hub gave: its hash there was [0-9a-f]+, and here it is"):
        check_hashes(str(snapshot), ["a"])
