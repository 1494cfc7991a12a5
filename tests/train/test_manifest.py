"""A checkpoint notices whatever is changed in it, and is no larger at the end of a run than at its beginning."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npora import Trainer, TrainerCallback
from npora.train.folder import last_checkpoint
from npora.train.manifest import _check_parts, read_manifest, verified, write_manifest
from tests.tiny import tiny_peft
from tests.train.test_state import ROWS, stop_after, trainer
from tests.train.test_trainer import values

FILES = ("adapter_config.json", "adapter_model.safetensors", "trainer_state.json", "trainer_state.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    stop_after(trainer(path), 8)
    return path


@pytest.mark.parametrize("name", FILES)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_that_is_flipped_anywhere_is_noticed_and_the_older_one_is_taken(
    saved: Path, name: str, where: float, bit: int
) -> None:
    path = saved / "checkpoint-8" / name
    before = path.read_bytes()
    changed = bytearray(before)
    changed[int(where * len(before))] ^= 1 << bit
    try:
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=name):
            verified(saved / "checkpoint-8")
        assert last_checkpoint(str(saved)).endswith("checkpoint-6")
    finally:
        path.write_bytes(before)
    assert last_checkpoint(str(saved)).endswith("checkpoint-8")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["cut", "emptied", "removed"])
def test_a_file_that_is_not_whole_is_noticed(
    saved: Path, whole: Trainer, name: str, change: str, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint-8" / name
    if change == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if change == "cut" else b"")
    assert last_checkpoint(str(tmp_path / "copy")).endswith("checkpoint-6")
    again = trainer(tmp_path / "copy")
    with pytest.raises((ValueError, FileNotFoundError), match="checkpoint-8"):
        again.train(resume_from_checkpoint=path.parent)  # asked for by name it is not passed over
    again.train(resume_from_checkpoint=True)
    assert values(again.model) == values(whole.model)


def test_a_step_that_is_changed_by_hand_is_not_gone_on_from(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint-8" / "trainer_state.json"
    path.write_text(path.read_text().replace('"global_step": 8', '"global_step": 7'))
    with pytest.raises(ValueError, match=r"trainer_state\.json is not the file that was saved"):
        trainer(tmp_path / "copy").train(resume_from_checkpoint=path.parent)


def test_a_checkpoint_of_an_earlier_version_is_refused_with_the_way_on(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint-8" / "trainer_state.json"
    manifest = json.loads(path.read_text())
    old = {"state": manifest["state"], "run": manifest["run"]["arguments"], "optimizer": manifest["optimizer"],
           "sha256": manifest["files"]}  # fmt: skip
    path.write_text(json.dumps(old, indent=2, sort_keys=True))
    with pytest.raises(ValueError, match=r"earlier version of npora.*PeftModel\.from_pretrained"):
        trainer(tmp_path / "copy").train(resume_from_checkpoint=path.parent)
    path.write_text(json.dumps({**old, "state": {"log_history": [{"step": i} for i in range(99_999)]}}, indent=2))
    with pytest.raises(ValueError, match="earlier version of npora"):
        read_manifest(path.parent)
    for number, said in ((2, "earlier version of npora"), (4, "has the format 4; this version of npora reads 3")):
        path.unlink()
        monkeypatch.setattr("npora.train.manifest._FORMAT", number)
        write_manifest(str(path.parent), manifest)
        monkeypatch.undo()
        with pytest.raises(ValueError, match=said):
            read_manifest(path.parent)


class Bytes(TrainerCallback):
    """Counts what each save reads and writes, as the system has it, and how large its manifest is."""

    def __init__(self) -> None:
        self.before = (0, 0)
        self.saves: list[tuple[int, ...]] = []
        self.sizes: list[int] = []

    @staticmethod
    def now() -> tuple[int, int]:
        read, written, *_ = Path("/proc/self/io").read_text().split("\n")
        return int(read.split()[1]), int(written.split()[1])

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before = self.now()  # the log of a step comes right before its save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saves.append(tuple(now - then for now, then in zip(self.now(), self.before, strict=True)))
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "trainer_state.json"
        self.sizes.append(path.stat().st_size)


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs a system that counts bytes")
@pytest.mark.parametrize("steps", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_a_save_is_as_much_work_at_the_end_as_at_the_beginning(tmp_path: Path, steps: int) -> None:
    """Where each step is logged: only digits of numbers, and the end of an epoch, make a difference."""
    counted = Bytes()
    changes = {"max_steps": steps, "save_steps": 10, "save_total_limit": 2, "logging_steps": 1}
    run = trainer(tmp_path, **changes)
    run.add_callback(counted)
    run.train()
    assert len(counted.sizes) == steps // 10 and len(run.state.log_history) == steps
    assert max(counted.sizes) - min(counted.sizes) < 300
    settled = counted.saves[3:]  # the first ones find fewer checkpoints
    for which in (0, 1):
        numbers = [save[which] for save in settled]
        assert max(numbers) - min(numbers) < 2000 and min(numbers) > 10_000
    again = trainer(tmp_path, **{**changes, "max_steps": steps + 2, "lr_scheduler_type": "constant"})
    with pytest.raises(ValueError, match="lr_scheduler_type='linear', this one has 'constant'"):
        again.train(resume_from_checkpoint=True)
    again = trainer(tmp_path, **{**changes, "max_steps": steps + 2})
    again.train(resume_from_checkpoint=True)
    assert again.state.log_history[:steps] == run.state.log_history and again.state.global_step == steps + 2


def test_a_save_waits_for_the_disk_once_a_file_and_once_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four files of a checkpoint and its folder, then the one above it, whose names it changes, and both logs."""
    run = trainer(tmp_path, max_steps=4)
    flushes, counted = [0], list[int]()
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        flushes[0] += 1
        fsync(descriptor)

    class Count(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            flushes[0] = 0

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            counted.append(flushes[0])

    monkeypatch.setattr(os, "fsync", counting)
    run.add_callback(Count)
    run.train()
    assert counted == [len(FILES) + 1 + 1 + 2] * 2


def test_a_damaged_history_is_said_and_ends_nothing(saved: Path, tmp_path: Path, caplog: Any) -> None:
    shutil.copytree(saved, tmp_path / "copy")
    path = tmp_path / "copy" / "log_history.jsonl"
    trainer(tmp_path / "copy", logging_steps=2).train(resume_from_checkpoint=tmp_path / "copy" / "checkpoint-6")
    assert len(path.read_text().splitlines()) == 1
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    again = trainer(tmp_path / "copy", logging_steps=2)
    again.train(resume_from_checkpoint=True)
    assert "log_history.jsonl is not as it was written" in caplog.text and again.state.log_history == []


def test_a_save_that_is_read_back_as_another_removes_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that forgets what it was given."""
    run = Trainer(tiny_peft(), trainer(tmp_path, save_total_limit=1).args, ROWS)

    class Forget(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                monkeypatch.setattr("npora.train.checkpoints.save_file", lambda tensors, path: save(tensors, path))

    from npora.files import save_file

    def save(tensors: Any, path: str) -> None:
        save_file({name: array * 2 if array.ndim else array for name, array in tensors.items()}, path)

    run.add_callback(Forget)
    with pytest.raises(OSError, match="is read back as something else"):
        run.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2"]


FORGED: dict[str, tuple[str, Any]] = {
    "no run": ("run", None), "a list for a state": ("state", []), "no id": ("run.id", 3),
    "a file above it": ("files", {"../run.json": "0" * 64}), "a file elsewhere": ("files", {"/etc/passwd": "0" * 64}),
    "half a step": ("state.global_step", 2.5), "a step below none": ("state.global_step", -1),
    "an unknown word": ("state.colour", "red"), "another best": ("state.best_model_checkpoint", "../../home"),
    "an ending of another kind": ("state.ending", {"loss": "1"}), "callbacks of none": ("state.stateful_callbacks", []),
    "a rate that is a word": ("optimizer.param_groups", [{"lr": "fast"}] * 2),
    "an option of none": ("optimizer.param_groups", [{"colour": 1}] * 2), "no groups": ("optimizer.param_groups", 7),
    "a moment more": ("optimizer.numbers", {"0.steps": 3}), "a mark of none": ("state.stateful_callbacks", {
        "StepLogCallback": {"args": {}, "attributes": {"mark": {"bytes": -1, "sha256": ""}}}}),
    "a mark of half": ("state.stateful_callbacks", {
        "HistoryCallback": {"args": {}, "attributes": {"mark": {"bytes": 3}}}}),
    "no number of examples": ("run.data", {}), "an evaluation of none": ("state.unanswered", {"asked": {}}),
    "a state of none": ("state.stateful_callbacks", {"StepLogCallback": 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_signed_but_is_no_checkpoint_is_refused_by_its_name(name: str, saved: Path, tmp_path: Path) -> None:
    """Anyone can write a digest: what it covers is looked at too."""
    where, value = FORGED[name]
    folder = tmp_path / "checkpoint-8"
    shutil.copytree(saved / "checkpoint-8", folder)
    content = read_manifest(folder)
    *owners, last = where.split(".")
    place: Any = content
    for owner in owners:
        place = place[owner]
    place[last] = value
    (folder / "trainer_state.json").unlink()
    if where == "files":
        signed = {**content, "format": 3, "sha256": "0" * 64}
        text = json.dumps(signed, indent=2, sort_keys=True).encode()
        own = hashlib.sha256(text).hexdigest().encode()
        (folder / "trainer_state.json").write_bytes(text.replace(b'"sha256": "' + b"0" * 64, b'"sha256": "' + own, 1))
    else:
        write_manifest(str(folder), content)
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        trainer(tmp_path / "out").train(resume_from_checkpoint=folder)


@pytest.mark.parametrize("name", ["..\\run.json", "a/../run.json", "../run.json", "/run.json"])
def test_a_file_outside_of_the_checkpoint_is_none_of_it(name: str, saved: Path) -> None:
    content = {**read_manifest(saved / "checkpoint-8"), "files": {name: "0" * 64}}
    with pytest.raises(ValueError, match="is no file of a checkpoint, with its digest"):
        _check_parts(content, "path")
