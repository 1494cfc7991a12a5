"""TrainingArguments: names, former names, and values that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from npora import TrainingArguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be a whole number of at least 1; got 0"),
        ({"gradient_accumulation_steps": 1.5}, "gradient_accumulation_steps"),
        ({"tokens_at_once": -1}, "tokens_at_once must be a whole number, 0 for any; got -1"),
        ({"learning_rate": -1.0}, "learning_rate must not be negative; got -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, and a finite one; got nan"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm must be a number, and a finite one; got inf"),
        ({"num_train_epochs": float("inf")}, "num_train_epochs must be a number, and a finite one; got inf"),
        ({"logging_steps": 0}, "logging_steps must be a whole number of at least 1, or a share of all steps; got 0"),
        ({"seed": -1}, "seed must be a whole number, 0 or more; got -1"),
        ({"seed": None}, "seed must be a whole number, 0 or more; got None"),
        ({"data_seed": 1.5}, "data_seed must be a whole number, 0 or more; got 1.5"),
        ({"num_train_epochs": 0}, "num_train_epochs must be positive; got 0"),
        ({"eval_strategy": "always"}, "eval_strategy must be one of no, steps, epoch; got 'always'"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type must be one of constant"),
        ({"warmup_ratio": 2.0}, "warmup_ratio"),
        ({"adam_beta2": 1.0}, "adam_beta2 must lie in [0, 1); got 1.0"),
        ({"seed": "42"}, "seed must be a whole number, 0 or more; got '42'"),
        ({"data_seed": -1}, "data_seed must be a whole number, 0 or more; got -1"),
        ({"logging_steps": 0}, "logging_steps must be a whole number of at least 1"),
        ({"load_best_model_at_end": True}, "to be the same"),
        ({"label_smoothing_factor": 1.5}, "label_smoothing_factor must lie in [0, 1]; got 1.5"),
        ({"label_smoothing_factor": -0.1}, "label_smoothing_factor must lie in [0, 1]; got -0.1"),
        ({"optim": "sgd", "optim_args": "nesterov=2"}, "optim_args: nesterov must be true or false; got"),
        ({"optim": "sgd", "optim_args": "momentum=much"}, "optim_args: momentum must be a finite number; got"),
        ({"lr_scheduler_kwargs": "[1]"}, "lr_scheduler_kwargs must be a dict of options by name; got [1]"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3, "save_steps": 4},
            "multiple of eval_steps",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 1},
            "multiple of eval_steps",
        ),
        *(
            (
                {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": each, "save_steps": save},
                f"both of them numbers of steps or both shares of all steps; got ({save}, {each})",
            )
            for each, save in ((0.5, 500), (2, 0.5), (0.3, 0.5), (0.5, 0.25))
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        TrainingArguments(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr_scheduler_type": "constant"}, "no effect on lr_scheduler_type='constant': say 'constant_with_warmup'"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
            "no effect on lr_scheduler_type='reduce_lr_on_plateau'",
        ),
    ],
)
def test_a_warmup_that_has_no_effect_is_said(
    changes: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    TrainingArguments(**changes)
    assert caplog.messages == []
    TrainingArguments(warmup_steps=3, **changes)
    (message,) = caplog.messages
    assert message.endswith(said)


@pytest.mark.parametrize(("each", "save"), [(0.1, 0.7), (0.25, 0.5), (3, 9.0)])
def test_the_best_model_of_shares_that_are_multiples_is_taken(each: float, save: float) -> None:
    changes = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": each, "save_steps": save}
    assert TrainingArguments(**changes).save_steps == save


def test_a_class_may_weigh_nothing() -> None:
    assert TrainingArguments(class_weights=[0, 2]).class_weights == [0.0, 2.0]


def test_no_largest_norm_does_not_clip() -> None:
    assert TrainingArguments(max_grad_norm=None).max_grad_norm == 0


def test_former_names_are_taken() -> None:
    args = TrainingArguments(evaluation_strategy="epoch", warmup_ratio=0.1)
    assert args.eval_strategy == "epoch" and args.num_warmup_steps(95) == 10


def test_steps_are_counted_as_transformers_counts_them() -> None:
    args = TrainingArguments(per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2.5)
    assert args.steps(21) == (3, 8)  # 6 batches, 3 steps, ⌈7.5⌉
    assert TrainingArguments(max_steps=5).steps(21) == (3, 5)
    assert TrainingArguments(warmup_steps=7).num_warmup_steps(95) == 7


def test_the_best_metric_is_the_loss_unless_another_is_named() -> None:
    assert TrainingArguments().best_metric() == ("eval_loss", False)
    assert TrainingArguments(metric_for_best_model="accuracy").best_metric() == ("eval_accuracy", True)
    assert TrainingArguments(metric_for_best_model="x", greater_is_better=False).best_metric() == ("eval_x", False)
