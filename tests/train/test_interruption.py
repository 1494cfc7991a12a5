"""Ctrl-C and SIGTERM lose nothing: the step is finished and saved, and the run goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from npora import EarlyStoppingCallback, Trainer, TrainerCallback
from npora.commands.finetune import _saying_how_to_go_on
from npora.train.interruption import Interrupted, InterruptionCallback, Terminated
from tests.test_cli_tasks import sentences, table
from tests.tiny_folders import save_folder
from tests.train.test_callbacks import EVENTS, ROWS, callback, flag, lines, timeless, trainer
from tests.watched import Watched

SAVING = {"save_strategy": "steps", "save_steps": 100, "max_steps": 7, "eval_strategy": "epoch", "logging_steps": 2}


def at(event: str, step: int, *numbers: int) -> TrainerCallback:
    """Sends signals at the first such event of a step."""
    left = list(numbers)

    def send(state: Any, control: Any, **kwargs: Any) -> None:
        while left and state.global_step == step:
            signal.raise_signal(left.pop(0))

    return callback(**{event: send})


WHEN = [
    *((event, step) for step in (0, 3, 4, 5) for event in ("on_step_begin", "on_substep_end", "on_optimizer_step")),
    *(("on_step_end", step) for step in (1, 3, 4, 5, 7)), ("on_train_begin", 0), ("on_epoch_begin", 5), ("on_log", 2),
    ("on_prediction_step", 5), ("on_prediction_step", 7), ("on_evaluate", 5), ("on_epoch_end", 5), ("on_epoch_end", 7),
]  # fmt: skip


def accumulating(halves: bool) -> dict[str, Any]:
    return {
        **SAVING,
        "gradient_accumulation_steps": 1 + halves,
        **({"per_device_train_batch_size": 1} if halves else {}),
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], tuple[Trainer, Watched]]:
    """A run that nothing interrupts, of whole batches or of halves."""

    @cache
    def ran(halves: bool) -> tuple[Trainer, Watched]:
        model = Watched()
        run = trainer(tmp_path_factory.mktemp("unbroken"), model=model, **accumulating(halves))
        run.train()
        return run, model

    return ran


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("event", "step"), WHEN)
def test_it_goes_on_as_if_nothing_had_been(
    tmp_path: Path, unbroken: Callable[[bool], Any], event: str, step: int, number: signal.Signals
) -> None:
    """Whenever the signal comes, and whatever was still to be done at that step: the log is the same too."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    halves = event == "on_substep_end"
    (whole, values), parts, changes = unbroken(halves), Watched(), accumulating(halves)
    first = trainer(tmp_path / "parts", at(event, step, number), **changes)
    with pytest.raises(Interrupted if number == signal.SIGINT else Terminated) as stop:
        first.train()
    assert stop.value.saved == str(tmp_path / "parts" / f"checkpoint-{first.state.global_step}")
    assert number == signal.SIGINT or stop.value.code == 143
    assert first.state.global_step <= step + 1
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    second = trainer(tmp_path / "parts", model=parts, **changes)
    second.train(resume_from_checkpoint=True)
    assert all(parts.values()[name].tobytes() == value.tobytes() for name, value in values.values().items())
    assert lines(tmp_path / "parts") == lines(Path(whole.args.output_dir))
    assert timeless(second.state.log_history) == timeless(whole.state.log_history)
    assert event in EVENTS


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(("step", "asked"), [(2, "should_save"), (2, "should_epoch_stop"), (4, "should_training_stop"),
                                             (5, "should_save"), (7, "should_save")])  # fmt: skip
def test_an_evaluation_is_broken_off_after_a_batch_and_the_run_begins_with_it(
    tmp_path: Path, step: int, asked: str, batch: int
) -> None:
    """Of two datasets with two batches each: what the first had is kept, and what was asked for is still done."""
    strategy = {"eval_strategy": "epoch"} if step == 5 else {"eval_strategy": "steps", "eval_steps": step}
    changes = {**SAVING, **strategy, "eval_dataset": {"a": ROWS, "b": ROWS[3:]}, "metric_for_best_model": "b_loss"}

    def run(path: Path, *more: TrainerCallback) -> Any:
        asking = [flag(asked, step), EarlyStoppingCallback(99)]
        return trainer(path, *asking, *more, model=Watched(), **changes)

    unbroken = run(tmp_path / "whole")
    unbroken.train()
    left = [batch]

    def send(state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)

    path = tmp_path / "parts"
    first = run(path, callback(on_prediction_step=send))
    with pytest.raises(Interrupted) as stop:
        first.train()
    assert left == [0] and stop.value.saved == str(path / f"checkpoint-{step}")
    second = run(path)
    second.train(resume_from_checkpoint=True)
    assert timeless(second.state.log_history) == timeless(unbroken.state.log_history)
    assert replace(second.state, log_history=[]) == replace(unbroken.state, log_history=[])
    for name, value in unbroken.model.values().items():
        assert second.model.values()[name].tobytes() == value.tobytes()
    assert timeless(lines(path)) == timeless(lines(tmp_path / "whole"))
    counted = [len([call for call in each.model.calls if call.keep is None]) for each in (unbroken, first, second)]
    assert counted[1] + counted[2] - counted[0] == {1: 1, 2: 2, 3: 1}[batch]  # measured again


def test_a_run_that_evaluates_no_more_goes_on_from_a_broken_off_evaluation(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trainer(tmp_path, at("on_prediction_step", 5, signal.SIGINT), model=Watched(), **SAVING).train()
    again = trainer(tmp_path, model=Watched(), eval_dataset=None, **{**SAVING, "eval_strategy": "no"})
    assert again.train(resume_from_checkpoint=True).global_step == 7
    assert not [entry for entry in again.state.log_history if "eval_loss" in entry]


def test_an_evaluation_before_the_first_step_is_ended_at_once(tmp_path: Path) -> None:
    model = Watched()
    run = trainer(
        tmp_path, at("on_prediction_step", 0, signal.SIGINT), model=model, **{**SAVING, "eval_on_start": True}
    )
    with pytest.raises(Interrupted, match="before the first step, when there was nothing to save") as stop:
        run.train()
    assert stop.value.saved is None and not list(tmp_path.glob("checkpoint-*"))
    assert len(model.calls) == 1


def test_where_nothing_was_saved_the_command_line_says_how_to_begin_anew(tmp_path: Path, capsys: Any) -> None:
    options = Namespace(output=str(tmp_path), arguments=["finetune", "--resume"])
    for end in ("nothing was saved. To begin anew: npora finetune --overwrite", "checkpoint: npora finetune --resume"):
        with pytest.raises(Interrupted), _saying_how_to_go_on(options):
            raise Interrupted
        assert capsys.readouterr().err.rstrip().endswith(end)
        (tmp_path / "checkpoint-3").mkdir(exist_ok=True)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    model = Watched()
    run = trainer(tmp_path, at("on_step_begin", 3, signal.SIGINT, signal.SIGINT), model=model, **SAVING)
    with pytest.raises(Interrupted, match="at once: nothing was saved since") as stop:
        run.train()
    assert len([call for call in model.calls if call.keep is not None]) == 3 and stop.value.saved is None
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs a system that has terminals")
def test_the_end_of_the_terminal_is_a_signal_too_however_often_it_is_told(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(Terminated) as stop:
        trainer(tmp_path, at("on_step_begin", 3, signal.SIGHUP, signal.SIGHUP), **SAVING).train()
    assert stop.value.code == 129 and stop.value.saved == str(tmp_path / "checkpoint-4")
    assert signal.getsignal(signal.SIGHUP) is before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        run = trainer(tmp_path / "nohup", at("on_step_begin", 3, signal.SIGHUP), **SAVING)
        assert run.train().global_step == 7
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("has_stderr", [True, False])
def test_a_signal_is_heard_where_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch, has_stderr: bool) -> None:
    """The terminal is gone, or there never was one: then 2 is whichever file was opened first."""
    written: list[int] = []

    def write(number: int, text: bytes) -> None:
        written.append(number)
        raise OSError(5, "Input/output error")

    listening = InterruptionCallback()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(sys, "__stderr__", sys.__stderr__ if has_stderr else None)
        listening._come(signal.SIGTERM, None)
    assert listening.signal == signal.SIGTERM and written == [2] * has_stderr


def test_a_training_that_saves_nothing_is_stopped_as_ever(tmp_path: Path) -> None:
    run = trainer(tmp_path, at("on_step_begin", 3, signal.SIGINT), **{**SAVING, "save_strategy": "no"})
    with pytest.raises(KeyboardInterrupt) as stop:
        run.train()
    assert not isinstance(stop.value, Interrupted) and run.state.global_step == 3


def test_a_program_with_a_handler_of_its_own_keeps_it(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        assert trainer(tmp_path, at("on_step_begin", 3, signal.SIGTERM), **SAVING).train().global_step == 7
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_another_thread_trains_without_handlers(tmp_path: Path) -> None:
    found: list[Any] = []
    see = callback(on_step_begin=lambda state, control, **_: found.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=trainer(tmp_path, see, **SAVING).train)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler] * 7


def test_a_signal_after_the_last_step_is_the_programs(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer(tmp_path, at("on_train_end", 7, signal.SIGINT), **SAVING).train()
    assert not isinstance(stop.value, Interrupted)


def test_a_checkpoint_is_saved_after_so_many_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_a_minute(state: Any, control: Any, **kwargs: Any) -> None:
        now[0] += 60

    run = trainer(tmp_path, callback(on_step_begin=pass_a_minute), **{**SAVING, "save_steps": 4}, save_minutes=2)
    run.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in (2, 4, 6)}
    for changes, said in (({"save_minutes": -1}, "0 or more"), ({"save_strategy": "no"}, "needs a save_strategy")):
        with pytest.raises(ValueError, match=f"save_minutes .*{said}"):
            trainer(tmp_path, **{**SAVING, "save_minutes": 2, **changes})


def test_a_signal_says_what_comes_of_it(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    InterruptionCallback()._come(signal.SIGINT, None)
    listening = InterruptionCallback()
    with listening.breaking_off():
        listening._come(signal.SIGTERM, None)
    step, evaluation = "this step is finished", "the evaluation is broken off"
    assert capfd.readouterr().err == "".join(
        f"\ninterrupted: {what}, and then saved; once more stops at once\n" for what in (step, evaluation)
    )
    with pytest.raises(Terminated):
        listening._come(signal.SIGTERM, None)
    assert caplog.messages == ["interrupted at once: nothing was saved since the last checkpoint"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification")
    train = table(tmp_path / "train.tsv", sentences(0, 1))
    command = ["finetune", "--model", model, "--train", train, "--output", str(tmp_path / "out out"),
               "--max-steps", "100000", "--batch-size", "2", "--overwrite"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "npora", *command], text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as running:
        log = tmp_path / "out out" / "log.jsonl"
        while not (log.exists() and log.stat().st_size) and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(number)
        _, errors = running.communicate()
    assert running.returncode == code, errors
    assert "this step is finished, and then saved; once more stops at once" in errors and "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("npora: interrupted; ") and "is saved. To go on from the newest checkpoint: npora " in last
    assert "--overwrite" not in last and last.endswith("--resume") and "'" in last
    saved = [path.name for path in (tmp_path / "out out").glob("checkpoint-*")]
    assert len(saved) in (1, 2) and not (tmp_path / "out out" / "run.lock").exists()
    step = max(int(name.rpartition("-")[2]) for name in saved)
    more = [*command[:-1], "--resume", "--max-steps", str(step + 2)]
    again = subprocess.run([sys.executable, "-m", "npora", *more], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(log.read_text().splitlines()) == step + 2 and os.path.isdir(tmp_path / "out out" / "adapter")
