"""A training that gets no better stops, and stops at the same step when it was resumed before."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from npora import EarlyStoppingCallback, Trainer, TrainerCallback
from npora.files import load_file
from npora.train.state import trainable
from tests.train.test_callbacks import ROWS, lines, timeless, trainer
from tests.watched import Watched

SCORES = [3.0, 5.0, 4.0, 5.0, 5.5, 5.5, 1.0, 5.6, 2.0, 9.0]
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "score", "max_steps": 10}


def scored(path: Path, callback: EarlyStoppingCallback, scores: list[float] = SCORES, **changes: Any) -> Trainer:
    """One whose evaluations find these scores in turn."""
    found = iter(scores)
    return trainer(path, callback, compute_metrics=lambda pair: {"score": next(found)}, **{**EACH_STEP, **changes})


@pytest.mark.parametrize(
    ("patience", "threshold", "changes", "last"),
    [
        (1, 0.0, {}, 3),
        (2, 0.0, {}, 4),  # the second 5 is no better than the first
        (3, 0.0, {}, 10),  # 5.5, 1, and 2: never three in a row
        (2, None, {}, 4),
        (3, 0.7, {}, 5),  # 5.5 is better than 5, and by too little
        (1, 0.0, {"greater_is_better": False}, 2),
        (2, 0.0, {"greater_is_better": False, "metric_for_best_model": "eval_score"}, 3),
        (1, 0.0, {"eval_steps": 2}, 6),
    ],
)
def test_it_stops_after_so_many_evaluations_that_are_no_better(
    tmp_path: Path, patience: int, threshold: float | None, changes: dict[str, Any], last: int
) -> None:
    run = scored(tmp_path, EarlyStoppingCallback(patience, threshold), **changes)
    assert run.train().global_step == last


def test_a_score_that_is_nan_is_no_better(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = scored(tmp_path, EarlyStoppingCallback(2), [3.0, math.nan, math.nan, 9.0])
    assert run.train().global_step == 3 and run.state.best_metric == 3.0
    assert caplog.text.count("eval_score is nan") == 2


def test_a_score_that_no_float_is_is_no_better_and_one_that_is_no_number_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores: list[Any] = [3.0, 10**400, 4.0]
    run = scored(tmp_path, EarlyStoppingCallback(2), scores, max_steps=3)
    assert run.train().global_step == 3 and run.state.best_metric == 4.0
    scores[1] = "9"
    with pytest.raises(ValueError, match="metric_for_best_model: 'eval_score' must be a number; got '9'"):
        scored(tmp_path, EarlyStoppingCallback(2), scores).train()


def test_of_several_datasets_the_one_that_is_named_decides(tmp_path: Path) -> None:
    found = iter([1.0, 9.0, 2.0, 8.0, 3.0, 7.0])  # the first gets better, and the second does not
    run = trainer(tmp_path, EarlyStoppingCallback(2), eval_dataset={"a": ROWS, "b": ROWS},
                  compute_metrics=lambda pair: {"score": next(found)},
                  **{**EACH_STEP, "metric_for_best_model": "b_score"})  # fmt: skip
    assert run.train().global_step == 3


def test_the_best_model_is_given_back(tmp_path: Path) -> None:
    changes = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}
    model, two = Watched(), Watched()
    run = scored(tmp_path / "best", EarlyStoppingCallback(2), model=model, **changes)
    assert run.train().global_step == 4 and run.state.best_model_checkpoint == "checkpoint-2"
    assert run.state.best_global_step == 2
    stop = scored(tmp_path / "two", EarlyStoppingCallback(1), [2.0, 1.0], model=two)  # two steps of the same
    stop.train()
    assert all(model.values()[name].tobytes() == value.tobytes() for name, value in two.values().items())


class AskAt(TrainerCallback):
    """Asks for an evaluation after the step `at`."""

    at = 3

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_evaluate = control.should_evaluate or state.global_step == self.at


@pytest.mark.parametrize(
    ("changes", "asking", "names"),
    [
        ({"eval_steps": 2, "save_steps": 4}, [], ["checkpoint-2", "checkpoint-4", "checkpoint-8"]),
        ({"eval_steps": 0.25, "save_steps": 0.5}, [], ["checkpoint-3", "checkpoint-5"]),  # ⌈2.25⌉ and ⌈4.5⌉ of 9
        ({"eval_steps": 4, "save_steps": 4}, [AskAt], ["checkpoint-3", "checkpoint-4", "checkpoint-8"]),
        ({"eval_steps": 2, "save_strategy": "best"}, [], ["checkpoint-2"]),
    ],
)
def test_the_best_model_is_saved_at_whichever_step_it_is_measured(
    tmp_path: Path, changes: dict[str, Any], asking: list[Any], names: list[str]
) -> None:
    found = iter([9.0, 5.0, 4.0, 3.0, 2.0])
    changes = {"load_best_model_at_end": True, "max_steps": 9, "save_strategy": "steps", **changes}
    run = trainer(tmp_path, *asking, compute_metrics=lambda pair: {"score": next(found)}, **{**EACH_STEP, **changes})
    run.train()
    assert run.state.best_model_checkpoint == names[0]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == names
    best = load_file(tmp_path / names[0] / "trainer_state.safetensors")
    for name, parameter in trainable(run.model).items():
        assert parameter.data.tobytes() == best[f"model.{name}"].tobytes()


def test_a_model_that_is_not_the_best_one_is_saved_all_the_same_where_another_asks(tmp_path: Path) -> None:
    scored(tmp_path, EarlyStoppingCallback(9), save_strategy="best", save_minutes=0, max_steps=4).train()
    assert sorted(path.name[-1] for path in tmp_path.glob("checkpoint-*")) == ["1", "2", "3", "4"]


def test_a_run_whose_best_model_is_gone_says_so_when_it_resumes_and_ends_with_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}
    scored(tmp_path, EarlyStoppingCallback(9), max_steps=3, **changes).train()
    shutil.rmtree(tmp_path / "checkpoint-2")
    again = scored(tmp_path, EarlyStoppingCallback(9), SCORES[3:], max_steps=4, **changes)
    assert again.train(resume_from_checkpoint=True).global_step == 4 and again.state.best_model_checkpoint is None
    assert "checkpoint-2, the best model so far, is gone" in caplog.text


@pytest.mark.parametrize("changes", [{}, {"logging_strategy": "epoch"}, {"save_strategy": "best"}])
def test_a_run_that_resumes_stops_where_the_unbroken_one_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    """From each checkpoint, that of its last step too: the counter is in them."""
    changes = {"save_strategy": "steps", "save_steps": 1, **changes}
    model = Watched()
    whole = scored(tmp_path / "whole", EarlyStoppingCallback(2), model=model, **changes)
    assert whole.train().global_step == 4
    saved = sorted((tmp_path / "whole").glob("checkpoint-*"))
    assert len(saved) == (2 if changes["save_strategy"] == "best" else 4)
    for path in saved:
        step, again, callback = int(path.name[-1]), Watched(), EarlyStoppingCallback(2)
        run = scored(tmp_path / "whole", callback, SCORES[step:], model=again, **changes)
        run.args.output_dir = str(tmp_path / path.name)
        assert run.train(path).global_step == 4
        assert callback.early_stopping_patience_counter == 2
        assert lines(tmp_path / path.name) == lines(tmp_path / "whole")
        assert timeless(run.state.log_history) == timeless(whole.state.log_history)
        assert run.state.best_metric == whole.state.best_metric == 5.0
        assert all(again.values()[name].tobytes() == value.tobytes() for name, value in model.values().items())


def test_a_stopped_run_goes_on_without_the_callback_and_with_more_patience(tmp_path: Path) -> None:
    changes = {"save_strategy": "steps", "save_steps": 1}
    scored(tmp_path, EarlyStoppingCallback(2), **changes).train()
    more = scored(tmp_path, EarlyStoppingCallback(4), SCORES[4:], **changes)
    assert more.train(tmp_path / "checkpoint-4").global_step == 10


def test_a_second_training_begins_to_count_anew(tmp_path: Path) -> None:
    run = scored(tmp_path, EarlyStoppingCallback(2), [3.0, 2.0, 1.0, 3.0, 2.0, 1.0])
    assert run.train().global_step == run.train().global_step == 3


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    for changes, message in (
        ({"eval_strategy": "no"}, "needs evaluations: say eval_strategy="),
        ({"metric_for_best_model": None}, "needs metric_for_best_model, or load_best_model_at_end=True"),
    ):
        with pytest.raises(ValueError, match=f"EarlyStoppingCallback {message}"):
            scored(tmp_path, EarlyStoppingCallback(), **changes).train()
    with pytest.raises(ValueError, match="metric_for_best_model: there is no 'eval_f1'; there are: eval_loss"):
        scored(tmp_path, EarlyStoppingCallback(), metric_for_best_model="f1").train()
    for arguments, message in (
        ((0,), "patience must be at least 1; got 0"),
        ((1, -0.5), "threshold must not be negative"),
    ):
        with pytest.raises(ValueError, match=message):
            EarlyStoppingCallback(*arguments)


def test_an_evaluation_before_the_first_step_is_none_of_the_models_to_choose_from(tmp_path: Path) -> None:
    """It is the first that early stopping sees, and as there it has no best one to be compared with."""
    changes = {"eval_on_start": True, "load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}
    run = scored(tmp_path, EarlyStoppingCallback(2), [99.0, 3.0, 2.0, 1.0], **changes)
    assert run.train().global_step == 3
    assert run.state.best_model_checkpoint == "checkpoint-1" and run.state.best_metric == 3.0
