"""What npora writes beside the weights, read by transformers: configs, generation configs, a merged folder whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import AutoModelForCausalLM, AutoModelForSequenceClassification, LoraConfig, get_peft_model
from tests.parity.reference import assert_close, torch, transformers
from tests.shared_data import data

_LLAMA = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1,
          "intermediate_size": 6}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6},
    "roberta": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6},
    "xlm-roberta": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6},
    "electra": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6,
                "embedding_size": 5, "summary_type": "mean"},
    "mpnet": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6},
    "deberta-v2": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6,
                   "relative_attention": True, "pos_att_type": "p2c|c2p", "conv_kernel_size": 0, "cls_dropout": 0.3},
    "modernbert": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 6,
                   "pad_token_id": 0, "cls_token_id": 1, "sparse_prediction": True},
    "distilbert": {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 6, "qa_dropout": 0.3},
    "gpt2": {"n_embd": 8, "n_head": 2, "n_layer": 1, "summary_type": "last", "reorder_and_upcast_attn": True},
    "llama": {
        "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 6, "pretraining_tp": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 37.0},
    },
    "mistral": {**_LLAMA, "sliding_window": None},
    "phi3": {**_LLAMA, "pad_token_id": 0, "partial_rotary_factor": 0.5, "resid_pdrop": 0.1},
    "olmo2": {**_LLAMA, "attention_bias": True},
    "smollm3": {**_LLAMA, "no_rope_layer_interval": 1, "sliding_window": 7, "pad_token_id": 0},
    "qwen2": {**_LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 37.0}},
    "qwen3": {**_LLAMA, "use_sliding_window": True, "max_window_layers": 0, "sliding_window": 7},
    "gemma3_text": {**_LLAMA, "final_logit_softcapping": None},
    "t5": {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_kv": 3, "d_ff": 6, "feed_forward_proj": "gated-gelu"},
}  # fmt: skip
FURTHER = {
    "finetuning_task": "sst2", "task_specific_params": {"x": {"prefix": "p"}}, "use_cache": False, "own": [1, {"a": 2}],
    "id2label": {0: "no", 1: "perhaps", 2: "yes"}, "label2id": {"no": 0, "perhaps": 1, "yes": 2},
}  # fmt: skip


@pytest.mark.parametrize("family", TINY)
def test_a_config_that_went_through_npora_is_equal_in_transformers(tmp_path: Path, family: str) -> None:
    config = transformers.AutoConfig.for_model(family, vocab_size=40, **TINY[family], **FURTHER)
    theirs = transformers.AutoModelForSequenceClassification.from_config(config).double()
    theirs.save_pretrained(tmp_path / "theirs")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs", dtype=np.float64)
    model.save_pretrained(tmp_path / "ours")
    read = [transformers.AutoConfig.from_pretrained(tmp_path / name).to_dict() for name in ("theirs", "ours")]
    for values in read:
        del values["_name_or_path"]  # the directory
    assert read[1] == read[0]
    assert read[1]["id2label"] == FURTHER["id2label"] and read[1]["own"] == FURTHER["own"]


def test_a_merged_folder_is_all_that_transformers_needs(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for path in Path(data("checkpoints", "minilm-l6")).glob("*token*"):
        shutil.copyfile(path, tmp_path / "base" / path.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    config = transformers.BertConfig(vocab_size=len(tokenizer), **TINY["bert"], **FURTHER)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            drawn = np.random.default_rng(number).standard_normal(parameter.shape)
            parameter.data = drawn.astype(np.float32)
    texts = ["naïve café", "Hello, world of [MASK]"]
    encoded = npora.AutoTokenizer.from_pretrained(tmp_path / "base")(texts, padding=True, return_tensors="np")
    expected = model(**encoded)[0].logits
    merged: Any = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert type(again) is type(tokenizer)
    inputs = again(texts, padding=True, return_tensors="pt")
    assert inputs["input_ids"].tolist() == encoded["input_ids"].tolist()
    reads = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    # In float32, two products of up to 24 terms of size 1 a layer: a few hundred roundings of 2⁻²⁴.
    assert_close(expected, reads(**inputs).logits, 2e-5)
    assert reads.config.id2label == FURTHER["id2label"] and reads.config.architectures == [
        "BertForSequenceClassification"
    ]


SAID: list[dict[str, Any]] = [
    {"eos_token_id": [2, 4, 6], "pad_token_id": 1, "max_new_tokens": 9},
    {"eos_token_id": 4, "max_length": 11},
    {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True, "max_new_tokens": 6, "eos_token_id": [2, 4]},
    {"do_sample": True, "top_k": 1, "temperature": 0.5, "max_new_tokens": 5, "eos_token_id": 3},
    {"max_new_tokens": 4, "max_length": 40},
]


@pytest.mark.parametrize("said", SAID, ids=str)
@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_generate_does_what_the_files_say_as_transformers_does(
    tmp_path: Path, said: dict[str, Any], place: str
) -> None:
    config = transformers.GPT2Config(
        vocab_size=13, n_positions=24, **TINY["gpt2"], eos_token_id=5, initializer_range=1.0
    )
    transformers.GPT2LMHeadModel(config).double().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    path = tmp_path / place
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **said}))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    prompts, mask = np.array([[5, 3, 9, 4], [0, 0, 11, 7]]), np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = theirs.generate(torch.tensor(prompts), attention_mask=torch.tensor(mask))
    np.testing.assert_array_equal(ours.generate(prompts, mask), expected.numpy())
    ours.save_pretrained(tmp_path / "again")
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    again = read.generate(torch.tensor(prompts), attention_mask=torch.tensor(mask))
    np.testing.assert_array_equal(again.numpy(), expected.numpy())
