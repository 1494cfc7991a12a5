"""A run goes on as itself: what changes its numbers is refused by name, and what does not may change."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import LoraConfig, Trainer, get_peft_model
from npora.files import save_file
from npora.models import BertForSequenceClassification
from npora.train.identity import identity
from tests.tiny import save_bert, tiny_bert, tiny_peft, tiny_rows
from tests.train.test_state import ROWS, steps, stop_after, trainer
from tests.train.test_trainer import arguments, values

CHANGES: dict[str, Any] = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    stop_after(trainer(path), 4)
    return path / "checkpoint-4"


def resumed(path: Path, model: Any, examples: Any, checkpoint: Path, **changes: Any) -> Trainer:
    run = Trainer(model, arguments(path, **{**CHANGES, **changes}), examples, examples)
    run.train(resume_from_checkpoint=checkpoint)
    return run


ADAPTER = {
    "lora_alpha": 5, "lora_dropout": 0.2, "use_rslora": True, "r": 3, "target_modules": ["key"],
    "modules_to_save": ["bert.pooler"], "use_dora": True,
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTER)
def test_another_adapter_is_refused_by_name(saved: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"of a run .*with {name}=.*, this one has"):
        resumed(tmp_path, tiny_peft(**{name: ADAPTER[name]}), ROWS, saved)


def test_another_base_and_another_config_of_it_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on another base model: the SHA-256 of its weights was"):
        resumed(tmp_path, tiny_peft(seed=1), ROWS, saved)
    config = LoraConfig(
        r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["query", "value"], task_type="SEQ_CLS"
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"with hidden_dropout_prob=0\.1, this one has 0\.3"):
        resumed(tmp_path, get_peft_model(tiny_bert(hidden_dropout_prob=0.3), config), ROWS, saved)
    with pytest.raises(ValueError, match="with trained in='float32', this one has 'float64'"):
        resumed(tmp_path, get_peft_model(tiny_bert(dtype=np.float64), config), ROWS, saved)


@pytest.mark.parametrize("at", [0, 10, 20])
def test_other_data_of_as_many_rows_is_refused(saved: Path, tmp_path: Path, at: int) -> None:
    examples = [dict(example) for example in ROWS]
    examples[at]["labels"] = (examples[at]["labels"] + 1) % 3
    with pytest.raises(ValueError, match="on other training data: there are as many examples"):
        resumed(tmp_path, tiny_peft(), examples, saved)
    with pytest.raises(ValueError, match="on other training data"):
        resumed(tmp_path, tiny_peft(), tiny_rows(21, seed=1), saved)


def test_all_that_differs_is_said_at_once(saved: Path, tmp_path: Path) -> None:
    said = r"with learning_rate=0\.01, this one has 0\.3; with seed=42, .*; with lora_alpha=4, .* has 5; with examples"
    with pytest.raises(ValueError, match=said):
        resumed(tmp_path, tiny_peft(lora_alpha=5), ROWS[:9], saved, seed=1, learning_rate=0.3)


ALLOWED: list[dict[str, Any]] = [
    {"logging_steps": 2}, {"logging_strategy": "epoch"}, {"eval_strategy": "epoch"}, {"save_steps": 3},
    {"save_strategy": "epoch"}, {"save_total_limit": 1}, {"per_device_eval_batch_size": 3}, {"disable_tqdm": False},
    {"gradient_checkpointing": True}, {"optim": "adamw_torch_fused"}, {"metric_for_best_model": "loss"},
    {"data_seed": 42}, {"on_nonfinite": "skip"},  # it had no step that would have been skipped
]  # fmt: skip


@pytest.mark.parametrize("change", ALLOWED, ids=str)
def test_what_changes_no_number_may_change(saved: Path, whole: Trainer, tmp_path: Path, change: dict[str, Any]) -> None:
    """The same examples in another container too, and any number of threads: the values are the unbroken run's."""
    npora.set_num_threads(3)
    try:
        examples = [{key: np.array(value) for key, value in example.items()} for example in ROWS]
        again = resumed(tmp_path / "again", tiny_peft(), examples, saved, **change)
    finally:
        npora.set_num_threads(None)
    assert values(again.model) == values(whole.model)
    found = [line for line in steps(tmp_path / "again") if "loss" in line]
    assert found == steps(Path(whole.args.output_dir))


def test_a_run_that_may_have_skipped_steps_is_none_that_stops_at_them(tmp_path: Path) -> None:
    stop_after(trainer(tmp_path, on_nonfinite="skip"), 2)
    with pytest.raises(ValueError, match="with on_nonfinite='skip', this one has 'stop'"):
        resumed(tmp_path / "again", tiny_peft(), ROWS, tmp_path / "checkpoint-2")


FREE = {
    "output_dir", "per_device_eval_batch_size", "num_train_epochs", "max_steps", "gradient_checkpointing",
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "prediction_loss_only", "save_strategy", "save_steps",
    "save_minutes", "save_total_limit", "logging_strategy", "logging_steps", "logging_first_step", "disable_tqdm",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "remove_unused_columns",
    "predict_with_generate", "generation_max_length", "generation_num_beams",
}  # fmt: skip


def test_each_argument_is_compared_or_is_known_to_be_free() -> None:
    compared = identity(tiny_peft(), arguments(Path("x")), ROWS)["arguments"].keys()
    assert not compared & FREE
    assert {field.name for field in fields(npora.TrainingArguments)} <= compared | FREE


def test_where_evaluations_decide_the_rates_they_are_compared_too(tmp_path: Path) -> None:
    changes = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 2,
               "metric_for_best_model": "loss"}  # fmt: skip
    stop_after(trainer(tmp_path, **changes), 4)
    for name, value in (("eval_steps", 1), ("metric_for_best_model", "runtime"), ("eval_delay", 3)):
        with pytest.raises(ValueError, match=f"with {name}=.*, this one has {value!r}"):
            trainer(tmp_path, **{**changes, name: value}).train(resume_from_checkpoint=True)
    for data, metrics, said in (
        (ROWS[1:], None, "eval_dataset={'sha256'"), ({"a": ROWS}, None, "eval_dataset={'sha256'"),
        (ROWS, lambda pair: {}, "compute_metrics=None, this one has '.*lambda"),
    ):  # fmt: skip
        args = trainer(tmp_path, **changes).args
        with pytest.raises(ValueError, match=f"with {said}"):
            Trainer(tiny_peft(), args, ROWS, data, compute_metrics=metrics).train(resume_from_checkpoint=True)
    trainer(tmp_path, **changes).train(resume_from_checkpoint=True)


def test_more_steps_and_epochs_may_be_asked_for(saved: Path, tmp_path: Path, caplog: Any) -> None:
    """The rates are then those of the new number of steps, which is said; those of a constant rate are the same."""
    with caplog.at_level(logging.WARNING, "npora"):
        run = resumed(tmp_path, tiny_peft(), ROWS, saved, max_steps=-1, num_train_epochs=5)
    assert run.state.global_step == 30
    assert "rates from step 5 on are those of 30 steps in all; those before it were of 9" in caplog.text
    rates = [line["learning_rate"] for line in steps(tmp_path)]
    assert rates[:4] == pytest.approx([0.01 * (9 - i) / 9 for i in range(4)])
    assert rates[4:] == pytest.approx([0.01 * (30 - i) / 30 for i in range(4, 30)])
    with pytest.raises(ValueError, match="is of step 4, and this training ends at step 3"):
        resumed(tmp_path / "fewer", tiny_peft(), ROWS, saved, max_steps=3)


def test_a_longer_run_of_a_constant_rate_equals_one_that_was_begun_so(tmp_path: Path, caplog: Any) -> None:
    changes = {"lr_scheduler_type": "constant"}
    trainer(tmp_path / "parts", max_steps=4, **changes).train()
    parts = trainer(tmp_path / "parts", **changes)
    parts.train(resume_from_checkpoint=True)
    whole = trainer(tmp_path / "whole", **changes)
    whole.train()
    assert values(parts.model) == values(whole.model) and steps(tmp_path / "parts") == steps(tmp_path / "whole")
    assert not caplog.records


def test_rows_that_are_drawn_anew_each_time_are_told_by_their_number_alone(tmp_path: Path, caplog: Any) -> None:
    class Drawn:
        rng = np.random.default_rng(0)

        def __len__(self) -> int:
            return 8

        def __getitem__(self, i: int) -> dict[str, Any]:
            return {"input_ids": self.rng.integers(1, 31, 5).tolist(), "labels": i % 3}

    changes = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    Trainer(tiny_peft(), arguments(tmp_path, **changes), Drawn()).train()
    Trainer(tiny_peft(), arguments(tmp_path, **changes), Drawn()).train(resume_from_checkpoint=True)
    assert "the examples of train_dataset are others each time" in caplog.text


def test_where_not_all_of_the_data_is_compared_this_is_said(caplog: Any) -> None:
    class Large:
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, i: int) -> dict[str, Any]:
            return {"input_ids": [1, i % 30], "labels": i % 3, "what": object()}

    data: Any = Large()
    found = [identity(tiny_peft(), arguments(Path("x")), data)["data"] for _ in range(2)]
    assert found[0] == found[1] and found[0]["examples"] == 10**6
    assert "Large of 1000000 examples: 256 of them, spread over all, tell it from others" in caplog.text


def test_other_data_that_an_example_in_256_does_not_show_is_refused_by_what_it_holds(
    tmp_path: Path, caplog: Any
) -> None:
    class Texts:
        """As a tutorial's data set."""

        def __init__(self, labels: list[int]) -> None:
            self.encodings, self.labels = {"input_ids": [[2, 3]] * len(labels)}, labels

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, i: int) -> dict[str, Any]:
            return {**{name: column[i] for name, column in self.encodings.items()}, "labels": self.labels[i]}

    labels, changes = [0] * 20_001, {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    Trainer(tiny_peft(), arguments(tmp_path, **changes), Texts(labels)).train()
    assert "spread over all, and what it holds in memory, tell it from others" in caplog.text
    labels[77] = 1
    with pytest.raises(ValueError, match="other training data: what its examples are made from is not the same"):
        Trainer(tiny_peft(), arguments(tmp_path, **changes), Texts(labels)).train(resume_from_checkpoint=True)


def test_data_that_say_what_they_are_made_of_are_refused_by_that_name(tmp_path: Path) -> None:
    first = {"sha256": "a", "tokenizer": "one"}

    class Said(list[Any]):
        said = first

        def fingerprint(self) -> dict[str, Any]:
            return self.said

    data, changes = Said(ROWS), {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    Trainer(tiny_peft(), arguments(tmp_path, **changes), data).train()
    again = Trainer(tiny_peft(), arguments(tmp_path, **changes), data)
    for said, expected in (
        ({"sha256": "a", "tokenizer": "two"}, "with tokenizer='one', this one has 'two'"),
        ({"sha256": "a"}, "with tokenizer='one', this one has None"),
        ({"sha256": "a", "tokenizer": "one", "made": None}, "on other training data: what is made of the same"),
        ({"sha256": "b", "tokenizer": "one"}, "on other training data: there are as many"),
    ):
        data.said = said
        with pytest.raises(ValueError, match=expected):
            again.train(resume_from_checkpoint=True)
    data.said = first
    again.train(resume_from_checkpoint=True)


def test_rows_of_any_kind_are_told_apart_as_far_as_they_can_be() -> None:
    def digest(*examples: Any) -> Any:
        return identity(tiny_peft(), arguments(Path("x")), list(examples))["data"]["sha256"]

    told = [({"a": b"1"}, {"a": b"2"}), ((1, 2), (1, 3)), ("a", "b"), ({"a": np.array([1])}, {"a": np.array([2])}),
            ({"a": np.float32(1)}, {"a": np.float32(2)}), ({"a": [np.array(1)]}, {"a": [np.array(3)]})]  # fmt: skip
    for one, other in told:
        assert digest(one) != digest(other) and digest(one) == digest(one)
    holding: list[Any] = []
    holding.append(holding)
    for example in ({"a": object()}, {1: 2, "a": 3}, {"a": {1: 2, "b": 3}}, holding):
        assert digest(example) == digest(example)


def test_a_base_that_is_written_over_in_training_is_noticed(tmp_path: Path) -> None:
    """Its file is read as it is needed: nothing that was computed with other weights is saved."""
    folder = save_bert(tiny_bert(), tmp_path / "base")
    other = {name: array * 2 for name, array in tiny_bert().state_dict().items()}
    save_file(other, tmp_path / "other.safetensors")

    def trained(path: Path, at: int, **changes: Any) -> None:
        base = BertForSequenceClassification.from_pretrained(folder)
        model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
        run = Trainer(model, arguments(path, max_steps=3, **changes), ROWS)

        class Overwrite(npora.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == at:
                    with open(folder / "model.safetensors", "r+b") as file:  # in place, as cp does
                        file.write((tmp_path / "other.safetensors").read_bytes())

        run.add_callback(Overwrite)
        run.train()

    before = (folder / "model.safetensors").read_bytes()
    trained(tmp_path / "untouched", 0)
    for name, at, changes in (("saved", 2, {"save_strategy": "steps", "save_steps": 1}), ("last", 3, {})):
        with pytest.raises(ValueError, match="the base model are not those that the training began with"):
            trained(tmp_path / name, at, **changes)
        with open(folder / "model.safetensors", "r+b") as file:
            file.write(before)
    assert [path.name for path in (tmp_path / "saved").glob("checkpoint-*")] == ["checkpoint-1"]


def test_run_json_says_what_a_run_is(saved: Path) -> None:
    run = json.loads((saved.parent / "run.json").read_text())
    assert run["arguments"]["max_steps"] == 9 and run["adapter"]["lora_alpha"] == 4 and run["data"]["examples"] == 21
    assert run["id"] == json.loads((saved / "trainer_state.json").read_text())["run"]["id"]
    assert run["versions"].keys() == {"python", "numpy", "platform", "blas"} and len(run["base_sha256"]) == 64
