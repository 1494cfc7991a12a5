"""A run that the system ends wherever it is, and one whose disk fails at any call, goes on as the unbroken one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npora.train.folder import checkpoints
from npora.train.manifest import verified
from tests.train.test_state import steps, trainer
from tests.train.test_trainer import values

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.long)])
def test_a_run_that_is_killed_again_and_again_ends_as_the_unbroken_one(kills: int) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.kills", str(kills)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0 and "each ended as the unbroken one" in done.stdout, done.stderr


class Disk:
    """Fails at the n-th of all calls that change it, once, or from there on."""

    NAMES = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, on: bool) -> None:
        self.at, self.on, self.calls = at, on, 0
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, function: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self.at or (self.on and number > self.at >= 0):
                raise OSError(28, "No space left on device")
            return function(*args, **keywords)

        return call


CHANGES: dict[str, Any] = {"max_steps": 5, "save_total_limit": 1, "logging_steps": 1}


def calls_of_a_run(path: Path) -> int:
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch, -1, False)
        trainer(path, **CHANGES).train()
        return disk.calls


@pytest.mark.parametrize("on", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_disk_that_fails_at_any_call_ends_a_run_that_goes_on_later(tmp_path: Path, each: int, on: bool) -> None:
    """With an error of the disk's own, and with checkpoints that are whole; in the longer test at each call in turn."""
    whole = trainer(tmp_path / "whole", **CHANGES)
    whole.train()
    number = calls_of_a_run(tmp_path / "counted")
    assert number > 60
    for at in range(0, number, each):
        path = tmp_path / str(at)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Disk(monkeypatch, at, on)
            try:
                trainer(path, **CHANGES).train()
            except OSError as error:
                assert "No space left" in str(error)
        for folder in checkpoints(str(path)):
            assert verified(folder)
        again = trainer(path, **CHANGES)
        again.train(resume_from_checkpoint=bool(checkpoints(str(path))))
        assert values(again.model) == values(whole.model)
        assert steps(path) == steps(tmp_path / "whole")
        assert again.state.log_history == whole.state.log_history
        assert not [name for name in os.listdir(path) if ".tmp-" in name]
