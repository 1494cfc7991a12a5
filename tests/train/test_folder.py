"""Several runs in one folder: each keeps to its own checkpoints and log, and one at a time trains there."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from npora import TrainerCallback
from npora.train.folder import checkpoints, last_checkpoint
from npora.train.runs import read_run
from tests.train.test_runs import trainer as watched
from tests.train.test_state import steps, stop_after, trainer
from tests.train.test_trainer import values
from tests.watched import Watched


def names(path: Path) -> list[str]:
    return [Path(found).name for found in checkpoints(str(path))]


def test_a_new_run_removes_its_own_checkpoints_alone_and_goes_on_from_them(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_steps=40, save_steps=20)
    first.train()
    stop_after(trainer(tmp_path, seed=1, save_total_limit=2), 8)
    assert names(tmp_path) == ["checkpoint-6", "checkpoint-8", "checkpoint-20", "checkpoint-40"]
    again = trainer(tmp_path, seed=1, save_total_limit=2)
    again.train(resume_from_checkpoint=True)
    whole = trainer(tmp_path / "whole", seed=1)
    whole.train()
    assert values(again.model) == values(whole.model) and steps(tmp_path) == steps(tmp_path / "whole")
    assert len((tmp_path / "log-1.jsonl").read_text().splitlines()) == 40
    one = trainer(tmp_path / "one", max_steps=40, save_steps=20)  # the first one's are what they were
    one.train(resume_from_checkpoint=tmp_path / "checkpoint-20")
    assert values(one.model) == values(first.model)


def test_a_run_that_has_no_checkpoint_yet_takes_no_others(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=4).train()
    stop_after(trainer(tmp_path, seed=1), 1)
    with pytest.raises(
        ValueError, match=r"no checkpoint to resume from in .*; name one of the other runs' there: .*-4"
    ):
        trainer(tmp_path, seed=1).train(resume_from_checkpoint=True)
    for content in ("", None):  # whose the folder is cannot be known: one run's checkpoints are
        (tmp_path / "run.json").unlink() if content is None else (tmp_path / "run.json").write_text(content)
        assert last_checkpoint(str(tmp_path)).endswith("checkpoint-4")
    stop_after(trainer(tmp_path, seed=1, save_steps=1), 1)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"name one of the other runs' there: .*checkpoint-1, .*checkpoint-4"):
        last_checkpoint(str(tmp_path))


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over_and_takes_no_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop_after(trainer(tmp_path), 6)
    os.rename(tmp_path / "checkpoint-6", tmp_path / "checkpoint-99")
    again = trainer(tmp_path, save_total_limit=1)
    again.train(resume_from_checkpoint=True)
    assert "checkpoint-99 is of step 6: give it back its name, checkpoint-6" in caplog.text
    assert names(tmp_path) == ["checkpoint-8", "checkpoint-99"]  # a limit of 1 is of those that have their names
    named = trainer(tmp_path / "more")
    named.train(resume_from_checkpoint=tmp_path / "checkpoint-99")
    assert values(named.model) == values(again.model)


def test_a_path_that_ends_in_a_slash_or_is_a_link_leads_to_the_run_and_its_logs(tmp_path: Path) -> None:
    stop_after(trainer(tmp_path / "run", logging_steps=1), 4)
    os.symlink(tmp_path / "run" / "checkpoint-4", tmp_path / "latest")
    for path in (f"{tmp_path / 'run' / 'checkpoint-4'}{os.sep}", tmp_path / "latest"):
        again = trainer(tmp_path / "run", logging_steps=1)
        again.train(resume_from_checkpoint=path)
        assert [entry["step"] for entry in again.state.log_history] == list(range(1, 10)) == [
            entry["step"] for entry in steps(tmp_path / "run")
        ]  # fmt: skip


def test_whose_a_folder_is_can_be_read_whatever_the_command_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a million files, one of whose names is no UTF-8."""
    monkeypatch.setattr("sys.argv", ["x" * 2_000_000, os.fsdecode(b"\xff")])
    stop_after(trainer(tmp_path), 2)
    trainer(tmp_path).train(resume_from_checkpoint=True)
    assert read_run(tmp_path).about["command"] == ["x" * 2_000_000, "\\udcff"] and not caplog.messages


def test_a_checkpoint_of_the_same_step_of_another_run_is_set_aside(tmp_path: Path, caplog: Any) -> None:
    first = trainer(tmp_path, max_steps=4, save_steps=4)
    first.train()
    trainer(tmp_path, max_steps=4, save_steps=4, seed=1).train()
    assert "checkpoint-4 is damaged, or of another run: it is set aside as" in caplog.text
    again = trainer(tmp_path / "again", max_steps=4)
    again.train(resume_from_checkpoint=tmp_path / "checkpoint-4.left-1")
    assert values(again.model) == values(first.model)


def test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside(tmp_path: Path) -> None:
    """Or what is resumed next would be another time than that of the log."""
    trainer(tmp_path).train()
    stop_after(_from(tmp_path, 4), 5)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)
    whole = trainer(tmp_path / "whole")
    whole.train()
    assert values(again.model) == values(whole.model) and steps(tmp_path) == steps(tmp_path / "whole")


def _from(path: Path, step: int) -> Any:
    run = trainer(path)
    train = run.train
    run.train = lambda: train(resume_from_checkpoint=path / f"checkpoint-{step}")  # type: ignore[method-assign]
    return run


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("best", [1, 2, 3, 6])
def test_the_best_and_the_newest_one_are_always_kept(tmp_path: Path, limit: int, best: int) -> None:
    scores = iter([1.0 if step == best else 0.5 / step for step in range(1, 7)])
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6,
               "load_best_model_at_end": True, "metric_for_best_model": "score", "save_total_limit": limit}  # fmt: skip
    run = watched(tmp_path, Watched(), compute_metrics=lambda pair: {"score": next(scores)}, **changes)
    run.train()
    kept = {best, 6}
    kept |= set([step for step in range(6, 0, -1) if step not in kept][: max(limit - len(kept), 0)])
    assert {int(name.rpartition("-")[2]) for name in names(tmp_path)} == kept


def test_one_run_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    """Of another thread or process; and a folder is free again however a run ended."""
    inside, over = threading.Event(), threading.Event()

    class Wait(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            inside.set()
            over.wait(60)

    first = trainer(tmp_path)
    first.add_callback(Wait)
    thread = threading.Thread(target=first.train)
    thread.start()
    assert inside.wait(60)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(RuntimeError, match=rf"{tmp_path.name} is in use by process {os.getpid()} on"):
        trainer(tmp_path).train()
    assert sorted(os.listdir(tmp_path)) == before and "run.lock" in before
    over.set()
    thread.join()
    assert "run.lock" not in os.listdir(tmp_path) and len(steps(tmp_path)) == 9
    trainer(tmp_path).train(resume_from_checkpoint=True)


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4.tmp-1234").mkdir()
    (tmp_path / "checkpoint-4.tmp-1234" / "file").write_text("half")
    (tmp_path / "run.lock").write_text("99999999 here 2020-01-01 00:00:00\n")
    trainer(tmp_path, max_steps=1).train()
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "log_history.jsonl", "run.json"]


def test_a_best_one_that_was_saved_elsewhere_is_found_when_a_run_goes_on_in_another_folder(tmp_path: Path) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 4,
               "load_best_model_at_end": True, "metric_for_best_model": "score"}  # fmt: skip
    values = []
    for path, start in ((tmp_path / "first", None), (tmp_path / "second", tmp_path / "first" / "checkpoint-3")):
        scores = iter([0.9, 0.1, 0.2, 0.3][3 if start else 0 :])
        model = Watched()
        run = watched(path, model, compute_metrics=lambda pair, scores=scores: {"score": next(scores)}, **changes)
        run.train(start)
        values.append({name: value.tobytes() for name, value in model.values().items()})
    assert values[0] == values[1] and json.loads((tmp_path / "second" / "run.json").read_text())
