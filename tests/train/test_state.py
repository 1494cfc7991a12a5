"""Checkpoints: a resumed run equals an uninterrupted one, bit for bit, and a damaged one is passed over."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer, TrainerCallback
from npora.train.loaders import order
from npora.train.state import TrainerState, step_rng
from tests.tiny import tiny_peft, tiny_rows
from tests.train.test_trainer import arguments, values

ROWS = tiny_rows(21)


def trainer(path: Path, **changes: Any) -> Trainer:
    defaults: dict[str, Any] = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
    return Trainer(tiny_peft(), arguments(path, **{**defaults, **changes}), ROWS, ROWS)


def steps(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("at", [2, 6, 8])
def test_a_resumed_run_equals_an_uninterrupted_one(whole: Trainer, tmp_path: Path, at: int) -> None:
    """From the middle of an epoch, its end, and the last step but one: weights, log and state are the same."""
    first = trainer(tmp_path / "parts")
    stop_after(first, at)
    second = trainer(tmp_path / "parts")
    result = second.train(resume_from_checkpoint=True)
    assert result.global_step == 9
    assert values(second.model) == values(whole.model)
    assert steps(tmp_path / "parts") == steps(Path(whole.args.output_dir))
    assert second.state == whole.state


def stop_after(trainer: Trainer, step: int) -> None:
    """As a power cut would: the step after the one that was saved dies half-way."""

    class Cut(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    trainer.add_callback(Cut)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()


def test_a_damaged_checkpoint_is_passed_over(whole: Trainer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop_after(trainer(tmp_path), 8)
    damaged = tmp_path / "checkpoint-8" / "trainer_state.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    (tmp_path / "checkpoint-6" / "trainer_state.json").unlink()
    again = trainer(tmp_path)
    with caplog.at_level(logging.WARNING, "npora"):
        again.train(resume_from_checkpoint=True)
    assert "passing over" in caplog.text and "checkpoint-8" in caplog.text and "checkpoint-6" in caplog.text
    assert values(again.model) == values(whole.model)


def test_a_failed_save_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npora.train.checkpoints.save_file", full)
    with pytest.raises(OSError, match="No space"):
        trainer(tmp_path).train()
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "log_history.jsonl", "run.json"]


def test_resuming_with_other_arguments_or_data_is_an_error(tmp_path: Path) -> None:
    stop_after(trainer(tmp_path), 4)
    with pytest.raises(ValueError, match=r"learning_rate=0.01, this one has 0.02"):
        trainer(tmp_path, learning_rate=2e-2).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        trainer(tmp_path / "elsewhere").train(resume_from_checkpoint=True)
    other = Trainer(tiny_peft(target_modules=["key"]), arguments(tmp_path, max_steps=9, weight_decay=0.1), ROWS)
    with pytest.raises(ValueError, match=r"target_modules=\['query', 'value'\], this one has \['key'\]"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_only_so_many_checkpoints_are_kept_and_the_best_among_them(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, save_total_limit=2, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
        metric_for_best_model="fixed",
    )  # fmt: skip
    scores = iter([0.1, 0.9, 0.3, 0.4])
    run.compute_metrics = lambda _: {"fixed": next(scores)}
    run.train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert run.state.best_metric == 0.9 and run.state.best_model_checkpoint == "checkpoint-4"
    to_four = trainer(tmp_path / "to four")
    stop_after(to_four, 4)
    assert values(run.model) == values(to_four.model)  # the best one's values are in the model


def test_a_best_metric_of_0_is_the_best_in_a_resumed_run_too(tmp_path: Path) -> None:
    def run() -> Trainer:
        fields = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "none", "save_total_limit": None}
        made = trainer(tmp_path, max_steps=4, load_best_model_at_end=True, greater_is_better=True, **fields)
        made.compute_metrics = lambda prediction: {"none": 0.0}
        return made

    stop_after(run(), 2)
    second = run()
    second.train(resume_from_checkpoint=True)
    assert (second.state.best_metric, second.state.best_model_checkpoint) == (0.0, "checkpoint-2")


def test_a_metric_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, save_strategy="epoch", eval_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="f1"
    )
    with pytest.raises(ValueError, match="there is no 'eval_f1'; there are: eval_loss"):
        run.train()


def test_the_order_of_an_epoch_and_the_masks_of_a_step_follow_from_the_seed_alone(tmp_path: Path) -> None:
    """By generators of their own: a run that goes on with a later version draws what it drew."""
    args = arguments(tmp_path, seed=3, data_seed=None)
    drawn = np.random.default_rng([3, 0, 2]).permutation(7)
    np.testing.assert_array_equal(order(args, 7, 2), drawn)
    np.testing.assert_array_equal(order(arguments(tmp_path, seed=5, data_seed=3), 7, 2), drawn)
    drawn = np.random.default_rng([0, 0, 2]).permutation(7)
    np.testing.assert_array_equal(order(arguments(tmp_path, seed=5, data_seed=0), 7, 2), drawn)
    masks = step_rng(args, TrainerState(global_step=4)).random(3)
    np.testing.assert_array_equal(masks, np.random.default_rng([3, 1, 4]).random(3))
