"""What is not finite is found at its step, and is neither saved nor gone on from."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer, TrainerCallback
from npora.files import load_file
from npora.train.finite import NotFinite, not_finite
from npora.train.state import trainable
from tests.tiny import tiny_peft
from tests.train.test_callbacks import lines
from tests.train.test_runs import trainer as watched
from tests.train.test_trainer import ROWS, arguments
from tests.watched import Watched


@pytest.mark.parametrize("steps", [1, 3])
def test_the_last_step_is_looked_at_too(tmp_path: Path, steps: int) -> None:
    """No step comes after it whose loss would tell."""
    model = tiny_peft()
    args = arguments(tmp_path, learning_rate=1e39, max_steps=steps, save_strategy="steps", save_steps=1)
    with pytest.raises(NotFinite, match=r"step 1: the update, with the learning rate 1e\+39, made .*lora_A.* infinite"):
        Trainer(model, args, ROWS).train()
    assert not not_finite({name: p.data for name, p in trainable(model).items()})
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not not_finite(load_file(tmp_path / "last-good" / "adapter_model.safetensors"))
    assert "the update" in json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["stopped"]


def test_values_that_are_not_finite_are_not_begun_with(tmp_path: Path) -> None:
    model = tiny_peft()
    Trainer(model, arguments(tmp_path, max_steps=1), ROWS).save_model(tmp_path / "last-good")
    before = (tmp_path / "last-good" / "adapter_model.safetensors").read_bytes()
    name, parameter = next(iter(trainable(model).items()))
    parameter.data = np.where(np.arange(parameter.size).reshape(parameter.shape) == 1, np.nan, parameter.data)
    with pytest.raises(NotFinite, match=f"before the first step {name} holds nan or inf"):
        Trainer(model, arguments(tmp_path, max_steps=1), ROWS).train()
    assert (tmp_path / "last-good" / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize("what", ["value", "moment"])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, what: str) -> None:
    """Whoever made it so: the checkpoint before stays the newest."""

    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                parameter = next(iter(trainable(kwargs["model"]).values()))
                moments = kwargs["optimizer"].state[0]
                (parameter.data if what == "value" else next(v for v in moments.values() if np.ndim(v)))[0, 0] = np.inf

    args = arguments(tmp_path, max_steps=3, save_strategy="steps", save_steps=1)
    with pytest.raises(NotFinite, match=r"step 2: .* is not finite, and was not saved"):
        Trainer(tiny_peft(), args, ROWS, callbacks=[Spoil]).train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("of_the_loss", [False, True])
def test_a_step_that_is_skipped_changes_nothing(tmp_path: Path, of_the_loss: bool, caplog: Any) -> None:
    """The others are those of the run; the moments and decay do not see it."""

    class Keep(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seen.append([value.tobytes() for value in kwargs["model"].values().values()])

    model, keep = Watched(), Keep()
    model.poison, model.poison_the_loss = {2}, of_the_loss
    run = watched(tmp_path, model, max_steps=5, on_nonfinite="skip", callbacks=[keep], weight_decay=0.1,
                  save_strategy="steps", save_steps=1)  # fmt: skip
    with caplog.at_level(logging.WARNING, "npora"):
        result = run.train()
    assert "step 3: the loss is" in caplog.text and "its update is left out" in caplog.text
    assert result.global_step == 5 and np.isfinite(result.training_loss)
    assert [a == b for a, b in zip(keep.seen, keep.seen[1:], strict=False)] == [False, True, False, False]
    again = Watched()
    again.poison, again.poison_the_loss = {0}, of_the_loss  # its first call is the whole run's third
    other = watched(tmp_path / "again", again, max_steps=5, on_nonfinite="skip", weight_decay=0.1)
    other.train(tmp_path / "checkpoint-2")
    assert all(again.values()[name].tobytes() == value.tobytes() for name, value in model.values().items())
    assert lines(tmp_path / "again") == lines(tmp_path)
    assert other.state.mean_loss() == run.state.mean_loss()


def test_so_many_skipped_steps_in_a_row_stop_the_run(tmp_path: Path, caplog: Any) -> None:
    model = Watched()
    model.poison = {3, *range(6, 99)}  # the call after a poisoned one looks for the module
    with pytest.raises(NotFinite, match=r"step 16: .*, as in the 10 steps before it"):
        watched(tmp_path, model, max_steps=30, on_nonfinite="skip").train()
    assert caplog.text.count("its update is left out") == 11


def test_a_large_sum_of_finite_numbers_is_finite() -> None:
    large = np.full(4, 3e38, np.float32)
    assert not_finite({"large": large, "nan": large * np.nan, "none": large[:0]}) == ["nan"]


@pytest.mark.parametrize("first", [np.float32("nan"), np.float64("inf")])
def test_a_metric_that_is_not_finite_is_saved_and_is_never_the_best(tmp_path: Path, first: Any) -> None:
    scores = iter([first, np.float32(0.5), first])
    run = watched(tmp_path, max_steps=3, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
                  metric_for_best_model="score", load_best_model_at_end=True,
                  compute_metrics=lambda pair: {"score": next(scores)})  # fmt: skip
    run.train()
    assert run.state.best_model_checkpoint == "checkpoint-2" and run.state.best_metric == 0.5
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3
