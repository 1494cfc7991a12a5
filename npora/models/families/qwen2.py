"""Qwen2 and Qwen2.5 (Yang et al., 2024): Llama with biases on q, k and v, and where asked windows in upper layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from npora.models.families.llama import LlamaAttention, LlamaDecoderLayer, LlamaLikeConfig, LlamaModel
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.models.windows import LayerTypesConfig


@dataclass(kw_only=True)
class Qwen2Config(LayerTypesConfig, LlamaLikeConfig):
    """A Qwen2's `config.json`; the defaults are transformers'.

    use_sliding_window : whether the layers from number `max_window_layers` on see a window
    """

    model_type = "qwen2"

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_key_value_heads: int = 32
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28

    def width(self) -> int | None:
        return self.sliding_window if self.use_sliding_window else None

    def slides(self, index: int) -> bool:
        return self.sliding_window is not None and index >= self.max_window_layers


class Qwen2Attention(LlamaAttention):
    def biases(self, config: Any) -> tuple[bool, bool]:
        return True, False


class Qwen2DecoderLayer(LlamaDecoderLayer):
    attention_class = Qwen2Attention


class Qwen2Model(LlamaModel):
    config_class = Qwen2Config
    layer_class: ClassVar = Qwen2DecoderLayer


class Qwen2ForCausalLM(ForCausalLM):
    body_class = Qwen2Model


class Qwen2ForSequenceClassification(ScoredSequences):
    body_class = Qwen2Model


class Qwen2ForTokenClassification(ScoredTokens):
    body_class = Qwen2Model


class Qwen2ForQuestionAnswering(ForQuestionAnswering):
    body_class = Qwen2Model
    base_model_prefix = "transformer"  # the files' name for the body, in this task alone
