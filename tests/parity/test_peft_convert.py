"""convert_to_lora against PEFT's: the same ranks and the same B A, in files that go both ways."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import PeftModel
from npora.files import load_file
from npora.lora import save_as_lora
from tests.parity.reference import BATCH, assert_close, npora_bert, reference_bert, tensors
from tests.parity.test_peft import peft, randomize

KINDS: dict[str, dict[str, Any]] = {
    "LoHaConfig": {"r": 2, "alpha": 5}, "VeraConfig": {"r": 6}, "LoraConfig": {"r": 3, "use_rslora": True},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Converting a PEFT adapter to LoRA that is already a LoRA adapter")
@pytest.mark.parametrize("rank", [3, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_is_pefts(tmp_path: Path, kind: str, rank: float) -> None:
    base = reference_bert(tmp_path / "base")
    targets = ["query", "value"] if kind == "VeraConfig" else ["query", "intermediate.dense"]
    config = getattr(peft, kind)(target_modules=targets, **KINDS[kind])
    theirs = randomize(peft.get_peft_model(copy.deepcopy(base), config)).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    found = save_as_lora(tmp_path / "ours", ours, rank)
    peft.save_as_lora(tmp_path / "theirs", theirs, rank)
    mine, wanted = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs"))
    assert mine.keys() == wanted.keys()
    for name in wanted:
        if "lora_A" in name:
            B = name.replace("lora_A", "lora_B")
            assert mine[name].shape == wanted[name].shape
            # PEFT decomposes in float32
            np.testing.assert_allclose(mine[B] @ mine[name], wanted[B] @ wanted[name], rtol=0, atol=2e-5)
    assert (max(found.errors.values()) > 0.01) == (kind != "LoraConfig" or rank != 3)
    again = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "ours").eval()
    back = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "ours")
    assert_close(back(**BATCH)[0].logits, again(**tensors(BATCH)).logits, 1e-11)
    back = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "theirs")
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "theirs").eval()
    assert_close(back(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-11)
