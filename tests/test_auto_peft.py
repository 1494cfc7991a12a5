"""A base and its adapter come from the adapter's folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import (
    AutoModelForSequenceClassification,
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    get_peft_model,
)
from tests.tiny import tiny_bert

IDS = np.array([[3, 5, 7, 2], [4, 6, 2, 2]])


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    """An adapter's folder, and the logits of the model that wrote it."""
    tiny_bert(num_labels=3).bert.save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=2)
    model = get_peft_model(
        base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", model(IDS)[0].logits


def test_the_model_that_was_saved_comes_back(saved: tuple[Path, Any]) -> None:
    folder, logits = saved
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder)
    assert model(IDS)[0].logits.tobytes() == logits.tobytes()
    assert model.get_nb_trainable_parameters()[0] == 0 and model.active_adapters == ["default"]
    model = AutoPeftModelForSequenceClassification.from_pretrained(folder, "mine", is_trainable=True, dtype=np.float64)
    assert model.get_nb_trainable_parameters()[0] > 0 and model.active_adapters == ["mine"]
    np.testing.assert_allclose(model(IDS)[0].logits, logits, rtol=0, atol=1e-4)
    assert model(IDS)[0].logits.dtype == np.float64


def test_another_task_or_an_unknown_base_is_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    with pytest.raises(ValueError, match="is for the task SEQ_CLS, and AutoPeftModelForCausalLM for CAUSAL_LM"):
        AutoPeftModelForCausalLM.from_pretrained(folder)
    get_peft_model(tiny_bert(), LoraConfig(target_modules=["query"])).save_pretrained(tmp_path / "nameless")
    with pytest.raises(ValueError, match="does not say which model it was trained on"):
        AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "nameless")
