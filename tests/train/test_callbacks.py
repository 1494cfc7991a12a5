"""Callbacks: when they are told, what they may ask for, and that a run ends cleanly whatever they do."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from npora import Trainer, TrainerCallback, TrainerControl, TrainingArguments
from npora.train import DefaultFlowCallback, ExportableState, ProgressCallback
from npora.train.callbacks import EVENTS
from npora.train.finite import FiniteCallback
from npora.train.history import HistoryCallback
from npora.train.log import StepLogCallback
from tests.watched import Watched, numbers, watched_rows

ROWS = watched_rows(10)  # 5 steps of an epoch


def trainer(path: Path, *callbacks: Any, **changes: Any) -> Trainer:
    defaults: dict[str, Any] = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 5, "max_steps": 7,
                                "save_strategy": "no", "disable_tqdm": True, "learning_rate": 0.05}  # fmt: skip
    keywords = {key: changes.pop(key) for key in list(changes) if not hasattr(TrainingArguments, key)}
    args = TrainingArguments(str(path), **{**defaults, **changes})
    model = keywords.pop("model", None) or Watched()
    return Trainer(model, args, ROWS, **{"eval_dataset": ROWS, "callbacks": list(callbacks), **keywords})


def callback(**events: Any) -> TrainerCallback:
    """One whose events are functions of (state, control, **kwargs)."""

    def method(function: Any) -> Any:
        return lambda self, args, state, control, **kwargs: function(state, control, **kwargs)

    return type("Callback", (TrainerCallback,), {name: method(function) for name, function in events.items()})()


def flag(name: str, *steps: int, at: str = "on_step_end") -> TrainerCallback:
    """Sets a flag at these steps."""

    def ask(state: Any, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step in steps:
            setattr(control, name, True)

    return callback(**{at: ask})


class Recorder(TrainerCallback):
    def __init__(self) -> None:
        self.told: list[str] = []


def _record(name: str) -> Any:
    def method(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.told.append(f"{name.removeprefix('on_')} {state.global_step}")

    return method


for _name in EVENTS:
    setattr(Recorder, _name, _record(_name))


def lines(path: Path) -> list[dict[str, Any]]:
    times = ("seconds", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    found = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in times} for line in found]


def test_events_come_in_their_order(tmp_path: Path) -> None:
    watch = Recorder()
    run = trainer(tmp_path, watch, max_steps=2, gradient_accumulation_steps=3, eval_strategy="steps", eval_steps=2,
                  logging_steps=1, save_strategy="epoch", eval_dataset={"a": ROWS, "b": ROWS[:3]})  # fmt: skip
    run.train()
    run.predict(ROWS[:2])
    assert watch.told == [
        "init_end 0", "train_begin 0", "epoch_begin 0",
        "step_begin 0", "substep_end 0", "substep_end 0", "pre_optimizer_step 0", "optimizer_step 0", "step_end 1",
        "log 1",
        "step_begin 1", "substep_end 1", "pre_optimizer_step 1", "optimizer_step 1", "step_end 2", "log 2",
        "prediction_step 2", "prediction_step 2", "log 2", "evaluate 2", "prediction_step 2", "log 2", "evaluate 2",
        "evaluate_all 2", "epoch_end 2", "save 2", "log 2", "train_end 2", "close 2", "prediction_step 2",
        "predict 2", "close 2",
    ]  # fmt: skip


def test_what_a_callback_asks_for_is_done_and_the_flags_are_taken_back(tmp_path: Path) -> None:
    """Flags that are set as an epoch begins are gone when its first step does."""
    flags: list[Any] = []
    names = ("should_log", "should_evaluate", "should_save")

    def see(state: Any, control: TrainerControl, **kwargs: Any) -> None:
        flags.append([name for name in names if getattr(control, name)])

    asked = [flag("should_log", 2), flag("should_evaluate", 3), flag("should_save", 4)]
    early = [flag(name, 0, 5, at="on_epoch_begin") for name in names]
    seeing = callback(on_step_begin=see, on_log=see, on_evaluate=see, on_save=see)
    run = trainer(tmp_path, *asked, *early, seeing, logging_strategy="no")
    run.train()
    history = run.state.log_history
    assert [entry["step"] for entry in history if "loss" in entry] == [2]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [3]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    # Of seven steps, a log, an evaluation and its log, a save and the last log; the second log is in the evaluation.
    assert flags == [[]] * 4 + [["should_evaluate"]] + [[]] * 7


def test_a_log_that_is_asked_for_twice_at_a_step_is_made_once(tmp_path: Path) -> None:
    again = callback(on_epoch_end=lambda state, control, **_: setattr(control, "should_log", True))
    run = trainer(tmp_path, again, logging_steps=5)
    run.train()
    assert [entry["step"] for entry in run.state.log_history] == [5, 7]  # 5 is an epoch's last step too


@pytest.mark.parametrize(
    ("at", "counted"),
    [("on_step_begin", 1), ("on_substep_end", 1), ("on_optimizer_step", 1), ("on_step_end", 2), ("on_evaluate", 2)],
)
def test_a_training_that_is_to_stop_stops_after_its_step(tmp_path: Path, at: str, counted: int) -> None:
    """Which is whole: all of its batches, and its update."""
    changes = {"gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    model, watch = Watched(), Recorder()
    result = trainer(tmp_path, flag("should_training_stop", counted, at=at), watch, model=model, **changes).train()
    assert result.global_step == 2 and len([call for call in model.calls if call.keep is not None]) == 4
    assert watch.told[-4:] == ["epoch_end 2", "log 2", "train_end 2", "close 2"]
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [1, 2]


def test_a_training_that_is_to_stop_before_it_begins_takes_no_step(tmp_path: Path) -> None:
    result = trainer(tmp_path, flag("should_training_stop", 0, at="on_train_begin")).train()
    assert result.global_step == 0 and result.training_loss != result.training_loss


def test_an_epoch_that_is_to_stop_gives_way_to_the_next(tmp_path: Path) -> None:
    """Each epoch draws its examples by its number: the second one's are those of the second one in the whole run."""
    whole, cut = Watched(), Watched()
    trainer(tmp_path / "whole", model=whole, max_steps=-1, num_train_epochs=2).train()
    run = trainer(tmp_path / "cut", flag("should_epoch_stop", 2), model=cut, max_steps=-1, num_train_epochs=2)
    result = run.train()
    examples = [numbers(call) for call in whole.calls]
    assert [numbers(call) for call in cut.calls] == examples[:2] + examples[5:]
    assert result.global_step == 7 and run.state.max_steps == 10  # no third epoch makes up for it
    assert [line["epoch"] for line in lines(tmp_path / "cut")] == [0.2, 0.4, 1.2, 1.4, 1.6, 1.8, 2.0]


class Counter(TrainerCallback, ExportableState):
    """Counts epochs, and cuts the second one short."""

    def __init__(self, at: int = 6) -> None:
        self.at, self.epochs = at, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_epoch_stop = state.global_step == self.at

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs += 1

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        metrics["epochs"] = self.epochs

    def state(self) -> dict[str, Any]:
        return {"args": {"at": self.at}, "attributes": {"epochs": self.epochs}}


@pytest.mark.parametrize(("strategy", "saved"), [("steps", "steps"), ("epoch", "steps"), ("epoch", "epoch")])
def test_a_run_resumed_from_any_checkpoint_equals_the_unbroken_one_with_its_callbacks(
    tmp_path: Path, strategy: str, saved: str
) -> None:
    """Also where a checkpoint is of an epoch's last step, before its evaluation and log; and where an epoch is cut."""
    changes = {"max_steps": 13, "save_strategy": saved, "save_steps": 1,
               "eval_strategy": strategy, "eval_steps": 4, "logging_strategy": "epoch"}  # fmt: skip
    model, counter = Watched(), Counter()
    whole = trainer(tmp_path / "whole", counter, model=model, **changes)
    whole.train()
    assert counter.epochs == 3 and whole.state.global_step == 11
    for step in range(1, 12) if saved == "steps" else (5, 6, 11):
        again, resumed = Watched(), Counter()
        run = trainer(tmp_path / "whole", resumed, model=again, **changes)
        run.args.output_dir = str(tmp_path / f"from {step}")
        run.train(tmp_path / "whole" / f"checkpoint-{step}")
        assert lines(tmp_path / f"from {step}") == lines(tmp_path / "whole")
        assert timeless(run.state.log_history) == timeless(whole.state.log_history)
        assert run.state.place == whole.state.place and run.state.epoch == whole.state.epoch
        assert resumed.epochs == counter.epochs
        assert all(again.values()[name].tobytes() == value.tobytes() for name, value in model.values().items())


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if "runtime" not in k and "per_second" not in k} for entry in history]


def test_a_training_that_a_callback_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """As one that stops after some hours, and is resumed the next day."""
    whole, parts = Watched(), Watched()
    trainer(tmp_path / "whole", model=whole).train()
    stop, save = flag("should_training_stop", 2), flag("should_save", 2)
    trainer(tmp_path / "parts", stop, save, model=parts).train()
    trainer(tmp_path / "parts", model=parts).train(resume_from_checkpoint=True)
    assert all(parts.values()[name].tobytes() == value.tobytes() for name, value in whole.values().items())
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_the_state_of_several_callbacks_of_a_class_is_each_ones_own(tmp_path: Path, caplog: Any) -> None:
    """And the arguments are those of the run that goes on."""
    first = [Counter(99), Counter(98)]
    first[1].epochs = 40
    with caplog.at_level(logging.ERROR):
        trainer(tmp_path, *first, flag("should_save", 6)).train()
        again = [Counter(97), Counter(96)]
        trainer(tmp_path, *again).train(resume_from_checkpoint=True)
    assert [(counter.epochs, counter.at) for counter in again] == [(2, 97), (42, 96)]
    trainer(tmp_path, Counter()).train(resume_from_checkpoint=tmp_path / "checkpoint-6")
    assert "the checkpoint has the state of 2 Counter, this run has 1" in caplog.text
    assert Counter.from_state(first[1].state()).epochs == 42


def test_events_are_given_what_a_training_is_made_of(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def step_end(state: Any, control: Any, **kwargs: Any) -> None:
        seen.update(kwargs, rates=kwargs["lr_scheduler"].get_last_lr())

    run = trainer(tmp_path, callback(on_step_end=step_end), max_steps=4, processing_class="a tokenizer",
                  eval_strategy="steps", eval_steps=2)  # fmt: skip
    run.train()
    assert seen["model"] is run.model and seen["processing_class"] == "a tokenizer"
    assert seen["rates"] == [pytest.approx(0.05 / 4)] * len(seen["optimizer"].param_groups)
    assert seen["step"].learning_rate == seen["rates"][0] and seen["step"].loss == lines(tmp_path)[-2]["loss"]
    assert len(seen["train_dataloader"]) == 5 and len(seen["eval_dataloader"]) == 2
    batches = list(seen["train_dataloader"])
    assert sorted(i for batch in batches for i in batch["input_ids"][:, 0] - 1) == list(range(10))
    assert [len(batch["labels"]) for batch in seen["eval_dataloader"]] == [5, 5]
    # Neither the optimiser's moments nor the last good values are held after the training.
    finite = next(each for each in run.callback_handler.callbacks if isinstance(each, FiniteCallback))
    assert run.callback_handler.given["optimizer"] is None and not finite.good and not finite.parameters


def test_a_control_that_is_returned_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    stop = callback(on_step_end=lambda state, control, **_: TrainerControl(should_training_stop=True))
    run = trainer(tmp_path, stop)
    assert run.train().global_step == 1 and run.control.should_training_stop
    wrong = callback(on_step_end=lambda state, control, **_: True)
    with pytest.raises(TypeError, match=r"Callback\.on_step_end must return its control, or nothing; got bool"):
        trainer(tmp_path, wrong).train()


def test_what_is_no_callback_is_refused_by_name(tmp_path: Path) -> None:
    class Foreign:
        pass

    for wrong, name in ((object(), r"builtins\.object"), (Foreign, "Foreign"), (Foreign(), "Foreign")):
        with pytest.raises(TypeError, match=f"npora's TrainerCallbacks, classes or instances; got .*{name}"):
            trainer(tmp_path, wrong)
        with pytest.raises(TypeError, match=f"npora's TrainerCallbacks, classes or instances; got .*{name}"):
            trainer(tmp_path).add_callback(wrong)
    for lone in (Recorder, Recorder()):
        with pytest.raises(TypeError, match=r"callbacks is a list of them: write callbacks=\[…\]"):
            trainer(tmp_path, callbacks=lone)
    with pytest.raises(TypeError, match=r"Typo\.on_steps_end would never be called: npora's events are on_close"):
        type("Typo", (TrainerCallback,), {"on_steps_end": lambda self: None})


def test_callbacks_are_added_and_taken_out_by_class_or_by_themselves(tmp_path: Path, caplog: Any) -> None:
    run = trainer(tmp_path, Recorder)
    kinds = [type(each) for each in run.callback_handler.callbacks]
    assert kinds[:2] == [HistoryCallback, DefaultFlowCallback] and kinds[-3:-1] == [Recorder, ProgressCallback]
    assert not caplog.records
    mine = Recorder()
    run.add_callback(mine)
    assert "there is a Recorder among the callbacks already" in caplog.text
    first = run.pop_callback(Recorder)
    assert isinstance(first, Recorder) and first is not mine and run.pop_callback(first) is None
    run.remove_callback(mine)
    with pytest.raises(ValueError, match=r"Recorder is none of the callbacks; there are: HistoryC.*Progress"):
        run.remove_callback(mine)
    run.remove_callback(Recorder)  # there is none, as was asked for
    assert run.pop_callback(Recorder) is None
    run.remove_callback(StepLogCallback)
    run.train()
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize("event", [name for name in EVENTS if name not in ("on_init_end", "on_close")])
def test_what_a_callback_raises_ends_the_run_cleanly(tmp_path: Path, event: str, caplog: Any) -> None:
    """Log and bar are closed, gradients and modes given back, and each callback is told, whatever the others do."""
    closed: list[Any] = []

    class Last(TrainerCallback):
        def on_close(self, args: Any, state: Any, control: Any, error: Any, **kwargs: Any) -> None:
            closed.append(error)

    class Stubborn(TrainerCallback):
        def on_close(self, args: Any, state: Any, control: Any, error: Any, **kwargs: Any) -> None:
            raise OSError("cannot be closed")

    def fail(state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyError("of the callback")

    model = Watched()
    changes = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
               "gradient_accumulation_steps": 2, "gradient_checkpointing": True, "disable_tqdm": False}  # fmt: skip
    run = trainer(tmp_path, callback(**{event: fail}), Stubborn, Last, model=model, **changes)
    with pytest.raises(KeyError, match="of the callback") as caught:
        run.predict(ROWS) if event == "on_predict" else run.train()
    if event != "on_predict":
        assert closed == [caught.value] and "cannot be closed" in caplog.text
    log = next(each for each in run.callback_handler.callbacks if isinstance(each, StepLogCallback))
    bar = next(each for each in run.callback_handler.callbacks if isinstance(each, ProgressCallback))
    assert log._journal is None and bar.training is None and bar.measuring is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.gradient_checkpointing and not run.is_in_train
    run.remove_callback(type(run.callback_handler.callbacks[6]))
    with pytest.raises(OSError, match="cannot be closed"):
        run.train()
    run.remove_callback(Stubborn)
    assert run.train().global_step == 7  # and can be trained again
