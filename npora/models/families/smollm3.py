"""SmolLM3 (Hugging Face, 2025): Llama of which each so manieth layer sees no positions, and where asked a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from npora.files.refusal import shortened
from npora.models.families.llama import LlamaAttention, LlamaDecoderLayer, LlamaLikeConfig, LlamaModel, Turn
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.models.windows import LayerTypesConfig
from npora.nn.module import Array


@dataclass(kw_only=True)
class SmolLM3Config(LayerTypesConfig, LlamaLikeConfig):
    """A SmolLM3's `config.json`; the defaults are transformers'.

    no_rope_layers : for each layer 1 where queries and keys are turned, 0 where they are not; unless given each
        `no_rope_layer_interval`th is not
    use_sliding_window : whether those that are not turned see a window, where `layer_types` does not say
    """

    model_type = "smollm3"
    sizes = (*LlamaLikeConfig.sizes, "no_rope_layer_interval")

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    rope_theta: float = 2e6
    use_sliding_window: bool = False
    no_rope_layers: list[int] = None  # type: ignore[assignment]  # a list once constructed
    no_rope_layer_interval: int = 4
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    def __post_init__(self) -> None:
        layers, interval, turned = self.num_hidden_layers, self.no_rope_layer_interval, self.no_rope_layers
        if turned is None:
            self._check_kinds({"num_hidden_layers": layers, "no_rope_layer_interval": interval})
            turned = self.no_rope_layers = [int(not interval or (index + 1) % interval > 0) for index in range(layers)]
        super().__post_init__()
        if len(turned) < layers or not {*turned} <= {0, 1}:
            raise ValueError(
                f"config: no_rope_layers must say 0 or 1 for each of {layers} layers; got {shortened(turned)}"
            )

    def slides(self, index: int) -> bool:
        return self.use_sliding_window and self.sliding_window is not None and not self.no_rope_layers[index]


class SmolLM3Attention(LlamaAttention):
    def __init__(self, config: Any, make: Factory, index: int) -> None:
        super().__init__(config, make, index)
        self.is_turned = bool(config.no_rope_layers[index])

    def idle_parameters(self) -> dict[str, slice]:
        """A key's bias that is not turned adds the same to all of a query's scores, which softmax does not see."""
        biases = [name for name, _ in self.named_parameters() if name.startswith("k_proj.") and name.endswith("bias")]
        return {} if self.is_turned else dict.fromkeys(biases, slice(None))


class SmolLM3DecoderLayer(LlamaDecoderLayer):
    attention_class = SmolLM3Attention


class SmolLM3Model(LlamaModel):
    config_class = SmolLM3Config
    layer_class: ClassVar = SmolLM3DecoderLayer

    def turns(self, positions: Array, dtype: npt.DTypeLike) -> Sequence[Turn | None]:
        turns = super().turns(positions, dtype)
        is_turned = self.config.no_rope_layers
        return [turn if is_turned[index] else None for index, turn in enumerate(turns)]


class SmolLM3ForCausalLM(ForCausalLM):
    body_class = SmolLM3Model


class SmolLM3ForSequenceClassification(ScoredSequences):
    body_class = SmolLM3Model


class SmolLM3ForTokenClassification(ScoredTokens):
    body_class = SmolLM3Model


class SmolLM3ForQuestionAnswering(ForQuestionAnswering):
    body_class = SmolLM3Model
    base_model_prefix = "transformer"  # the files' name for the body, in this task alone
