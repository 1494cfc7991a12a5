"""An optimiser of the user's: its groups have rates and decays of their own, and a run with it resumes bit for bit."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer
from npora.data import default_data_collator
from npora.nn.functional import cross_entropy
from npora.optim import SGD, AdamW, get_schedule
from npora.train.own import told
from npora.train.state import trainable
from tests.tiny import tiny_peft
from tests.train.test_trainer import ROWS, arguments, values


def grouped(model: Any, kind: Any = AdamW, **options: Any) -> Any:
    """A and B apart, as LoRA+ has them."""
    parts: dict[str, list[Any]] = {"lora_A": [], "lora_B": []}
    for name, parameter in trainable(model).items():
        parts["lora_B" if "lora_B" in name else "lora_A"].append(parameter)
    return kind([{"params": parts["lora_A"]}, {"params": parts["lora_B"], "lr": 0.16}], 0.01, **options)


def ran(folder: Path, optimizer: Any = grouped, factor: Any = None, resume: Any = None, **changes: Any) -> Trainer:
    model = tiny_peft()
    args = arguments(folder, **{"max_steps": 6, "save_strategy": "steps", "save_steps": 2, **changes})
    trainer = Trainer(model, args, ROWS, optimizers=(optimizer(model), factor))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_each_group_has_its_own_rate_times_the_schedules_factor(tmp_path: Path) -> None:
    """The schedule is the arguments', or the one that is passed beside the optimiser."""
    for factor in (None, get_schedule("cosine", 2, 6)):
        rates: list[Any] = []

        class Keep(SGD):
            def update(self, theta: Any, g: Any, state: Any, group: Any, rates: list[Any] = rates) -> None:
                rates.append(group["lr"])
                super().update(theta, g, state, group)

        trainer = ran(tmp_path / str(factor is None), lambda model, kind=Keep: grouped(model, kind), factor)
        wanted = factor or get_schedule("linear", 0, 6)
        assert sorted(set(rates)) == pytest.approx(sorted({r * wanted(i) for i in range(6) for r in (0.01, 0.16)}))
        assert trainer.state.max_steps == 6


def test_it_is_the_optimiser_that_is_used(tmp_path: Path) -> None:
    own, other = values(ran(tmp_path / "own").model), values(ran(tmp_path / "sgd", lambda m: grouped(m, SGD)).model)
    assert not [name for name in own if own[name] == other[name]]


@pytest.mark.parametrize("factor", [None, get_schedule("cosine", 2, 6)])
def test_a_run_with_it_resumes_bit_for_bit(tmp_path: Path, factor: Any) -> None:
    whole = ran(tmp_path / "whole", factor=factor)
    again = ran(tmp_path / "again", factor=factor, resume=str(tmp_path / "whole" / "checkpoint-4"))
    assert values(again.model) == values(whole.model)


def test_another_optimiser_or_other_rates_are_refused_on_resuming(tmp_path: Path) -> None:
    ran(tmp_path)
    one_group = lambda model: AdamW(trainable(model).values(), 0.01)  # noqa: E731
    for other in (lambda m: grouped(m, SGD), lambda m: grouped(m, weight_decay=0.5), one_group):
        with pytest.raises(ValueError, match="is of a run with optim="):
            ran(tmp_path, other, resume=True)


def test_another_schedule_is_refused_by_what_it_has_given(tmp_path: Path) -> None:
    """And one that differs in later steps alone is not, since the run is then the one that was begun with it."""

    def halved(step: int) -> float:
        return 1.0 if step < 4 else 0.5

    ran(tmp_path, factor=get_schedule("constant", 0, 6), max_steps=4)
    for other in (get_schedule("cosine", 2, 6), lambda step: 1.0 if step < 3 else 0.5):
        with pytest.raises(ValueError, match="whose own schedule gave its first 4 steps other factors"):
            ran(tmp_path, factor=other, resume=True)
    with pytest.raises(ValueError, match="with lr_scheduler_type='a function of the step', this one has 'linear'"):
        ran(tmp_path, resume=True)
    assert not list(tmp_path.glob("*.left-*"))
    parts, whole = ran(tmp_path, factor=halved, resume=True), ran(tmp_path / "whole", factor=halved)
    assert values(parts.model) == values(whole.model) and parts.state.global_step == 6
    ran(tmp_path / "saved", save_steps=1)
    with pytest.raises(ValueError, match="this one has 'a function of the step'"):
        ran(tmp_path / "saved", factor=halved, resume=True)


@dataclass
class Scaled:
    """A collator with a setting."""

    scale: float = 1.0

    def __call__(self, examples: Any) -> Any:
        return default_data_collator(examples)


class Other(Scaled):
    pass


def test_another_loss_or_collator_is_refused_by_its_name_and_settings(tmp_path: Path) -> None:
    def trained(resume: bool, **own: Any) -> None:
        args = arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
        Trainer(tiny_peft(), args, ROWS, **own).train(resume_from_checkpoint=resume)

    def halved(outputs: Any, labels: Any, num_items_in_batch: float) -> Any:
        loss, backward = cross_entropy(outputs.logits, labels)
        return loss, backward

    trained(False, data_collator=Scaled(), compute_loss_func=halved)
    trained(True, data_collator=Scaled(), compute_loss_func=halved)
    for own, said in (
        ({"data_collator": Scaled()}, "with compute_loss_func='.*halved', this one has None"),
        (
            {"data_collator": Scaled(2.0), "compute_loss_func": halved},
            r"\['Scaled', {'scale': 1\.0}\], this one has .*2",
        ),
        ({"data_collator": Other(), "compute_loss_func": halved}, r"this one has \['Other', {'scale'"),
        ({"compute_loss_func": partial(halved, num_items_in_batch=3)}, r"this one has \['.*halved', {'num_items"),
    ):
        with pytest.raises(ValueError, match=said):
            trained(True, **own)


def focal(gamma: Any, beta: Any = None) -> Any:
    def loss(outputs: Any, labels: Any, scale: float = 2.0, *, shift: Any = beta) -> Any:
        return gamma, focal and recursive

    recursive = loss
    return loss


def test_what_a_function_is_made_with_is_part_of_what_is_told_of_it() -> None:
    one, other = np.arange(3.0), np.arange(3.0) + 1
    made = [focal(1), focal(2), focal(1, 1), focal(one), focal(other), partial(focal, one), partial(focal, other)]
    said = [json.dumps(told(each)) for each in made]
    assert len({*said}) == len(said) and said == [json.dumps(told(each)) for each in made]
    assert told(focal(1)) == ["focal.<locals>.loss", 2.0, 1] and told(focal) == "focal"
    assert told(np.float32(3)) == told(np.array(3, np.float32)) != told(np.float32(4))
    names = [
        told(focal(np.array(own))) for own in (["a", "b"], ["a", "c"], [None, "a"], [None, "b"], [1.0], [1 + 1e-9])
    ]
    assert len({name[2] for name in names}) == len(names)


def test_what_a_function_counts_is_none_of_its_settings() -> None:
    count, step = 0, 3

    def counting(outputs: Any, labels: Any) -> None:
        nonlocal count
        count += step

    before = told(counting)
    counting(None, None)
    assert told(counting) == before and before[1:] == [3]


def test_the_settings_of_an_optimiser_of_ones_own_are_compared(tmp_path: Path) -> None:
    class Scaling(SGD):
        def __init__(self, groups: Any, lr: float, scale: float) -> None:
            super().__init__(groups, lr)
            self.scale = scale

    ran(tmp_path, lambda model: grouped(model, Scaling, scale=1.0))
    with pytest.raises(ValueError, match=r"with optim=.*'scale': 1\.0.*, this one has .*'scale': 2\.0"):
        ran(tmp_path, lambda model: grouped(model, Scaling, scale=2.0), resume=True)


def test_a_second_training_begins_with_the_rates_that_the_groups_came_with(tmp_path: Path) -> None:
    trainer = ran(tmp_path, save_strategy="no")
    assert [group["lr"] for group in trainer._optimizer.param_groups] != [0.01, 0.16]
    seen: list[float] = []
    trainer._optimizer.update = lambda theta, g, state, group: seen.append(group["lr"])
    trainer.train()
    assert max(seen) == 0.16


def test_what_is_no_optimiser_or_of_other_parameters_is_refused_and_what_it_lacks_is_said(
    tmp_path: Path, caplog: Any
) -> None:
    model = tiny_peft()
    with pytest.raises(TypeError, match=r"npora\.optim's optimizer"):
        Trainer(model, arguments(tmp_path), ROWS, optimizers=(object(), None))
    with pytest.raises(ValueError, match="of the optimizer's parameters are none that this model trains"):
        Trainer(model, arguments(tmp_path), ROWS, optimizers=(grouped(tiny_peft()), None))
    first = next(iter(trainable(model).values()))
    with caplog.at_level(logging.WARNING, "npora"):
        trainer = Trainer(model, arguments(tmp_path), ROWS, optimizers=(SGD([first], 0.1), None))
    assert "such parameters stay as they are" in caplog.text
    before = {name: parameter.data.copy() for name, parameter in trainable(model).items()}
    trainer.train()
    moved = [name for name, p in trainable(model).items() if not np.array_equal(p.data, before[name])]
    assert moved == [next(iter(trainable(model)))] or not moved  # A's gradient is 0 as long as B is
