"""Ten steps of training against torch and PEFT, in float64."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import npora
from npora import PeftModel
from npora.optim import AdamW, clip_grad_norm, get_schedule
from npora.train.optimizer import make_optimizer
from tests.parity.reference import LABELS, assert_close, npora_bert, reference_bert, tensors, torch, transformers
from tests.parity.test_peft import complete, randomize

FAMILIES = {
    "Bert": ("SequenceClassification", ["query"], ["attention.output.LayerNorm", "pooler"]),
    "Roberta": ("MaskedLM", ["query"], ["lm_head.layer_norm", "embeddings.LayerNorm"]),
    "DistilBert": ("TokenClassification", ["q_lin"], ["sa_layer_norm", "classifier"]),
    "GPT2": ("SequenceClassification", ["c_attn"], ["ln_1", "ln_f", "score"]),
    "Llama": ("SequenceClassification", ["q_proj"], ["input_layernorm", "model.norm", "embed_tokens"]),
    "T5": ("ConditionalGeneration", ["q"], ["final_layer_norm", "relative_attention_bias", "lm_head"]),
}
SMALL = {
    "vocab_size": 11, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1,
    "intermediate_size": 5, "n_embd": 8, "n_head": 2, "n_layer": 1, "dim": 8, "n_heads": 2, "n_layers": 1,
    "hidden_dim": 5, "d_model": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1, "d_ff": 5, "pad_token_id": 0,
    "decoder_start_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize("bias", ["none", "all", None])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_decays_is_what_decays_in_transformers(family: str, bias: str | None) -> None:
    """In whole models (None) and where an adapter trains norms, biases and heads."""
    head, targets, saved = FAMILIES[family]
    made = [getattr(module, f"{family}Config") for module in (npora.models, transformers)]
    known = SMALL.keys() & {field.name for field in dataclasses.fields(made[0])}
    values = {name: SMALL[name] for name in known}
    ours, theirs = (
        getattr(module, f"{family}For{head}")(config(**values))
        for module, config in zip((npora.models, transformers), made, strict=True)
    )
    if bias is not None:
        config = {"r": 2, "target_modules": targets, "modules_to_save": saved, "bias": bias}
        ours, theirs = (
            npora.get_peft_model(ours, npora.LoraConfig(**config)),
            peft.get_peft_model(theirs, peft.LoraConfig(**config)),
        )
    names = transformers.Trainer.get_decay_parameter_names(None, theirs)
    expected = {name: name in names for name, p in theirs.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(ours, npora.TrainingArguments(weight_decay=0.5))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    found = {name: id(p) in decayed for name, p in ours.named_parameters() if p.requires_grad}
    assert found == expected and len(set(expected.values())) == 2


peft = pytest.importorskip("peft", reason="needs the extra `parity`")


def test_ten_steps_give_the_same_weights(tmp_path: Path) -> None:
    theirs = randomize(peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete({}))))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    mine = AdamW([p for p in ours.parameters() if p.requires_grad], 1e-2)
    other = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], 1e-2)
    factor, rng = get_schedule("linear", 0, 10), np.random.default_rng(0)
    for step in range(10):
        mask = (np.arange(6) < rng.integers(1, 7, 3)[:, None]).astype(np.int64)
        batch = {"input_ids": rng.integers(0, 50, (3, 6)), "attention_mask": mask}
        for optimizer in (mine, other):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = 1e-2 * factor(step)
        _, backward = ours(**batch, labels=LABELS)
        backward()
        theirs(**tensors(batch), labels=torch.tensor(LABELS)).loss.backward()
        norm = clip_grad_norm(ours.parameters(), 1.0)
        assert norm > 1.0  # so that clipping takes part
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0).item(), rel=1e-10)
        mine.step()
        other.step()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        # Adam divides by √v̂: a gradient's error of 1e-14 of its size is 1e-14 of a step of 1e-2, ten times.
        assert_close(parameter.data, expected[name], 1e-10)
