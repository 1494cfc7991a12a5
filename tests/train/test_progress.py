"""What is shown of a run that goes on, where standard error is no terminal, and the log that stays of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from npora import Trainer
from npora.cli import main
from npora.commands.countdown import Countdown
from npora.commands.messages import say
from npora.train import progress
from npora.train.callbacks import TrainerControl
from npora.train.progress import Progress
from npora.train.state import TrainerState
from tests.tiny import tiny_peft, tiny_rows
from tests.train.test_trainer import arguments

ROWS = tiny_rows(21)


class Clock:
    """Takes so many seconds from one look at it to the next."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.fixture
def at_the_pace_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def take(seconds: float) -> None:
        monkeypatch.setattr(progress, "time", Clock(seconds))

    return take


def test_a_training_shows_at_least_ten_lines_however_rarely_it_logs(tmp_path: Path, capsys: Any) -> None:
    Trainer(tiny_peft(), arguments(tmp_path, max_steps=41, logging_steps=500, disable_tqdm=None), ROWS).train()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/41" for n in (5, 10, 15, 20, 25, 30, 35, 40, 41)]
    assert all("loss" in line and "steps/s" in line and line.endswith("left") for line in lines)


def test_a_slow_training_is_never_silent_for_long(tmp_path: Path, capsys: Any, at_the_pace_of: Any) -> None:
    at_the_pace_of(6.0)
    Trainer(tiny_peft(), arguments(tmp_path, max_steps=40, disable_tqdm=None), ROWS).train()
    shown = [int(line.split()[1].split("/")[0]) for line in capsys.readouterr().err.splitlines()]
    assert max(later - earlier for earlier, later in zip([0, *shown], shown, strict=False)) <= 2


def test_a_rate_is_of_several(capsys: Any, at_the_pace_of: Any) -> None:
    at_the_pace_of(0.1)
    for unit, units in (("evaluation batch", "evaluation batches"), ("example", "examples")):
        progress.Progress(9, unit, every=3).step(3)
        assert f" {units}/s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.5, "4.00 steps/s  0:02 left"),
        (20.0, "0.10 steps/s  1:00 left"),
        (2000.0, "1000.0 s/step  1:40:00 left"),
        (0.0, "2000000000.00 steps/s  0:00 left"),
    ],
)
def test_a_line_has_the_step_the_loss_the_rate_and_the_time_left(
    capsys: Any, at_the_pace_of: Any, seconds: float, shown: str
) -> None:
    at_the_pace_of(seconds)
    shows = progress.Progress(9, "step", done=1, every=3)
    shows.step(3, 0.125)
    assert capsys.readouterr().err == f"step 3/9  loss 0.1250  {shown}\n"


def test_a_line_before_anything_is_done_and_of_a_number_that_nobody_knows(capsys: Any, at_the_pace_of: Any) -> None:
    at_the_pace_of(1.0)
    progress.Progress(9, "step", done=3, every=3).step(3)
    assert capsys.readouterr().err == "step 3/9  1000000000.0 s/step  1666666:40:00 left\n"
    progress.Progress(None, "step", every=3).step(6)
    assert capsys.readouterr().err == "step 6  6.00 steps/s\n"


def test_a_line_is_due_ten_seconds_after_the_last(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(progress, "time", clock)
    clock.now = 100.0
    shows = progress.Progress(None, "example")
    for now, shown in ((109.0, False), (110.0, True), (119.0, False), (120.0, True)):
        clock.now = now
        shows.step(int(now))
        assert bool(capsys.readouterr().err) is shown
    assert [progress._clock(seconds) for seconds in (59.4, 59.6, 3721.0)] == ["0:59", "1:00", "1:02:01"]


class Bar:
    def __init__(self) -> None:
        self.n, self.told = 4, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.told.append((name, *given, *named.values()))


def test_a_bar_is_told_what_lines_would_say(capsys: Any) -> None:
    shows = progress.Progress(9, "step", every=1)
    shows.bar = Bar()
    shows.step(7, 0.5)
    shows.message("measured")
    shows.close()
    said = [("set_postfix", "0.5000", False), ("update", 3), ("write", "measured", progress.sys.stderr), ("close",)]
    assert shows.bar.told == said and capsys.readouterr().err == ""
    progress.Progress(9, "step", every=1).message("measured")
    progress.Progress(9, "step", every=1, disable=True).message("nothing")
    assert capsys.readouterr().err == "measured\n"


class Loader:
    unit = "evaluation batch"

    def __len__(self) -> int:
        return 3


def test_each_evaluation_within_a_training_counts_its_own_batches(capsys: Any, at_the_pace_of: Any) -> None:
    at_the_pace_of(60.0)
    args: Any = arguments("nowhere", disable_tqdm=None)
    shows, state, control = progress.ProgressCallback(), TrainerState(max_steps=4), TrainerControl()
    shows.on_train_begin(args, state, control)
    for end in (shows.on_evaluate, shows.on_predict, lambda *given: shows.on_close(*given, error=None)):
        for _ in range(2):
            shows.on_prediction_step(args, state, control, eval_dataloader=Loader())
        said = capsys.readouterr().err
        assert said.startswith("evaluation batch 2/3  ") and said.count("\n") == 1
        if end != shows.on_predict:
            shows.on_evaluate_all(args, state, control, metrics={"eval_loss": 0.25, "eval_kind": "a", "eval_share": 1})
            assert capsys.readouterr().err == "eval_loss 0.25  eval_share 1\n"
        assert shows.measuring is not None
        shows.measuring.bar = bar = Bar()
        end(args, state, control)
        assert bar.told == [("close",)] and shows.measuring is None
    assert shows.training is None
    shows.on_evaluate_all(args, state, control, metrics={"eval_loss": 0.25})
    assert capsys.readouterr().err == ""


def test_an_evaluation_and_a_prediction_of_minutes_show_how_far_they_are(
    tmp_path: Path, capsys: Any, at_the_pace_of: Any
) -> None:
    trainer = Trainer(tiny_peft(), arguments(tmp_path, per_device_eval_batch_size=1, disable_tqdm=None), None, ROWS)
    trainer.evaluate()
    assert capsys.readouterr().err == ""  # over in a moment
    at_the_pace_of(5.0)
    trainer.evaluate()
    trainer.predict(ROWS)
    lines = capsys.readouterr().err.splitlines()
    assert {line.split()[0] for line in lines} == {"evaluation", "prediction"}
    assert all("/21" in line and "left" in line for line in lines) and len(lines) >= 10


def test_disabled_nothing_is_shown(tmp_path: Path, capsys: Any, at_the_pace_of: Any) -> None:
    at_the_pace_of(60.0)
    trainer = Trainer(tiny_peft(), arguments(tmp_path, max_steps=3, eval_strategy="steps", eval_steps=1), ROWS, ROWS)
    trainer.train()
    assert capsys.readouterr().err == ""


def test_a_bar_counts_what_is_done_and_not_how_often_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="needs the extra `progress`")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        shown = progress.Progress(9000, "example", done=10)
    for done in (11, 4096, 8192):
        shown.step(done)
        assert shown.bar.n == done
    shown.close()


class Gone:
    """Standard error that nobody reads any more."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal, self.tried = is_terminal, 0

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> None:
        self.tried += 1
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_training_goes_on_where_nobody_reads_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    gone = Gone(is_terminal)
    monkeypatch.setattr(sys, "stderr", gone)
    args = arguments(tmp_path, max_steps=4, logging_steps=1, disable_tqdm=False, eval_strategy="steps", eval_steps=2)
    assert Trainer(tiny_peft(), args, ROWS, ROWS[:3]).train().global_step == 4
    assert gone.tried if is_terminal else gone.tried == 1
    say("nothing")
    assert main(["plot", str(tmp_path / "none")]) == 2
    monkeypatch.setattr(sys, "stderr", None)
    capsys.readouterr()
    shown = Progress(3, every=1)
    shown.step(1)
    say("nothing")
    Countdown(1).step("nothing", "at all")
    assert shown.bar is None and not capsys.readouterr().out


def test_a_bar_is_closed_when_the_run_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="needs the extra `progress`")
    made: list[Any] = []

    class Watched(progress.Progress):
        def __init__(self, *given: Any, **named: Any) -> None:
            with monkeypatch.context() as patch:
                patch.setattr("sys.stderr.isatty", lambda: True, raising=False)
                super().__init__(*given, **named)
            made.append(self.bar)

    monkeypatch.setattr("npora.train.progress.Progress", Watched)
    with pytest.raises(FloatingPointError):
        Trainer(
            tiny_peft(), arguments(tmp_path, learning_rate=1e38, max_grad_norm=0.0, disable_tqdm=None), ROWS
        ).train()
    assert made[0] is not None and made[0].disable  # as tqdm marks a bar that is closed


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_the_log_has_the_seconds_of_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.25)
    clock.now = 9.0
    monkeypatch.setattr("npora.train.log.time", clock)
    Trainer(tiny_peft(), arguments(tmp_path, max_steps=2), ROWS).train()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [0.25, 0.25]


def test_a_second_run_in_one_folder_has_a_log_of_its_own_and_keeps_the_first(tmp_path: Path) -> None:
    for count in (5, 3, 2):
        Trainer(tiny_peft(), arguments(tmp_path, max_steps=count), ROWS).train()
    assert steps(tmp_path / "log.jsonl") == [1, 2]
    assert steps(tmp_path / "log-1.jsonl") == [1, 2, 3, 4, 5] and steps(tmp_path / "log-2.jsonl") == [1, 2, 3]


def test_a_resumed_run_goes_on_with_the_log_of_the_run_that_it_resumes(tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    changes = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4}
    Trainer(tiny_peft(), arguments(first, **changes), ROWS).train()
    whole = [{**json.loads(line), "seconds": 0} for line in (first / "log.jsonl").read_text().splitlines()]
    Trainer(tiny_peft(), arguments(other, max_steps=5, seed=7), ROWS).train()
    for folder in (first, other):
        Trainer(tiny_peft(), arguments(folder, **changes), ROWS).train(first / "checkpoint-4")
        found = [{**json.loads(line), "seconds": 0} for line in (folder / "log.jsonl").read_text().splitlines()]
        assert found == whole
    assert steps(other / "log-1.jsonl") == [1, 2, 3, 4, 5] and not (first / "log-1.jsonl").exists()
