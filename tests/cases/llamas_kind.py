"""The families that vary Llama: Mistral, Qwen2, Qwen3, Gemma 3."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.models.families.gemma3 import Gemma3DecoderLayer, Gemma3ForCausalLM, Gemma3TextForSequenceClassification
from npora.models.families.mistral import MistralForCausalLM, MistralForTokenClassification
from npora.models.families.qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM
from npora.models.families.qwen3 import Qwen3DecoderLayer, Qwen3ForCausalLM
from npora.models.pretrained import Factory
from npora.nn.functional import frequencies, rotation
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import PACKING

TURN = rotation(np.array([0, 1, 2, 7, 3, 4, 5, 6]), frequencies(2, 50.0), np.float64)
LAYER: dict[str, Any] = {
    "vocab_size": 8, "hidden_size": 6, "intermediate_size": 7, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 2, "attention_dropout": 0.2, "sliding_window": 2, "rms_norm_eps": 0.1,
}  # fmt: skip
TINY: dict[str, Any] = {
    "vocab_size": 7, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4, "num_labels": 3, "pad_token_id": 0, "rms_norm_eps": 0.1,
    "rope_theta": 30.0, "attention_dropout": 0.1, "sliding_window": 2,
}  # fmt: skip
SLIDING = {"use_sliding_window": True, "max_window_layers": 0}
GEMMA = {"query_pre_attn_scalar": 3, "sliding_window_pattern": 2, "rope_local_base_freq": 20.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 0.5, "high_freq_factor": 3.0,
    "original_max_position_embeddings": 9,
}  # fmt: skip
IDS = np.array([[3, 5, 3, 6], [1, 4, 2, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
BATCH = {"attention_mask": MASK, "labels": np.array([[-100, 5, 3, 6], [1, 4, 2, -100]])}
CLASSES = np.array([[0, 2, -100, 1], [-100] * 4])


def layer(kind: Any, model: Any, **fields: Any) -> Case:
    config = model.config_class(**{**LAYER, **fields})
    return Case(
        kind.__name__,
        module(lambda: kind(config, Factory(1, np.float32, 0.02), 0)),
        (draw(8, 6),),
        {"view": View(PACKING), "turn": TURN, "rng": np.random.default_rng(8)},
    )


def whole(kind: Any, what: str = "", keywords: dict[str, Any] = BATCH, **fields: Any) -> Case:
    config = kind.config_class(**{**TINY, **fields})
    return Case(
        kind.__name__ + what,
        module(lambda: Outputs(kind(config, rng=1))),
        (IDS,),
        {**keywords, "rng": np.random.default_rng(10)},
        whole_model=True,
    )


CASES = [
    layer(Qwen2DecoderLayer, Qwen2ForCausalLM, **SLIDING),
    layer(Qwen3DecoderLayer, Qwen3ForCausalLM, attention_bias=True),
    layer(Gemma3DecoderLayer, Gemma3ForCausalLM, **GEMMA),
    whole(MistralForCausalLM, ", loss"),
    whole(MistralForCausalLM, ", logits", {"attention_mask": MASK}, rope_scaling=LLAMA3),
    whole(MistralForTokenClassification, "", {"attention_mask": MASK, "labels": CLASSES}),
    whole(Qwen2ForCausalLM, ", loss", tie_word_embeddings=True, **SLIDING),
    whole(Qwen3ForCausalLM, ", loss", rope_scaling={"rope_type": "linear", "factor": 3.0}),
    whole(Gemma3ForCausalLM, ", loss", **GEMMA),
    whole(Gemma3TextForSequenceClassification, "", {"attention_mask": MASK, "labels": np.array([2, 0])}, **GEMMA),
]
