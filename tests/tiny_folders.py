"""Checkpoints of each family small enough for a test, as folders with a tokenizer of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npora import models
from npora.files import write_json
from tests.tiny import spread

WORDS = ["<pad>", "<unk>", "<s>", "</s>", "good", "bad", "film", "plot", "a", "the", "very", "was", "red", "green"]
_ENCODER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 28,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 24,
}  # fmt: skip
_ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _ENCODER),
    "roberta": ("Roberta", {**_ENCODER, "type_vocab_size": 1, **_ENDS, "max_position_embeddings": 25}),
    "xlm-roberta": ("XLMRoberta", {**_ENCODER, **_ENDS, "max_position_embeddings": 25}),
    "electra": ("Electra", {**_ENCODER, "embedding_size": 24, "pad_token_id": 0}),
    "mpnet": ("MPNet", {**_ENCODER, **_ENDS, "pad_token_id": 1, "max_position_embeddings": 26}),
    "deberta-v2": (
        "DebertaV2",
        {**_ENCODER, "pad_token_id": 0, "relative_attention": True, "position_buckets": 4, "pos_att_type": "p2c|c2p",
         "share_att_key": True, "position_biased_input": False},
    ),
    "modernbert": (
        "ModernBert",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 28,
         "local_attention": 4, "max_position_embeddings": 24, "pad_token_id": 0},
    ),
    "distilbert": (
        "DistilBert",
        {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 28, "dropout": 0.0, "attention_dropout": 0.0,
         "seq_classif_dropout": 0.0, "max_position_embeddings": 24},
    ),
    "gpt2": (
        "GPT2",
        {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
         "attn_pdrop": 0.0, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "llama": (
        "Llama",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
         "intermediate_size": 28, "max_position_embeddings": 24, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "qwen3": (
        "Qwen3",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
         "intermediate_size": 28, "max_position_embeddings": 24, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "t5": (
        "T5",
        {"d_model": 16, "d_kv": 7, "num_heads": 2, "d_ff": 28, "num_layers": 1, "dropout_rate": 0.0,
         "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0},
    ),
}  # fmt: skip
BODIES = {"t5": "ForConditionalGeneration", "gpt2": "LMHeadModel", **dict.fromkeys(("llama", "qwen3"), "ForCausalLM")}
_ENDED = (
    "bert",
    "roberta",
    "xlm-roberta",
    "electra",
    "mpnet",
    "deberta-v2",
    "modernbert",
    "distilbert",
    "t5",
)  # families whose tokenizers put something around a text


def save_tokenizer(directory: Path, family: str) -> None:
    """tokenizer.json and tokenizer_config.json: words, and around them what the family has."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<pad>", "<unk>", "<s>", "</s>"])
    if family in _ENDED:
        first = [] if family == "t5" else ["<s>"]
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=[*first, "$A", "</s>"],
            pair=[*first, "$A", "</s>", "$B:1", "</s>:1"],
            special_tokens=[("<s>", 2), ("</s>", 3)],
        )
    backend.save(str(directory / "tokenizer.json"))
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (family == "bert")
    roles = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
    write_json(directory / "tokenizer_config.json", {**kind, **roles})


def save_folder(directory: Path, family: str, head: str | None = None, **fields: Any) -> str:
    """A checkpoint: with a head, as `ForSequenceClassification`, or of the body alone."""
    name, sizes = FAMILIES[family]
    config = getattr(models, f"{name}Config")(vocab_size=len(WORDS), **{**sizes, **fields})
    body = BODIES.get(family, "ForMaskedLM")
    spread(getattr(models, name + (head or body))(config, rng=1), seed=1).save_pretrained(directory)
    save_tokenizer(directory, family)
    return str(directory)
