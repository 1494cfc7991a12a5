"""An evaluation that fails, after hours of training, loses none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from npora import EarlyStoppingCallback, TrainerCallback
from tests.train.test_callbacks import ROWS, callback, lines, timeless, trainer
from tests.train.test_interruption import SAVING
from tests.watched import Watched


@pytest.mark.parametrize("event", ["", "on_evaluate", "on_evaluate_all"])
@pytest.mark.parametrize("which", [1, 2])
def test_an_evaluation_that_fails_is_saved_before_and_made_when_the_run_resumes(
    tmp_path: Path, which: int, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In what measures, or in a callback: of two datasets what the first had is kept."""
    changes = {**SAVING, "eval_dataset": {"a": ROWS, "b": ROWS[3:]}, "metric_for_best_model": "a_score"}
    left = [which]

    def fail(*args: Any, **kwargs: Any) -> dict[str, float]:
        left[0] -= 1
        if left[0] == 0:
            raise ZeroDivisionError("no label of this kind")
        return {"score": 1.0}

    def run(path: Path, *more: TrainerCallback, **own: Any) -> Any:
        return trainer(path, EarlyStoppingCallback(99), *more, model=Watched(), **{**changes, **own})

    def score(pair: Any) -> dict[str, float]:
        return {"score": 1.0}

    unbroken, path = run(tmp_path / "whole", compute_metrics=score), tmp_path / "parts"
    unbroken.train()
    telling = [callback(**{event: lambda state, control, **kwargs: fail() and None})] if event else []
    with pytest.raises(ZeroDivisionError):
        run(path, *telling, compute_metrics=score if event else fail).train()
    step = 7 if event == "on_evaluate_all" and which == 2 else 5
    assert left == [0] and [folder.name for folder in path.glob("checkpoint-*")] == [f"checkpoint-{step}"]
    assert f"the evaluation after step {step} failed" in caplog.text
    second = run(path, compute_metrics=score)
    second.train(resume_from_checkpoint=True)
    assert timeless(second.state.log_history) == timeless(unbroken.state.log_history)
    if not event:  # else what comes before a callback in their order hears of the evaluation again
        assert replace(second.state, log_history=[]) == replace(unbroken.state, log_history=[])
        assert timeless(lines(path)) == timeless(lines(tmp_path / "whole"))
    for name, value in unbroken.model.values().items():
        assert second.model.values()[name].tobytes() == value.tobytes()


def test_an_evaluation_that_fails_saves_nothing_where_nothing_is_saved(tmp_path: Path) -> None:
    run = trainer(tmp_path, model=Watched(), compute_metrics=lambda pair: 1 / 0, **{**SAVING, "save_strategy": "no"})
    with pytest.raises(ZeroDivisionError):
        run.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_metric_that_was_forgotten_is_measured_when_the_run_resumes(tmp_path: Path) -> None:
    changes = {**SAVING, "eval_dataset": {"a": ROWS, "b": ROWS[3:]}, "metric_for_best_model": "a_score"}
    with pytest.raises(ValueError, match="there is no 'eval_a_score'"):
        trainer(tmp_path, model=Watched(), compute_metrics=lambda pair: {"scores": 1.0}, **changes).train()
    second = trainer(tmp_path, model=Watched(), compute_metrics=lambda pair: {"score": 1.0}, **changes)
    second.train(resume_from_checkpoint=True)
    measured = [entry for entry in second.state.log_history if entry["step"] == 5 and "loss" not in entry]
    assert [name for entry in measured for name in entry if "score" in name] == ["eval_a_score", "eval_b_score"]
