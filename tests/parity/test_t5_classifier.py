"""T5ForSequenceClassification against transformers' and PEFT, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.lora import LoraConfig, PeftModel, get_peft_model
from npora.models import AutoModelForSequenceClassification
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers
from tests.parity.test_t5 import BACKWARD, BATCH, FORWARD, LOSS, peft, randomized, reference_t5

pytestmark = pytest.mark.usefixtures("t5_norm_in_float64")


def reference_classifier(directory: Path) -> Any:
    reference_t5(directory, "1.0", num_labels=3)
    model = transformers.T5ForSequenceClassification.from_pretrained(directory, dtype=torch.float64).eval()
    model.save_pretrained(directory)
    return model


def test_the_classifier_agrees_and_reads_a_bare_t5(tmp_path: Path) -> None:
    theirs, labels = reference_classifier(tmp_path), np.array([2, 0, 1])
    ours = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=np.float64)
    batch = {"input_ids": np.array([[7, 3, 44, 9, 1], [1, 0, 0, 0, 0], [5, 1, 49, 0, 0]])}
    batch["attention_mask"] = BATCH["attention_mask"]
    output, backward = ours(**batch, labels=labels)
    expected = theirs(**tensors(batch), labels=torch.tensor(labels))
    assert_close(output.logits, expected.logits, FORWARD)
    assert_close(output.loss, expected.loss, LOSS)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == 60 + 4
    reference_t5(tmp_path, "1.1", num_labels=3)
    bare = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=np.float64)
    assert {"transformer.shared.weight", "classification_head.dense.bias"} <= dict(bare.named_parameters()).keys()
    assert not bare.classification_head.dense.bias.data.any()


def test_an_adapter_on_a_classifier_saves_its_head_as_peft_does(tmp_path: Path) -> None:
    base, labels = reference_classifier(tmp_path / "base"), np.array([2, 0, 1])
    config = {"r": 2, "lora_alpha": 3, "modules_to_save": ["classification_head"]}
    theirs = randomized(peft.get_peft_model(base, peft.LoraConfig(**config, target_modules=["q", "v"])))
    theirs.save_pretrained(tmp_path / "adapter")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", dtype=np.float64)
    ours = PeftModel.from_pretrained(plain, tmp_path / "adapter", is_trainable=True)
    batch = {"input_ids": np.array([[7, 3, 44, 9, 1], [6, 1, 0, 0, 0]]), "attention_mask": BATCH["attention_mask"][::2]}
    output, backward = ours(**batch, labels=labels[:2])
    expected = theirs(**tensors(batch), labels=torch.tensor(labels[:2]))
    assert_close(output.logits, expected.logits, FORWARD)
    backward()
    expected.loss.backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def test_an_adapter_that_npora_trains_for_the_task_loads_in_peft_with_its_head(tmp_path: Path) -> None:
    base = reference_classifier(tmp_path / "base")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", dtype=np.float64)
    ours = get_peft_model(plain, LoraConfig(r=2, task_type="SEQ_CLS"))
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    batch = {"input_ids": np.array([[7, 3, 44, 9, 1], [6, 1, 0, 0, 0]]), "attention_mask": BATCH["attention_mask"][::2]}
    assert_close(ours(**batch)[0].logits, theirs(**tensors(batch)).logits, FORWARD)
