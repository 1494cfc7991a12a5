"""What Trainer takes for a dataset, and what it says of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Trainer
from npora.models import BertModel
from npora.train.batches import Batches
from npora.train.loaders import TrainLoader, order
from tests.tiny import tiny_bert, tiny_peft, tiny_rows
from tests.train.test_trainer import arguments, values
from tests.watched import Watched, watched_rows

ROWS = tiny_rows(9)


class OfTorch:
    """As torch's Datasets are: no __iter__, and no IndexError at the end."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = ROWS[index % len(ROWS)]
        return {"input_ids": np.array(example["input_ids"], dtype=np.int32), "labels": np.int16(example["labels"])}


class Table:
    iloc = None

    def __len__(self) -> int:
        return 3

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)


def test_rows_that_are_made_when_asked_for_are_learnt_and_evaluated(tmp_path: Path) -> None:
    runs = []
    for data in (ROWS, OfTorch(), list(ROWS)):
        model = tiny_peft()
        trainer = Trainer(model, arguments(tmp_path, max_steps=4), data, data)  # type: ignore[arg-type]
        trainer.train()
        runs.append((values(model), trainer.evaluate()["eval_loss"], trainer.predict(data).predictions.tobytes()))  # type: ignore[arg-type]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (iter(ROWS), "train_dataset must be a sequence of examples, with a length; got list_iterator"),
        (Table(), r"train_dataset is a table of pandas: pass its examples, table.to_dict\('records'\)"),
        (
            {"input_ids": [[1]], "labels": [0]},
            "train_dataset is a dict of input_ids, labels: pass a sequence of examples",
        ),
    ],
)
def test_what_is_no_sequence_of_rows_is_told_what_is(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Trainer(tiny_peft(), arguments(tmp_path), data).train()


def test_a_row_is_called_by_its_number_in_the_dataset(tmp_path: Path) -> None:
    examples = [*ROWS[:6], {"input_ids": [], "labels": 1}, *ROWS[6:]]
    with pytest.raises(ValueError, match="example 6 has no token"):
        Trainer(tiny_peft(), arguments(tmp_path), examples).train()
    with pytest.raises(ValueError, match="example 6 has no token"):
        list(Trainer(tiny_peft(), arguments(tmp_path, per_device_eval_batch_size=4)).predict_batches(examples))
    examples = [*ROWS[:6], {"input_ids": [3], "labels": 7}, *ROWS[6:]]
    with pytest.raises(ValueError, match=r"target 7 in row \d is not one of .*dataset's examples (.*, )?6(,|\))"):
        Trainer(tiny_peft(), arguments(tmp_path), examples).train()
    with pytest.raises(ValueError, match=r"target 7 in row 2 is not one of .*dataset's examples 4, 5, 6, 7\)"):
        Trainer(tiny_peft(), arguments(tmp_path, per_device_eval_batch_size=4)).evaluate(examples)


def test_a_model_without_a_loss_is_not_trained(tmp_path: Path) -> None:
    body: BertModel = tiny_bert().bert
    with pytest.raises(ValueError, match="this model's forward takes no labels"):
        Trainer(body, arguments(tmp_path), ROWS).train()


def test_an_epoch_that_is_asked_for_again_is_in_its_own_order(tmp_path: Path) -> None:
    args = arguments(tmp_path, seed=1, per_device_train_batch_size=3)
    loader = TrainLoader(Batches(tiny_bert(), None, None, True), ROWS[:7], args)
    for epoch in (1, 0, 0, 2):
        found = [number for numbers, _ in loader.batches(epoch, 0, len(loader)) for number in numbers]
        assert found == order(args, 7, epoch).tolist()


def test_rows_come_in_the_datasets_order_where_that_is_asked_for(tmp_path: Path) -> None:
    args = arguments(tmp_path, train_sampling_strategy="sequential")
    assert [order(args, 9, epoch).tolist() for epoch in (0, 1)] == [list(range(9))] * 2


def test_an_evaluation_of_the_loss_alone_calls_no_metrics(tmp_path: Path) -> None:
    def never(pair: Any) -> Any:
        raise AssertionError

    trainer = Trainer(tiny_peft(), arguments(tmp_path, prediction_loss_only=True), None, ROWS, compute_metrics=never)
    assert trainer.evaluate()["eval_loss"] > 0


def test_a_model_that_recomputed_before_training_does_so_after_it(tmp_path: Path) -> None:
    model = tiny_bert()
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True  # as someone left it
    trainer = Trainer(model, arguments(tmp_path, activation_checkpointing=True, max_steps=1), ROWS)
    trainer.train()
    assert all(getattr(module, "gradient_checkpointing", True) for module in model.modules())


def test_a_history_with_nan_is_saved_and_read_again(tmp_path: Path) -> None:
    changes = {"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 1}
    trainer = Trainer(tiny_peft(), arguments(tmp_path, **changes), ROWS, ROWS,
                      compute_metrics=lambda pair: {"undefined": float("nan"), "large": -np.inf})  # fmt: skip
    trainer.train()
    json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text(), parse_constant=pytest.fail)
    again = Trainer(tiny_peft(), arguments(tmp_path, **changes), ROWS, ROWS)
    again.train(resume_from_checkpoint=True)
    (entry,) = (entry for entry in again.state.log_history if "eval_undefined" in entry)
    assert np.isnan(entry["eval_undefined"]) and entry["eval_large"] == -np.inf


class Named(Watched):
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "labels")

    def forward(self, **arrays: Any) -> Any:
        assert arrays.keys() == {"rng", *self.inputs}
        return super().forward(**arrays)


def test_a_model_is_given_the_columns_that_its_inputs_name(tmp_path: Path) -> None:
    """Whatever its forward's signature says."""
    examples = [{**example, "token_type_ids": [0] * len(example["input_ids"])} for example in watched_rows(9)]
    runs = []
    for model in (Named(), Watched()):
        Trainer(model, arguments(tmp_path, max_steps=2), examples).train()
        runs.append(values(model))
    assert runs[0] == runs[1]
    model = Named()
    model.inputs = ("input_ids", "attention_mask")
    with pytest.raises(ValueError, match="this model's forward takes no labels"):
        Trainer(model, arguments(tmp_path), examples).train()
