"""Learning rates and SGD's options as the arguments ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, Trainer, TrainerCallback, TrainingArguments, get_peft_model
from npora.nn import Parameter
from npora.optim import SGD
from npora.train.optimizer import Schedule, make_optimizer
from tests.tiny import tiny_bert
from tests.train.test_callbacks import lines, trainer
from tests.watched import Watched

SCORES = [3.0, 5.0, 4.0, 4.5, 6.0, 5.0, 5.5, 7.0]
PLATEAU: dict[str, Any] = {
    "lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5},
    "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "score", "max_steps": 8,
}  # fmt: skip


def scored(path: Path, scores: list[float] = SCORES, **changes: Any) -> Trainer:
    found = iter(scores)
    return trainer(path, compute_metrics=lambda pair: {"score": next(found)}, **{**PLATEAU, **changes})


def rates(path: Path) -> list[float]:
    return [line["learning_rate"] for line in lines(path) if "learning_rate" in line]


def test_the_rate_falls_after_each_evaluation_that_is_no_better(tmp_path: Path) -> None:
    a = 0.05
    scored(tmp_path / "more").train()  # more is better, as of every metric but a loss: 4, 4.5, 5 and 5.5 are not
    assert rates(tmp_path / "more") == [a, a, a, a / 2, a / 4, a / 4, a / 8, a / 16]
    scored(tmp_path / "less", greater_is_better=False).train()
    assert rates(tmp_path / "less") == [a, *(a / 2**k for k in range(7))]
    kwargs = {"patience": 1, "factor": 0.5, "mode": "max"}
    scored(tmp_path / "own", greater_is_better=False, lr_scheduler_kwargs=kwargs, eval_on_start=True,
           scores=[99.0, *SCORES]).train()  # fmt: skip
    assert rates(tmp_path / "own") == [a, a, a, a, a / 2, a / 2, a / 2, a / 4]


def test_a_run_that_resumes_has_the_rates_of_the_unbroken_one(tmp_path: Path) -> None:
    changes = {"save_strategy": "steps", "save_steps": 1}
    whole = Watched()
    scored(tmp_path / "whole", model=whole, **changes).train()
    for step in (2, 3, 4, 7):
        model = Watched()
        run = scored(tmp_path / "whole", SCORES[step:], model=model, **changes)
        run.args.output_dir = str(tmp_path / f"from {step}")
        run.train(tmp_path / "whole" / f"checkpoint-{step}")
        assert rates(tmp_path / f"from {step}") == rates(tmp_path / "whole")
        assert all(model.values()[name].tobytes() == value.tobytes() for name, value in whole.values().items())


def test_a_second_training_begins_anew(tmp_path: Path) -> None:
    run = scored(tmp_path, [3.0, 2.0, 1.0, 1.5], max_steps=2)
    run.train()
    first = rates(tmp_path)
    run.train()
    assert rates(tmp_path) == first == [0.05, 0.05]


def test_a_schedules_options_reach_it_and_what_it_lacks_or_has_not_is_said(tmp_path: Path) -> None:
    trainer(tmp_path, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs='{"min_lr": 0.02}').train()
    assert rates(tmp_path)[0] == 0.05 and 0.02 < rates(tmp_path)[-1] < 0.023
    for kind, options, message in (
        ("linear", {"num_cycles": 2}, "'linear' takes the options none: got an unexpected .*'num_cycles'"),
        ("warmup_stable_decay", {}, "takes the options num_decay_steps, .*: missing .*'num_decay_steps'"),
        ("warmup_stable_decay", {"num_decay_steps": 1, "decay_type": "root"}, "decay_type must be one of linear, cos"),
        ("cosine_with_min_lr", {}, "needs min_lr, or min_lr_rate, .*, and not both"),
        ("cosine_with_min_lr", {"min_lr": 1, "min_lr_rate": 0.1}, "and not both"),
        ("polynomial", {"lr_end": 1}, "lr_end=1: expected less than the learning rate 5e-05"),
        ("reduce_lr_on_plateau", {}, "reduce_lr_on_plateau needs an eval_strategy"),
    ):
        with pytest.raises(ValueError, match=f"TrainingArguments: .*{message}"):
            TrainingArguments(lr_scheduler_type=kind, lr_scheduler_kwargs=options)
    with pytest.raises(ValueError, match="takes no 'gamma'"):
        TrainingArguments(**{**PLATEAU, "lr_scheduler_kwargs": {"gamma": 1}})
    with pytest.raises(ValueError, match="there is no 'eval_f1'; there are: eval_loss"):
        scored(tmp_path, metric_for_best_model="f1").train()


def test_sgd_has_the_options_of_optim_args_and_a_wrong_one_is_refused() -> None:
    args = TrainingArguments(optim="sgd", optim_args="momentum=0.9, nesterov=True", learning_rate=0.1)
    group, _ = make_optimizer(Watched(), args).param_groups
    assert (group["momentum"], group["nesterov"], group["dampening"], group["lr"]) == (0.9, True, 0.0, 0.1)
    for optim, said in (("sgd", "beta=1"), ("sgd", "weight_decay=0.1"), ("adamw_torch", "momentum=0.9")):
        with pytest.raises(ValueError, match=f"optim_args of {optim} may be .*; got '{said}'"):
            TrainingArguments(optim=optim, optim_args=said)
    unread = [("adamw_torch", f"loraplus_lr_ratio{value}") for value in ("", "=", "=x", "=inf", "=nan")]
    for optim, said in [*unread, ("sgd", "momentum=x"), ("sgd", "nesterov"), ("sgd", "nesterov=perhaps")]:
        with pytest.raises(
            ValueError, match=f"optim_args: [a-z_]+ must be (a finite number|true or false); got '{said}'"
        ):
            TrainingArguments(optim=optim, optim_args=said)
    with pytest.raises(ValueError, match="optim_args is a text"):
        TrainingArguments(optim_args={"loraplus_lr_ratio": 16})  # type: ignore[arg-type]


class Rates(TrainerCallback):
    """Keeps the rate of each group at each step, and whose it is."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append([group["lr"] for group in kwargs["optimizer"].param_groups])


@pytest.mark.parametrize(
    "kind", [{"lr_scheduler_type": "linear", "max_steps": 4}, {**PLATEAU, "metric_for_best_model": "loss"}], ids=str
)
def test_b_has_its_own_rate_through_the_whole_schedule(tmp_path: Path, kind: dict[str, Any]) -> None:
    model = get_peft_model(tiny_bert(), LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    arguments = TrainingArguments(str(tmp_path), learning_rate=0.01, optim_args="loraplus_lr_ratio=16", **kind)
    rates, examples = Rates(), [{"input_ids": [3, 4, 5 + n], "labels": n % 2} for n in range(8)]
    groups = make_optimizer(model, arguments).param_groups
    assert [(len(group["params"]), group["lr"]) for group in groups] == [(3, 0.01), (2, 0.16), (1, 0.16)]
    Trainer(model, arguments, train_dataset=examples, eval_dataset=examples, callbacks=[rates]).train()
    assert len(rates.seen) == kind["max_steps"] and rates.seen[0] == [0.01, 0.16, 0.16]
    assert all(b == pytest.approx(16 * a) and c == b for a, b, c in rates.seen)
    for name, parameter in model.named_parameters():
        if "lora_B" not in name and parameter.data.ndim > 1:  # what has the schedule's own rate
            parameter.requires_grad = False
    schedule = Schedule(arguments, make_optimizer(model, arguments), 4)
    schedule.set(0)
    assert schedule.get_last_lr() == [0.16, 0.16] and schedule(0) == 0.01


def test_what_a_schedule_gave_its_first_steps_can_be_asked_again() -> None:
    optimizer = SGD([Parameter(np.zeros(1))], 1.0)
    one, other = (Schedule(TrainingArguments("out"), optimizer, 9, factor=lambda step: 0.5**step) for _ in range(2))
    later = one.given(7)
    assert one.given(3) == other.given(3) and one.given(7) == other.given(7) == later


def test_a_ratio_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loraplus_lr_ratio must be at least 1; got 'loraplus_lr_ratio=0.5'"):
        TrainingArguments("out", optim_args="loraplus_lr_ratio=0.5")


def test_a_ratio_for_a_model_without_b_is_refused(tmp_path: Path) -> None:
    model = get_peft_model(tiny_bert(), HiraConfig(r=1, target_modules=["query"], task_type="SEQ_CLS"))
    with pytest.raises(ValueError, match="this model trains no lora_B"):
        make_optimizer(model, TrainingArguments(str(tmp_path), optim_args="loraplus_lr_ratio=16"))
