"""What npora export writes is loaded by transformers and by PEFT, and computes there what it computes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig
from npora.models import AutoModelForCausalLM
from tests.test_cli_export import IDS, exported, logits, saved

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
peft = pytest.importorskip("peft", reason="needs the extra `parity`")


def theirs(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformers_loads_a_merged_checkpoint(tmp_path: Path, family: str) -> None:
    _, adapter, model = saved(tmp_path, family, words=True)
    out = exported(tmp_path, "--adapter", adapter, "--to", "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(out)
    np.testing.assert_allclose(theirs(again), logits(model), rtol=0, atol=1e-4)
    assert transformers.AutoTokenizer.from_pretrained(out)("the film")["input_ids"]


def test_transformers_loads_what_was_in_gguf(tmp_path: Path) -> None:
    base, _, _ = saved(tmp_path, words=True)
    (tmp_path / "1").mkdir()
    path = exported(tmp_path / "1", "--model", base, "--to", "gguf", "--numbers", "Q8_0") / "model.gguf"
    out = exported(tmp_path, "--model", str(path), "--to", "hf")
    again = transformers.AutoModelForCausalLM.from_pretrained(out)
    np.testing.assert_allclose(theirs(again), logits(AutoModelForCausalLM.from_pretrained(path)), rtol=0, atol=1e-3)
    words = "the quick  brown fox's 123"
    ours = transformers.AutoTokenizer.from_pretrained(base)(words)["input_ids"]
    assert transformers.AutoTokenizer.from_pretrained(out)(words)["input_ids"] == ours


def test_peft_loads_an_adapter_of_another_method_as_lora(tmp_path: Path) -> None:
    base, adapter, model = saved(tmp_path, config=lambda lora_alpha, **options: HiraConfig(**options))
    out = exported(tmp_path, "--adapter", adapter, "--to", "peft", "--rank", "0.9999999")
    again = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), out)
    np.testing.assert_allclose(theirs(again), logits(model), rtol=0, atol=0.02)
