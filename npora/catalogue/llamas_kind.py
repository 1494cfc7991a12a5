"""The families that vary Llama: Mistral, Phi-3, OLMo 2, SmolLM3, Qwen2, Qwen3, Gemma 3."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npora.catalogue.batches import decoder, next_tokens, of_sentences, of_tokens, part
from npora.catalogue.layers import PACKING
from npora.catalogue.llama import SIZES, TURN, VARIED, drawn
from npora.catalogue.row import Row
from npora.models.families.gemma3 import Gemma3DecoderLayer, Gemma3ForCausalLM, Gemma3TextForSequenceClassification
from npora.models.families.mistral import MistralForCausalLM, MistralForTokenClassification
from npora.models.families.olmo2 import Olmo2DecoderLayer, Olmo2ForCausalLM
from npora.models.families.phi3 import Phi3DecoderLayer, Phi3ForCausalLM
from npora.models.families.qwen2 import Qwen2DecoderLayer, Qwen2ForCausalLM
from npora.models.families.qwen3 import Qwen3DecoderLayer, Qwen3ForCausalLM
from npora.models.families.smollm3 import SmolLM3DecoderLayer, SmolLM3ForCausalLM, SmolLM3ForTokenClassification
from npora.nn.view import View

WINDOW: dict[str, Any] = {"sliding_window": 2}
QWEN2: dict[str, Any] = {"use_sliding_window": True, "max_window_layers": 1, **WINDOW}
LONG: dict[str, Any] = {
    "head_dim": 6, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 9, "resid_pdrop": 0.1,
    "rope_scaling": {"rope_type": "longrope", "short_factor": [1.5, 4.0], "long_factor": [2.0, 9.0], "factor": 3.0},
    **WINDOW,
}  # fmt: skip
SMOL: dict[str, Any] = {"no_rope_layer_interval": 2, "pad_token_id": 0}
BIASED: dict[str, Any] = {**SMOL, **WINDOW, "use_sliding_window": True, "attention_bias": True}
GEMMA: dict[str, Any] = {"query_pre_attn_scalar": 3, "sliding_window_pattern": 2, **WINDOW}
LLAMA3 = {
    "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 0.5, "high_freq_factor": 3.0,
    "original_max_position_embeddings": 9,
}  # fmt: skip


def layer(kind: Any, model: Any, **fields: Any) -> Row:
    config = model.config_class(**{**SIZES, "head_dim": 2, "attention_dropout": 0.2, **fields})
    return Row(kind.__name__, part(partial(kind, index=0), config, (8, 5), view=View(PACKING), turn=TURN))


def varied(model: Any, **fields: Any) -> Any:
    return model.config_class(**{**VARIED, **fields})


def family(name: str, model: Any, **fields: Any) -> Iterator[Row]:
    yield Row(name, decoder(model, drawn(model, **fields), next_tokens))
    yield Row(f"lora_{name}", decoder(model, drawn(model, **fields), next_tokens, adapted=True))


ROWS = [
    *family("mistral", MistralForCausalLM, **WINDOW),
    Row("mistral, logits", decoder(MistralForCausalLM, varied(MistralForCausalLM, rope_scaling=LLAMA3, **WINDOW))),
    Row(
        "MistralForTokenClassification",
        decoder(MistralForTokenClassification, varied(MistralForTokenClassification, **WINDOW), of_tokens(3)),
    ),
    layer(Phi3DecoderLayer, Phi3ForCausalLM, resid_pdrop=0.1, pad_token_id=0),
    *family("phi3", Phi3ForCausalLM, pad_token_id=0),
    Row("phi3, heads turned in part", decoder(Phi3ForCausalLM, varied(Phi3ForCausalLM, **LONG), next_tokens)),
    layer(Olmo2DecoderLayer, Olmo2ForCausalLM, attention_bias=True),
    *family("olmo2", Olmo2ForCausalLM, pad_token_id=0),
    layer(SmolLM3DecoderLayer, SmolLM3ForCausalLM, mlp_bias=True, pad_token_id=0),
    *family("smollm3", SmolLM3ForCausalLM, **SMOL),
    Row(
        "smollm3, biases, a window",
        decoder(SmolLM3ForTokenClassification, varied(SmolLM3ForTokenClassification, **BIASED), of_tokens(3)),
    ),
    layer(Qwen2DecoderLayer, Qwen2ForCausalLM, **{**QWEN2, "max_window_layers": 0}),
    *family("qwen2", Qwen2ForCausalLM, **QWEN2),
    Row(
        "qwen2, tied",
        decoder(Qwen2ForCausalLM, varied(Qwen2ForCausalLM, tie_word_embeddings=True, **QWEN2), next_tokens),
    ),
    layer(Qwen3DecoderLayer, Qwen3ForCausalLM, attention_bias=True),
    *family("qwen3", Qwen3ForCausalLM),
    Row(
        "qwen3, scaled angles",
        decoder(
            Qwen3ForCausalLM, varied(Qwen3ForCausalLM, rope_scaling={"rope_type": "linear", "factor": 3.0}), next_tokens
        ),
    ),
    layer(Gemma3DecoderLayer, Gemma3ForCausalLM, **GEMMA),
    *family("gemma3", Gemma3ForCausalLM, **GEMMA),
    Row(
        "gemma3, another local base",
        decoder(Gemma3ForCausalLM, varied(Gemma3ForCausalLM, rope_local_base_freq=20.0, **GEMMA), next_tokens),
    ),
    Row(
        "Gemma3TextForSequenceClassification",
        decoder(
            Gemma3TextForSequenceClassification, varied(Gemma3TextForSequenceClassification, **GEMMA), of_sentences
        ),
    ),
]
