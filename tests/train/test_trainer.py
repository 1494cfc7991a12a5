"""The training loop: what it computes, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npora import LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.data import Dataset
from npora.models import BertConfig, BertForSequenceClassification
from npora.train.loaders import order
from npora.train.measure import frozen_sha256
from npora.train.state import trainable
from tests.tiny import SIZES, tiny_bert, tiny_peft, tiny_rows

ROWS = tiny_rows(21)


def arguments(path: Path, **changes: Any) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "output_dir": str(path), "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no",
        "disable_tqdm": True,
    }  # fmt: skip
    return TrainingArguments(**{**defaults, **changes})


def values(model: Any) -> dict[str, bytes]:
    return {name: parameter.data.tobytes() for name, parameter in trainable(model).items()}


def test_training_lowers_the_loss_and_leaves_the_frozen_bytes_alone(tmp_path: Path) -> None:
    model = tiny_peft()
    before = frozen_sha256(model)
    trainer = Trainer(model, arguments(tmp_path, num_train_epochs=20), ROWS, ROWS)
    first = trainer.evaluate()["eval_loss"]
    result = trainer.train()
    assert result.global_step == 20 * 6
    assert trainer.evaluate()["eval_loss"] < 0.8 * first
    assert frozen_sha256(model) == before


def test_every_trainable_parameter_moves(tmp_path: Path) -> None:
    """A and B too: A's gradient is zero in the first step, as long as B is."""
    model = tiny_peft()
    before = values(model)
    Trainer(model, arguments(tmp_path, max_steps=2), ROWS).train()
    after = values(model)
    assert not [name for name in before if before[name] == after[name]]


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 1, 2):
        model = tiny_peft()
        Trainer(model, arguments(tmp_path, max_steps=5, seed=seed), ROWS).train()
        runs.append(values(model))
    assert runs[0] == runs[1] != runs[2]


def test_small_batches_accumulate_to_the_gradient_of_the_large_one(tmp_path: Path) -> None:
    """Also where the batches have different numbers of labels: 5 examples in threes, one of them without a label."""
    examples = Dataset([*ROWS[:4], {"input_ids": [3, 4], "labels": -100}])
    results = []
    for size, accumulation in ((5, 1), (3, 2), (1, 5)):
        model = tiny_peft(dtype=np.float64, lora_dropout=0.0)
        model.get_base_model().bert.embeddings.dropout.p = 0.0
        for module in model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
            if hasattr(module, "heads"):
                module.dropout = 0.0
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation, "max_steps": 2}
        trainer = Trainer(model, arguments(tmp_path, **changes), examples)
        result = trainer.train()
        results.append((result.training_loss, [p.data for p in trainable(model).values()]))
    for loss, data in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-13)
        for ours, expected in zip(data, results[0][1], strict=True):
            # Adam divides by √v̂: rounding of the gradient, 1e-16 of its size, comes out as 1e-14 of a step of 1e-2.
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_the_log_has_a_line_for_every_step(tmp_path: Path) -> None:
    trainer = Trainer(tiny_peft(), arguments(tmp_path, max_steps=7, warmup_steps=2, eval_strategy="epoch"), ROWS, ROWS)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6, 7]
    # Two steps of warm-up from 0, then linearly to 0 over the five that are left.
    expected = [0, 0.5, 1, 0.8, 0.6, 0.4, 0.2]
    assert [line["learning_rate"] for line in steps] == pytest.approx([1e-2 * factor for factor in expected])
    assert [line["step"] for line in lines if "eval_loss" in line] == [6, 7]
    assert all(np.isfinite([line["loss"], line["grad_norm"]]).all() and line["tokens"] > 0 for line in steps)


def test_each_epoch_sees_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    orders = [order(arguments(tmp_path), 21, epoch).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(21))
    assert orders[0] != orders[1]


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    model = tiny_bert()
    before = {name: p.data.copy() for name, p in trainable(model).items()}
    unused = "bert.embeddings.word_embeddings.weight"
    examples = Dataset([{"input_ids": [3, 4], "labels": 1}])
    changes = {"weight_decay": 0.5, "max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    Trainer(model, arguments(tmp_path, **changes), examples).train()
    # An example of the table that no token used has gradient 0: all that moves it is the decay, θ (1 − lr λ).
    np.testing.assert_allclose(trainable(model)[unused].data[7], before[unused][7] * (1 - 5e-4), rtol=1e-6)
    # A position that no token had: embeddings decay too. A bias moves by lr at most, whatever the decay.
    for name, parameter in trainable(model).items():
        if name.endswith(".bias") or "LayerNorm" in name:
            assert np.abs(parameter.data - before[name]).max() <= 1.001e-3


def test_evaluation_is_the_mean_over_rows_whatever_the_batch_size(tmp_path: Path) -> None:
    losses = []
    for size in (1, 4, 21):
        trainer = Trainer(tiny_peft(), arguments(tmp_path, per_device_eval_batch_size=size), None, ROWS)
        prediction = trainer.predict(ROWS)
        losses.append(prediction.metrics["test_loss"])
        assert prediction.predictions.shape == (21, 3) and prediction.label_ids.tolist() == ROWS["labels"]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_compute_metrics_is_given_the_logits_and_labels(tmp_path: Path) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        hits = prediction.predictions.argmax(-1) == prediction.label_ids
        return {"hits": float(hits.sum()), "eval_named": 1.0}

    trainer = Trainer(tiny_peft(), arguments(tmp_path), None, ROWS, compute_metrics=metrics)
    result = trainer.evaluate()
    expected = (trainer.predict(ROWS).predictions.argmax(-1) == ROWS["labels"]).sum()
    assert result["eval_hits"] == expected and result["eval_named"] == 1.0


def test_a_value_that_is_infinite_stops_the_run_and_keeps_the_last_good_adapter(tmp_path: Path) -> None:
    model = tiny_peft()
    trainer = Trainer(model, arguments(tmp_path, learning_rate=1e38, max_steps=9, max_grad_norm=0.0), ROWS)
    with pytest.raises(FloatingPointError, match=r"step \d+: .* saved in .*last-good"):
        trainer.train()
    assert all(np.isfinite(parameter.data).all() for parameter in trainable(model).values())
    assert sorted(path.name for path in (tmp_path / "last-good").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert "stopped" in last
    assert np.isfinite(trainer.evaluate(ROWS)["eval_loss"])


@pytest.mark.parametrize("data", [None, [], Dataset([])])
def test_an_absent_or_empty_dataset_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(ValueError, match="train_dataset"):
        Trainer(tiny_peft(), arguments(tmp_path), data).train()


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    model = tiny_peft()
    model.merge_adapter()
    with pytest.raises(ValueError, match="call unmerge_adapter"):
        Trainer(model, arguments(tmp_path), ROWS).train()
    frozen = tiny_bert().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        Trainer(frozen, arguments(tmp_path), ROWS).train()
    with pytest.raises(ValueError, match=r"needs labels; an example of this dataset has: input_ids"):
        Trainer(tiny_peft(), arguments(tmp_path), [{"input_ids": [1, 2]}]).train()
    with pytest.raises(ValueError, match="there is no eval_dataset"):
        Trainer(tiny_peft(), arguments(tmp_path, eval_strategy="epoch"), ROWS)


def test_a_label_or_an_id_out_of_range_and_too_long_a_row_are_errors(tmp_path: Path) -> None:
    for example, message in (
        ({"input_ids": [1], "labels": 3}, "3"),
        ({"input_ids": [31], "labels": 0}, "id 31"),
        ({"input_ids": [1] * 13, "labels": 0}, "13 tokens is longer than the 12 positions"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(tiny_peft(), arguments(tmp_path), [example]).train()


def test_a_full_model_trains_too(tmp_path: Path) -> None:
    model = tiny_bert()
    trainer = Trainer(model, arguments(tmp_path, num_train_epochs=4, save_strategy="epoch"), ROWS)
    first = trainer.evaluate(ROWS)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(ROWS)["eval_loss"] < first


@given(st.permutations(range(7)))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_batch_of_all_rows_is_learnt_alike_in_any_order(tmp_path: Path, order: list[int]) -> None:
    """Examples are of several lengths, and their labels of several types."""
    examples = [
        {**example, "labels": (np.int32, np.uint8, int)[i % 3](example["labels"])} for i, example in enumerate(ROWS[:7])
    ]
    results = []
    for data in (examples, [examples[i] for i in order]):
        model = get_peft_model(
            BertForSequenceClassification(
                BertConfig(**SIZES, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
                rng=0, dtype=np.float64,
            ),
            LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS"),
        )  # fmt: skip
        result = Trainer(model, arguments(tmp_path, max_steps=3, per_device_train_batch_size=7), data).train()
        results.append((result.training_loss, [p.data for p in trainable(model).values()]))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-12)
    for found, expected in zip(results[1][1], results[0][1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)  # Adam divides by √v̂


@pytest.mark.parametrize(
    "labels", [[[0, 1, 0], [0.5, 0.25, 1.0]], [[0.5, 0.25, 1.0], [0, 1, 0]], [[0, 1, 0], [1, 1, 0]]]
)
def test_labels_of_several_types_have_the_loss_of_the_floats(tmp_path: Path, labels: Any) -> None:
    model = tiny_bert(dtype=np.float64)
    examples = [{"input_ids": [3, 4, i], "labels": label} for i, label in enumerate(labels)]
    for size in (1, 2):
        trainer = Trainer(model, arguments(tmp_path, per_device_eval_batch_size=size), None, examples)
        z, t = trainer.predict(examples).predictions, np.array(labels, dtype=np.float64)
        expected = -(t * -np.log1p(np.exp(-z)) + (1 - t) * -np.log1p(np.exp(z))).mean()
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-12)


def test_training_that_reaches_no_trainable_parameter_is_an_error(tmp_path: Path) -> None:
    model = tiny_peft()
    with model.disable_adapter(), pytest.raises(ValueError, match=r"no trainable parameter.*disable_adapter\(\)"):
        Trainer(model, arguments(tmp_path), ROWS).train()
    Trainer(model, arguments(tmp_path, max_steps=1), ROWS).train()
