"""Losses that are not the model's own: label smoothing, class weights, a user's function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npora import Trainer
from npora.data import Dataset
from npora.models.tasks import ForCausalLM
from npora.nn import cross_entropy
from npora.train.losses import ClassificationLoss, WithLoss, balanced_weights
from npora.train.micro_batches import accumulate_gradients
from tests.models.test_all_logits import BATCH, LABELS, MODELS, made
from tests.models.test_generation_families import FAMILIES
from tests.tiny import tiny_peft, tiny_rows
from tests.tiny_encoders import tiny_encoder
from tests.train.test_trainer import ROWS, arguments, values

MANY = {**MODELS, "tokens": lambda: tiny_encoder("bert", "TokenClassification", np.float64)}


def gradients(model: Any, call: Any, batch: Any) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    output, backward = call(**batch)
    backward()
    return float(output.loss), {n: p.grad.copy() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MANY)
def test_without_smoothing_and_weights_it_is_the_models_own_loss(name: str) -> None:
    """Shifted where the model is causal, behind the decoder's start in T5, and never at padding."""
    model: Any = made(name) if name in MODELS else MANY[name]()
    labels = {"tokens": np.array([[0, 1, 2, -100, 1], [2, 0, 1, -100, -100], [-100] * 5])}.get(name, LABELS)
    batch = {key: value[: len(labels)] for key, value in {**BATCH, "labels": labels}.items()}
    if name == "t5":
        batch = {key: value[:2] for key, value in batch.items()}
    own = WithLoss(model, ClassificationLoss(0.0, None, isinstance(model, ForCausalLM)))
    loss, expected = gradients(model, model, batch)
    other, found = gradients(model, own, batch)
    np.testing.assert_allclose(other, loss, rtol=1e-13)
    assert own(**batch)[0].num_items == model(**batch)[0].num_items and found.keys() == expected.keys()
    for key, gradient in expected.items():
        np.testing.assert_allclose(found[key], gradient, rtol=1e-9, atol=1e-13 * max(np.abs(gradient).max(), 1e-3))


def weighted(logits: Any, labels: Any, weights: Any) -> tuple[float, Any]:
    """The formula, in the plainest form."""
    counted = labels != -100
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    w = np.where(counted, np.asarray(weights)[np.where(counted, labels, 0)], 0.0)
    nll = -np.log(p[np.arange(len(labels)), np.where(counted, labels, 0)])
    hits = np.eye(logits.shape[1])[np.where(counted, labels, 0)]
    return float((w * nll).sum() / w.sum()), (w / w.sum())[:, None] * (p - hits)


def test_class_weights_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.standard_normal((9, 4)), rng.integers(0, 4, 9), [0.3, 2.0, 0.0, 1.1]
    labels[3] = -100
    loss, backward, number = ClassificationLoss(0.0, weights, False)(SimpleNamespace(logits=logits), labels)
    expected, dlogits = weighted(logits, labels, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(backward(2.0), 2 * dlogits, atol=1e-15)
    assert number == pytest.approx(sum(weights[label] for label in labels if label >= 0))


@pytest.mark.parametrize("own", [ClassificationLoss(0.2, [0.5, 3.0, 1.0], False), ClassificationLoss(0.1, None, False)])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(own: Any) -> None:
    """Though the weights of the pieces differ."""
    examples, grads, losses = tiny_rows(9), [], []
    ids = np.zeros((9, 9), np.int64)
    for line, example in zip(ids, examples, strict=True):
        line[: len(example["input_ids"])] = example["input_ids"]
    labels = np.array([example["labels"] for example in examples])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).astype(int), "labels": labels}
    for tokens_at_once in (0, 9):
        model = tiny_peft(dtype=np.float64)
        loss, items = accumulate_gradients(WithLoss(model, own), batch, None, tokens_at_once)
        losses.append((loss, items))
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-13)
    for name, gradient in grads[0].items():
        np.testing.assert_allclose(grads[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    """n / (k · n_c); labels may be of tokens, and some may not count."""
    assert balanced_weights([0, 0, 0, 1], 2) == [4 / 6, 4 / 2]
    assert balanced_weights([[0, 0, -100], [2, 0]], 3) == [4 / 9, 0.0, 4 / 3]
    with pytest.raises(ValueError, match=r"labels 0 … 1, and this training set has others"):
        balanced_weights([0, 1, 2], 2)
    assert balanced_weights([], 2) == [0.0, 0.0]
    assert balanced_weights([[0, 1], [1, -100]], 2) == [3 / (2 * 1), 3 / (2 * 2)]  # of tokens


def test_the_labels_of_rows_that_are_made_when_asked_for_are_counted_many_at_a_time(tmp_path: Path) -> None:
    calls: list[int] = []

    def made(batch: Any) -> Any:
        calls.append(len(batch["labels"]))
        return batch

    examples = tiny_rows(300)
    trainer = Trainer(tiny_peft(), arguments(tmp_path, class_weights="balanced"), examples.with_transform(made))
    loss: Any = trainer.objective()
    assert calls == [256, 44] and loss.loss.weights == balanced_weights(examples["labels"], 3)


def test_a_trainer_learns_and_measures_with_the_loss_that_its_arguments_name(tmp_path: Path) -> None:
    """eval_loss is of the same loss, as in transformers."""
    examples = [example for example in tiny_rows(60) if example["labels"] != 2 or len(example["input_ids"]) == 1]
    counts = [sum(example["labels"] == c for example in examples) for c in range(3)]
    plain = Trainer(tiny_peft(), arguments(tmp_path), examples, examples)
    losses = {"plain": plain.evaluate()["eval_loss"]}
    logits, labels = plain.predict(examples)[:2]
    for name, changes in {"balanced": {"class_weights": "balanced"}, "listed": {"class_weights": [3, 2, 0.5]},
                          "smoothed": {"label_smoothing_factor": 0.2}}.items():  # fmt: skip
        losses[name] = Trainer(tiny_peft(), arguments(tmp_path, **changes), examples, examples).evaluate()["eval_loss"]
    expected = {
        "plain": weighted(logits, labels, [1, 1, 1])[0],
        "balanced": weighted(logits, labels, [len(examples) / (3 * count) for count in counts])[0],
        "listed": weighted(logits, labels, [3, 2, 0.5])[0],
        "smoothed": float(cross_entropy(logits, labels, label_smoothing=0.2)[0]),
    }
    assert losses == pytest.approx(expected, rel=1e-5) and len(set(losses.values())) == 4
    trainer = Trainer(
        tiny_peft(), arguments(tmp_path, class_weights="balanced", num_train_epochs=9), examples, examples
    )
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < losses["balanced"]


def test_a_users_loss_is_learnt_in_the_models_place(tmp_path: Path) -> None:
    """Cross-entropy by hand gives the run of the model's own loss."""

    def own(outputs: Any, labels: Any, num_items_in_batch: int) -> tuple[float, Callable[..., Any]]:
        z = outputs.logits
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        hits = np.eye(z.shape[1], dtype=z.dtype)[labels]
        loss = -float(np.log((p * hits).sum(axis=1)).sum()) / num_items_in_batch
        return loss, lambda dloss=1.0: (p - hits) * np.float32(dloss / num_items_in_batch)

    runs = []
    for options in ({}, {"compute_loss_func": own}):
        model = tiny_peft(dtype=np.float64)
        args = arguments(tmp_path, gradient_accumulation_steps=2, tokens_at_once=7)
        Trainer(model, args, ROWS, **options).train()
        runs.append({name: np.frombuffer(value) for name, value in values(model).items()})
    for name, value in runs[0].items():
        np.testing.assert_allclose(runs[1][name], value, atol=1e-7)


@pytest.mark.parametrize(("name", "number"), [("gpt2", 3), ("bert", 5)])
def test_what_is_divided_by_are_the_labels_that_count(name: str, number: int) -> None:
    """No token comes before a causal model's first label, and none stands at padding."""
    seen: list[Any] = []

    def own(outputs: Any, labels: Any, num_items_in_batch: int) -> Any:
        seen.append((labels.tolist(), num_items_in_batch))
        return 0.0, lambda dloss=1.0: np.zeros_like(outputs.logits)

    batch = {"input_ids": [[3, 5, 2], [6, 2, 0]], "attention_mask": [[1, 1, 1], [1, 1, 0]]}
    output, _ = WithLoss(made(name), own)(**batch, labels=[[3, 5, 2], [6, 2, 7]])
    assert seen == [([[3, 5, 2], [6, 2, -100]], number)] and output.num_items == number


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda outputs, labels, num_items_in_batch: 0.5, r"must return \(loss, backward\).*got float"),
        (lambda outputs, labels, num_items_in_batch: (outputs.logits, print), r"must return \(loss, backward\)"),
        (lambda o, labels, num_items_in_batch: (0.5, lambda d: np.zeros(3)), r"shape \(3,\), where the logits have"),
    ],
)  # fmt: skip
def test_what_is_no_loss_is_refused(tmp_path: Path, own: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Trainer(tiny_peft(), arguments(tmp_path), ROWS, compute_loss_func=own).train()


def test_what_has_no_classes_or_others_is_refused(tmp_path: Path) -> None:
    numbers = [{**example, "labels": float(example["labels"])} for example in ROWS]
    with pytest.raises(ValueError, match="are for classes: labels float64"):
        Trainer(tiny_peft(), arguments(tmp_path, label_smoothing_factor=0.1), numbers).train()
    with pytest.raises(ValueError, match="class_weights has 2 numbers, and there are 3 classes"):
        Trainer(tiny_peft(), arguments(tmp_path, class_weights=[1, 2]), ROWS).train()
    with pytest.raises(ValueError, match="compute_loss_func is the loss"):
        Trainer(tiny_peft(), arguments(tmp_path, class_weights="balanced"), ROWS, compute_loss_func=print).train()
    with pytest.raises(ValueError, match="'balanced' counts the labels of train_dataset, and there is none"):
        Trainer(tiny_peft(), arguments(tmp_path, class_weights="balanced")).evaluate(ROWS)
    unlabelled = [{"input_ids": example["input_ids"]} for example in ROWS]
    with pytest.raises(ValueError, match="training needs labels"):
        Trainer(tiny_peft(), arguments(tmp_path, class_weights="balanced"), unlabelled).train()
    for bad in ({0: 1.0, 1: 2.0, 2: 3.0}, {1.0, 2.0, 3.0}, "equal", [1], [1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="class_weights must be"):
            arguments(tmp_path, class_weights=bad)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_balanced_weights_of_a_vocabulary_are_refused(tmp_path: Path, name: str) -> None:
    data = Dataset([{"input_ids": [3, 4, 1], "labels": [3, 4, 1]}])
    with pytest.raises(ValueError, match=r"'balanced' is for classifiers, and the labels of a \w+ are tokens"):
        Trainer(FAMILIES[name](), arguments(tmp_path, class_weights="balanced"), data).train()
