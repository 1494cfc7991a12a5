"""A lock is held by one at a time, and ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from npora.files.lock import Lock

HOLD = """
import os, sys, time
from npora.files.lock import Lock
with Lock(sys.argv[1], "the folder"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print(os.getpid(), flush=True)
    elif sys.argv[2] == "hold":
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def holder(path: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process, pid = holder(path, "hold")
    with process:
        with pytest.raises(RuntimeError, match=rf"^the folder is in use by process {pid} on .*, since 20.*: wait"):
            Lock(path, "the folder").__enter__()
        process.kill()
    with Lock(path, "the folder"):
        assert path.read_text().startswith(f"{os.getpid()} ")
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows is not asked")
def test_a_process_of_another_user_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError

    with Lock(tmp_path / "lock", "the folder"), monkeypatch.context() as patch:
        patch.setattr(os, "kill", refused)
        with pytest.raises(RuntimeError, match=f"the folder is in use by process {os.getpid()} "):
            Lock(tmp_path / "lock", "the folder").__enter__()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_it_is_taken_over_from_the_children_of_a_process_that_is_gone(tmp_path: Path) -> None:
    process, child = holder(tmp_path / "lock", "fork")
    with process:
        process.kill()
    try:
        with Lock(tmp_path / "lock", "the folder"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_threads_of_one_process_hold_it_one_at_a_time(tmp_path: Path) -> None:
    inside, most, refused = [0], [0], [0]

    def work() -> None:
        for _ in range(200):
            try:
                with Lock(tmp_path / "lock", "the folder"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except RuntimeError:
                refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1 and refused[0] < 800 and not (tmp_path / "lock").exists()


def test_an_old_file_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1 elsewhere 2020-01-01 00:00:00\n")
    with Lock(tmp_path / "lock", "the folder"):
        pass
    with pytest.raises(ValueError), Lock(tmp_path / "lock", "the folder"):
        raise ValueError
    assert not (tmp_path / "lock").exists()
