"""Tasks with a label for each token, through Trainer: batches of unequal length, −100 where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, Trainer, get_peft_model
from npora.data import Dataset
from npora.train import EvalPrediction
from npora.train.measure import frozen_sha256
from npora.train.state import trainable
from tests.tiny_encoders import SIZES, tiny_encoder
from tests.train.test_trainer import arguments

HEADS = ("TokenClassification", "MaskedLM")
NO_DROPOUT = {name: {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} for name in SIZES} | {
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0},
    "modernbert": dict.fromkeys(("attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"), 0.0),
}
every_family = pytest.mark.parametrize("family", SIZES)
every_head = pytest.mark.parametrize("head", HEADS)


def examples(head: str, count: int = 12) -> Dataset:
    """Sentences of 1 to 9 tokens. A token's class is what it leaves when divided by 3; a masked one follows 3."""
    rng = np.random.default_rng(0)
    found = []
    for length in rng.integers(1, 10, count):
        ids = rng.integers(4, 30, length)
        labels = np.where(rng.random(length) < 0.7, ids % 3, -100)
        if head == "MaskedLM":
            masked = rng.random(length) < 0.4
            labels, ids = np.where(masked, 5, -100), np.where(masked, 3, ids)
        found.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return Dataset(found)


def adapted(family: str, head: str, **changes: Any) -> Any:
    task = "TOKEN_CLS" if head == "TokenClassification" else None
    config = LoraConfig(r=2, lora_alpha=8, target_modules="all-linear", task_type=task)
    return get_peft_model(tiny_encoder(family, head, **changes), config)


@every_family
@every_head
def test_training_lowers_the_loss_and_leaves_the_frozen_bytes_alone(tmp_path: Path, family: str, head: str) -> None:
    model, data = adapted(family, head), examples(head)
    before = frozen_sha256(model)
    trainer = Trainer(model, arguments(tmp_path, num_train_epochs=20, learning_rate=3e-2), data, data)
    first = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.95 * first  # random embeddings of size 0.3 set it a floor
    assert frozen_sha256(model) == before


@every_family
@every_head
def test_small_batches_accumulate_to_the_gradient_of_the_large_one(tmp_path: Path, family: str, head: str) -> None:
    """Each has another number of labels, and one of them none."""
    data = Dataset([*list(examples(head))[:4], {"input_ids": [7, 8], "labels": [-100, -100]}])
    results = []
    for size, accumulation in ((5, 1), (3, 2), (1, 5)):
        model = adapted(family, head, dtype=np.float64, **NO_DROPOUT[family])
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation, "max_steps": 2}
        result = Trainer(model, arguments(tmp_path, **changes), data).train()
        results.append((result.training_loss, [p.data for p in trainable(model).values()]))
    for loss, values in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-12)
        for found, expected in zip(values, results[0][1], strict=True):
            # Adam divides by √v̂: a gradient's rounding of 1e-14 of its size is 1e-14 of a step of 1e-2.
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@every_head
def test_metrics_see_every_label_and_the_loss_is_their_mean(tmp_path: Path, head: str) -> None:
    model, data = tiny_encoder("roberta", head), examples(head)

    def measure(prediction: EvalPrediction) -> dict[str, float]:
        labels = prediction.label_ids
        assert labels is not None and labels.shape == prediction.predictions.shape[:2]
        return {"labels": float((labels != -100).sum())}

    trainer = Trainer(model, arguments(tmp_path, per_device_eval_batch_size=5), None, data, compute_metrics=measure)
    metrics = trainer.evaluate()
    count, total = 0, 0.0
    for example in data:
        output, _ = model(np.array([example["input_ids"]]), labels=np.array([example["labels"]]))
        count, total = count + output.num_items, total + float(output.loss) * output.num_items
    assert metrics["eval_labels"] == count
    assert metrics["eval_loss"] == pytest.approx(total / count, rel=1e-5)
