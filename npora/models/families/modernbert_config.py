"""What a ModernBERT's `config.json` says: its fields, which keys each layer sees, and the bases of its angles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from npora.models.rope import unscaled
from npora.models.windows import FULL, SLIDING, LayerTypesConfig, by_kinds
from npora.nn.functional import around, everything
from npora.nn.rules import Rule


@dataclass(kw_only=True)
class ModernBertConfig(LayerTypesConfig):
    """A ModernBERT's `config.json`; the defaults are ModernBERT-base's.

    layer_types : each layer's; unless given each `global_attn_every_n_layers`th sees all, from the first on
    local_attention : a token of the other layers sees half of so many before it, and as many behind it
    global_rope_theta, local_rope_theta : the bases of the angles, of each kind of layer; `rope_parameters` may say them
    classifier_pooling : what a class is read from, "cls" for the first token, "mean" for the mean of all
    """

    model_type = "modernbert"
    multiples: ClassVar = {"hidden_size": "num_attention_heads"}
    positive = ("global_rope_theta", "local_rope_theta")
    activations = ("hidden_activation", "classifier_activation")
    takes_any_length = True
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "global_attn_every_n_layers", "local_attention")  # fmt: skip

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    attention_dropout: float = 0.0
    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: str = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    pad_token_id: int | None = 50283
    bos_token_id: int | None = 50281
    eos_token_id: int | list[int] | None = 50282
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim % 2:
            raise ValueError(f"config: a head must have an even number of features, to be turned; got {self.head_dim}")
        if self.classifier_pooling not in ("cls", "mean"):
            raise ValueError(f"config: classifier_pooling must be cls or mean; got {self.classifier_pooling!r}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def rope_parameters(self) -> dict[str, dict[str, Any]]:
        """Both bases as newer files say them."""
        thetas = {FULL: self.global_rope_theta, SLIDING: self.local_rope_theta}
        return {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()}

    def width(self) -> int:
        return self.local_attention // 2

    def slides(self, index: int) -> bool:
        return index % self.global_attn_every_n_layers > 0

    def rule(self, index: int) -> Rule:
        return around(self.width()) if self.layer_types[index] == SLIDING else everything

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """rope_parameters by kinds of layers in the fields that older files have; a sliding_window is half a
        local_attention.

        Raises
        ------
        ValueError: another kind of layer, or angles that are scaled.
        """
        values = dict(values)
        if type(half := values.get("sliding_window")) is int:
            values["local_attention"] = 2 * half
            del values["sliding_window"]
        rope = by_kinds(values.pop("rope_parameters", None))
        for name, kind in ("global_rope_theta", FULL), ("local_rope_theta", SLIDING):
            for field, part in (("rope_parameters", rope.get(kind)), ("rope_scaling", values.get("rope_scaling"))):
                values |= {} if (theta := unscaled(field, part)) is None else {name: theta}
        return values

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        values.pop("sliding_window", None)
        return {**values, "rope_parameters": self.rope_parameters}
