"""Callbacks hear of the same events as transformers' do, in the same order, with the same flags set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import npora
from npora.train.callbacks import EVENTS
from tests.watched import Watched

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
torch = pytest.importorskip("torch", reason="needs the extra `parity`")

SHARED = [name for name in EVENTS if name not in ("on_evaluate_all", "on_close")]
SAID = {"loss", "eval_loss", "eval_score", "train_loss"}
FLAGS = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")
ROWS = [{"input_ids": [1 + i % 7, 2, 3 + i % 5], "labels": i % 4} for i in range(10)]
SCORES = [3.0, 5.0, 4.0, 5.0, 5.5, 5.5, 1.0, 5.6, 2.0, 9.0] * 2
STEPS = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 4,
         "logging_steps": 2}  # fmt: skip
EPOCHS = {"num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"}
SCORE = {"metric_for_best_model": "score", "greater_is_better": True}
# Batches of 2 rows: an epoch has 5 of them.
CASES: dict[str, dict[str, Any]] = {
    "steps": STEPS,
    "epochs": EPOCHS,
    "no": {"num_train_epochs": 2, "eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no"},
    "epochs with a rest": {**EPOCHS, "num_train_epochs": 1.5, "logging_first_step": True},
    "saved before the epoch's evaluation": {**EPOCHS, "save_strategy": "steps", "save_steps": 5},
    "logged by steps, evaluated by epochs": {**EPOCHS, "logging_strategy": "steps", "logging_steps": 5},
    "accumulated": {**STEPS, "gradient_accumulation_steps": 2},
    "accumulated epochs": {**EPOCHS, "gradient_accumulation_steps": 3},
    "accumulated in one step": {**EPOCHS, "gradient_accumulation_steps": 9, "logging_first_step": True},
    "evaluated before": {**STEPS, "eval_on_start": True, "eval_delay": 5},
    "shares": {**STEPS, "eval_steps": 0.25, "save_steps": 0.5, "logging_steps": 0.1},
    "several datasets": {**EPOCHS, "eval_dataset": {"a": ROWS[:3], "b": ROWS}},
    "best": {**STEPS, **SCORE, "save_strategy": "best", "load_best_model_at_end": True},
    "stopped early": {**STEPS, **SCORE, "eval_steps": 1, "save_steps": 1, "early": (1,)},
    "stopped early, and the best": {**EPOCHS, **SCORE, "num_train_epochs": 4, "load_best_model_at_end": True,
                                    "early": (1,)},
    "stopped early by epochs": {**EPOCHS, **SCORE, "num_train_epochs": 9, "early": (2, 0.7)},
    "stopped early by a loss": {**STEPS, "metric_for_best_model": "score", "greater_is_better": False, "early": (2,)},
    "stopped": {**STEPS, "set": {("on_step_end", 3): "should_training_stop"}},
    "stopped in a step": {**EPOCHS, "set": {("on_optimizer_step", 6): "should_training_stop"}},
    "stopped by an evaluation": {**STEPS, "set": {("on_evaluate", 4): "should_training_stop"}},
    "stopped by a log": {**STEPS, "set": {("on_log", 2): "should_training_stop"}},
    "stopped at an epoch's end": {**EPOCHS, "set": {("on_epoch_end", 5): "should_training_stop"}},
    "an epoch is stopped": {**EPOCHS, "set": {
        ("on_step_end", 3): "should_epoch_stop", ("on_optimizer_step", 8): "should_epoch_stop"}},
    "asked for": {"num_train_epochs": 2, "save_strategy": "no", "logging_strategy": "no", "set": {
        ("on_step_end", 2): "should_log", ("on_step_end", 3): "should_evaluate", ("on_step_end", 4): "should_save",
        ("on_epoch_end", 5): "should_log", ("on_step_begin", 6): "should_log", ("on_log", 7): "should_save",
        ("on_optimizer_step", 8): "should_evaluate", ("on_train_end", 10): "should_save",
        ("on_epoch_begin", 0): "should_evaluate", ("on_train_begin", 0): "should_save"}},
    "asked for twice": {**STEPS, "logging_steps": 5, "set": {
        ("on_epoch_end", 5): "should_log", ("on_step_end", 8): "should_log", ("on_epoch_end", 8): "should_save"}},
}  # fmt: skip


class Tiny(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = torch.nn.Embedding(11, 3), torch.nn.Linear(3, 4)

    def forward(self, input_ids: Any, labels: Any = None) -> Any:
        logits = self.head(self.table(input_ids).mean(1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def recorder(base: type, asked: dict[tuple[str, int], str], told: list[Any]) -> Any:
    """A callback of either library that notes each event with the flags that are set, and sets what is asked for."""

    def method(event: str) -> Any:
        def hear(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            before = [name for name in FLAGS if getattr(control, name)]
            if (event, state.global_step) in asked:
                setattr(control, asked[event, state.global_step], True)
            said = sorted(SAID & {*kwargs.get("logs", ()), *kwargs.get("metrics", ())})
            loader = "eval_dataloader" if event == "on_prediction_step" else "train_dataloader"
            size = len(kwargs[loader]) if event.endswith("step") or event.startswith("on_epoch") else None
            told.append((event, state.global_step, before, said, size, state.best_metric, state.max_steps))

        return hear

    return type("Recorder", (base,), {event: method(event) for event in SHARED})


def run(library: Any, path: Path, **changes: Any) -> tuple[list[Any], Any]:
    changes = dict(changes)
    asked, early, data = changes.pop("set", {}), changes.pop("early", None), changes.pop("eval_dataset", ROWS)
    told: list[Any] = []
    callbacks = [recorder(library.TrainerCallback, asked, told)]
    if early:
        callbacks.append(library.EarlyStoppingCallback(*early))
    model: Any = Watched() if library is npora else Tiny()
    args = library.TrainingArguments(
        str(path), per_device_train_batch_size=2, per_device_eval_batch_size=4, disable_tqdm=True, report_to="none",
        use_cpu=True, dataloader_pin_memory=False, **changes,
    )  # fmt: skip
    scores = iter(SCORES)
    trainer = library.Trainer(
        model, args, train_dataset=ROWS, eval_dataset=data, callbacks=callbacks,
        compute_metrics=lambda prediction: {"score": next(scores)},
    )  # fmt: skip
    trainer.train()
    trainer.predict(ROWS[:3])
    trainer.evaluate(ROWS[:5])
    return told, trainer


@pytest.mark.parametrize("case", CASES)
def test_events_come_in_the_order_and_with_the_flags_of_transformers(case: str, tmp_path: Path) -> None:
    ours, our_trainer = run(npora, tmp_path / "ours", **CASES[case])
    theirs, their_trainer = run(transformers, tmp_path / "theirs", **CASES[case])
    for place, (found, expected) in enumerate(zip(ours, theirs, strict=False)):
        assert found == expected, [event for event, *_ in theirs[: place + 1]]
    assert len(ours) == len(theirs)
    saved = [sorted(folder.name for folder in (tmp_path / name).glob("checkpoint-*")) for name in ("ours", "theirs")]
    assert saved[0] == saved[1]
    if "gradient_accumulation_steps" not in CASES[case]:  # npora counts the steps of an epoch, transformers its batches
        assert our_trainer.state.epoch == pytest.approx(their_trainer.state.epoch)
    assert our_trainer.state.global_step == their_trainer.state.global_step


def test_after_a_last_step_that_is_no_multiple_transformers_alone_evaluates_and_saves_once_more(tmp_path: Path) -> None:
    changes = {**STEPS, "max_steps": 7}
    ours, _ = run(npora, tmp_path / "ours", **changes)
    theirs, _ = run(transformers, tmp_path / "theirs", **changes)
    last = max(place for place, (event, *_) in enumerate(ours) if event == "on_step_end")
    assert ours[:last] == theirs[:last]
    more = [event for event, step, *_ in theirs if step == 7 and event in ("on_evaluate", "on_save")]
    assert more == ["on_evaluate", "on_save", "on_evaluate"]  # the last is the test's own
    assert [event for event, step, *_ in ours if step == 7 and event in ("on_evaluate", "on_save")] == ["on_evaluate"]


def test_the_names_are_theirs() -> None:
    theirs = {name for name in dir(transformers.TrainerCallback) if name.startswith("on_")}
    assert theirs - set(SHARED) == {"on_push_begin"} and set(SHARED) <= theirs
    flags = transformers.TrainerControl()
    assert all(getattr(npora.TrainerControl(), name) == getattr(flags, name) for name in FLAGS)
    theirs = set(vars(transformers.TrainerState())) | {"stateful_callbacks"}
    lacking = {name for name in theirs if not hasattr(npora.TrainerState(), name)}
    assert lacking == {"total_flos", "trial_name", "trial_params"}
