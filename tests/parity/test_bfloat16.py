"""A checkpoint that transformers wrote in bfloat16 and that stays so, against torch's float32 of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model, models
from npora.stored import BFloat16

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
peft = pytest.importorskip("peft", reason="needs the extra `parity`")

KINDS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {
        "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 35,
        "num_hidden_layers": 2, "vocab_size": 50, "tie_word_embeddings": True, "initializer_range": 0.3,
    },
    "BertForSequenceClassification": {
        "hidden_size": 24, "num_attention_heads": 6, "intermediate_size": 35, "num_hidden_layers": 2, "vocab_size": 50,
        "num_labels": 3, "initializer_range": 0.3,
    },
    "GPT2LMHeadModel": {
        "n_embd": 24, "n_head": 6, "n_layer": 2, "n_positions": 15, "vocab_size": 50, "initializer_range": 0.3,
        "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
    },
}  # fmt: skip
IDS = np.random.default_rng(0).integers(3, 50, (2, 9))


@pytest.mark.parametrize("name", KINDS)
def test_logits_and_gradients_are_those_of_torch_in_float32_on_the_same_weights(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, name).config_class(**KINDS[name])
    getattr(transformers, name)(config).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    ours: Any = get_peft_model(
        getattr(models, name).from_pretrained(tmp_path / "base", dtype="bfloat16"),
        LoraConfig(r=3, lora_dropout=0, init_lora_weights=False, bias="none"),
    )
    ours.save_pretrained(tmp_path / "adapter")
    base = getattr(transformers, name).from_pretrained(tmp_path / "base", dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True).eval()
    labels = np.array([2, 0]) if "Sequence" in name else IDS
    output, backward = ours(IDS, labels=labels)
    backward()
    expected = theirs(torch.tensor(IDS), labels=torch.tensor(labels))
    expected.loss.backward()
    logits = expected.logits.detach().numpy()
    assert isinstance(ours.get_base_model().get_parameter(matrix_of(ours)).data, BFloat16)
    # Values pass through two layers with sums of up to 35 numbers: some hundred roundings of 2⁻²⁴.
    assert np.abs(np.asarray(ours(IDS)[0].logits) - logits).max() <= 1e-5 * np.abs(logits).max()
    assert float(output.loss) == pytest.approx(expected.loss.item(), rel=1e-5)
    mine = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    assert mine.keys() == gradients.keys() and mine
    for key, gradient in gradients.items():
        assert np.abs(mine[key] - gradient).max() <= 1e-4 * np.abs(gradient).max(), key


def matrix_of(model: PeftModel) -> str:
    return next(n for n, p in model.get_base_model().named_parameters() if "base_layer.weight" in n and not p.grad)
