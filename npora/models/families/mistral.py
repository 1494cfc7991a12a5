"""Mistral (Jiang et al., 2023): Llama without biases, whose layers all see a window where the config has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from npora.models.families.llama import LlamaLikeConfig, LlamaModel
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.nn.rules import Rule, causal, window


@dataclass(kw_only=True)
class MistralConfig(LlamaLikeConfig):
    """A Mistral's `config.json`; the defaults are Mistral-7B-v0.1's.

    sliding_window : how many keys a query sees, its own and those just before it; None for all
    """

    model_type = "mistral"
    fixed: ClassVar = {**LlamaLikeConfig.fixed, "layer_types": None}

    intermediate_size: int = 14336
    num_key_value_heads: int = 8
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"config: sliding_window must be at least 1, or null; got {self.sliding_window!r}")

    def rule(self, index: int) -> Rule:
        return causal if self.sliding_window is None else window(self.sliding_window)


class MistralModel(LlamaModel):
    config_class = MistralConfig


class MistralForCausalLM(ForCausalLM):
    body_class = MistralModel


class MistralForSequenceClassification(ScoredSequences):
    body_class = MistralModel


class MistralForTokenClassification(ScoredTokens):
    body_class = MistralModel


class MistralForQuestionAnswering(ForQuestionAnswering):
    body_class = MistralModel
