"""Multiple choice by hand: a classifier of one class over the choices, whose scores meet in the loss; and that it is
learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.models import AutoModelForSequenceClassification, ElectraConfig, RobertaConfig, RobertaForMultipleChoice
from npora.nn import functional as F
from npora.train.micro_batches import cut
from tests.tiny_encoders import SIZES, tiny_encoder

IDS = np.array([[[7, 3, 24, 9], [30, 5, 0, 0], [6, 0, 0, 0]], [[5, 8, 29, 0], [4, 4, 0, 0], [9, 3, 12, 0]]])
MASK = (IDS > 0).astype(int)
LABELS = np.array([2, 0])
SAME_HEAD = ("bert", "distilbert", "deberta-v2", "modernbert")


def by_hand(z: Any, labels: Any) -> float:
    return float(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(z, labels, strict=True)]))


@pytest.mark.parametrize("family", SAME_HEAD)
def test_scores_are_those_of_a_classifier_of_one_class(family: str) -> None:
    pooling = {"classifier_pooling": "mean"} if family == "modernbert" else {}
    model = tiny_encoder(family, "MultipleChoice", np.float64, **pooling)
    kind: Any = AutoModelForSequenceClassification.classes[family]
    one = kind(kind.config_class(**{**SIZES[family], "num_labels": 1, **pooling}), rng=0, dtype=np.float64)
    for name, parameter in one.named_parameters():
        parameter.data = model.get_parameter(name).data
    expected = one(IDS.reshape(6, 4), MASK.reshape(6, 4))[0].logits.reshape(2, 3)
    output, _ = model(IDS, MASK, labels=LABELS)
    np.testing.assert_allclose(output.logits, expected, rtol=0, atol=1e-14)
    assert output.loss == pytest.approx(by_hand(expected, LABELS), rel=1e-13) and output.num_items == 2
    assert np.ptp(output.logits) > 0.01


@pytest.mark.parametrize("family", SIZES)
def test_every_family_scores_each_choice_and_its_logits_have_their_own_pullback(family: str) -> None:
    model = tiny_encoder(family, "MultipleChoice", np.float64)
    output, backward = model(IDS, MASK)
    assert output.loss is None and output.num_items == 0 and output.logits.shape == (2, 3)
    dlogits = np.random.default_rng(5).standard_normal((2, 3))
    backward(dlogits)
    weight = model.classifier.weight
    assert weight.shape == (1, 6) and list(model.idle_parameters()) == ["classifier.bias"]
    step = np.random.default_rng(6).standard_normal(weight.shape)
    start, sides = weight.data, []
    for sign in (1, -1):
        weight.data = start + sign * 1e-6 * step
        sides.append((model(IDS, MASK)[0].logits * dlogits).sum())
    assert (sides[0] - sides[1]) / 2e-6 == pytest.approx((weight.grad * step).sum(), rel=1e-6)
    weight.data = start
    alone = model(IDS[1:2, 1:2, :2])[0].logits
    np.testing.assert_allclose(alone, output.logits[1:2, 1:2], rtol=0, atol=1e-12)


def test_an_example_without_a_label_does_not_count() -> None:
    model = tiny_encoder("bert", "MultipleChoice", np.float64)
    output, _ = model(IDS, MASK, labels=np.array([-100, 1]))
    assert output.loss == pytest.approx(by_hand(output.logits[1:], [1]), rel=1e-13) and output.num_items == 1


def test_types_positions_and_rows_have_the_axis_of_choices() -> None:
    model = tiny_encoder("bert", "MultipleChoice", np.float64)
    types, places = IDS % 2, np.broadcast_to([3, 1, 0, 2], IDS.shape)
    expected = model(IDS, MASK, types, position_ids=places, labels=LABELS)[0]
    rows = model.body.embedding()(IDS.reshape(6, 4))[0].reshape(2, 3, 4, 6)
    output, backward = model(
        attention_mask=MASK, token_type_ids=types, position_ids=places[0, 0], inputs_embeds=rows, labels=LABELS,
        output_hidden_states=True,
    )  # fmt: skip
    assert output.loss == expected.loss != model(IDS, MASK, labels=LABELS)[0].loss
    assert [h.shape for h in output.hidden_states] == [(6, 4, 6)] * 3
    gradient = backward()
    assert gradient.shape == rows.shape and np.array_equal(gradient.any(axis=-1), MASK == 1)


def test_electras_summary_stands_before_its_score() -> None:
    for changes in ({}, {"summary_activation": None}, {"summary_use_proj": False, "summary_activation": "tanh"}):
        model = tiny_encoder("electra", "MultipleChoice", np.float64, **changes)
        model.eval()
        h = model.body(IDS.reshape(6, 4), MASK.reshape(6, 4))[0].last_hidden_state[:, 0]
        if "summary_use_proj" not in changes:
            h = h @ model.sequence_summary.summary.weight.data.T + model.sequence_summary.summary.bias.data
        else:
            assert model.sequence_summary.summary is None
        activation = F.gelu if not changes else F.tanh if "summary_use_proj" in changes else None
        h = h if activation is None else activation(h)[0]
        expected = h @ model.classifier.weight.data.T + model.classifier.bias.data
        np.testing.assert_allclose(model(IDS, MASK)[0].logits, expected.reshape(2, 3), rtol=0, atol=1e-13)
    config = ElectraConfig()
    assert (config.summary_use_proj, config.summary_activation, config.summary_last_dropout) == (True, "gelu", 0.1)
    assert tiny_encoder("electra", "MultipleChoice", summary_last_dropout=0.3).sequence_summary.dropout.p == 0.3
    with pytest.raises(ValueError, match="summary_activation 'prelu' is not one of"):
        ElectraConfig(summary_activation="prelu")


@pytest.mark.parametrize(
    ("field", "usual", "other"),
    [("summary_type", "first", "last"), ("summary_first_dropout", 0.0, 0.2), ("summary_proj_to_labels", False, True)],
)
def test_another_summary_of_electra_is_refused_where_it_is_read(field: str, usual: Any, other: Any) -> None:
    assert tiny_encoder("electra", "MultipleChoice", kept={field: usual})
    assert tiny_encoder("electra", "SequenceClassification", kept={field: other})
    with pytest.raises(ValueError, match=f"{field}={other!r} is not supported; only {usual!r} is"):
        tiny_encoder("electra", "MultipleChoice", kept={field: other})


def test_robertas_head_drops_what_the_layers_drop() -> None:
    config = RobertaConfig(**SIZES["roberta"], hidden_dropout_prob=0.3, classifier_dropout=0.2)
    assert RobertaForMultipleChoice(config).dropout.p == 0.3
    assert tiny_encoder("bert", "MultipleChoice", classifier_dropout=0.2).dropout.p == 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_ids": IDS[0]}, r"input_ids must be \[batch, choices, length\]; got shape \(3, 4\)"),
        ({"input_ids": np.zeros((2, 0, 5), int)}, r"input_ids must have a choice at least; got shape \(2, 0, 5\)"),
        ({"inputs_embeds": np.zeros((2, 0, 5, 6))}, "inputs_embeds must have a choice at least"),
        ({"inputs_embeds": np.zeros((2, 3, 6))}, r"inputs_embeds must be \[batch, choices, length, width\]; got shape"),
        ({"input_ids": IDS, "labels": np.array([[2, 0]])}, r"whole numbers \[2\]; got int64 of shape \(1, 2\)"),
        ({"input_ids": IDS, "labels": np.array([1.0, 0.0])}, "got float64 of shape"),
        ({"input_ids": IDS, "labels": np.array([3, 0])}, "3"),
        ({"input_ids": IDS, "attention_mask": MASK[:, :2]}, "they must agree"),
    ],
)
def test_what_is_no_choice_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_encoder("bert", "MultipleChoice")(**given)


@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_is_cut_between_examples_by_the_tokens_of_all_their_choices(masked: bool) -> None:
    batch = {
        "input_ids": np.arange(60).reshape(4, 3, 5),
        **({"attention_mask": np.ones((4, 3, 5), int)} if masked else {}),
    }
    assert [len(part["input_ids"]) for part in cut(batch, 60)] == [4]
    parts = list(cut(batch, 20))
    assert [len(part["input_ids"]) for part in parts] == [1, 1, 1, 1]
    assert np.array_equal(np.concatenate([part["input_ids"] for part in parts]), batch["input_ids"])


def test_a_trainer_learns_which_choice_is_right(tmp_path: Path) -> None:
    """The right one holds the token that the others lack; choices are of unequal lengths."""
    rng, examples = np.random.default_rng(0), []
    for _ in range(24):
        ids = [rng.integers(3, 20, rng.integers(1, 5)).tolist() for _ in range(3)]
        label = int(rng.integers(0, 3))
        ids[label].append(21)
        examples.append({"input_ids": ids, "attention_mask": [[1] * len(own) for own in ids], "label": label})
    model = get_peft_model(
        tiny_encoder("bert", "MultipleChoice", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS"),
    )
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=40, learning_rate=3e-2, per_device_train_batch_size=12, save_strategy="no"
    )
    trainer = Trainer(model, arguments, examples, examples)
    trainer.train()
    found = trainer.predict(examples)
    labels = [example["label"] for example in examples]
    assert found.predictions.shape == (24, 3) and found.label_ids.tolist() == labels
    assert (found.predictions.argmax(axis=1) == labels).mean() > 0.9
