"""What a T5's `config.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from npora.models.config import PretrainedConfig


@dataclass(kw_only=True)
class T5Config(PretrainedConfig):
    """A T5's `config.json`; the defaults are t5-small's."""

    model_type = "t5"
    takes_any_length = True
    aliases: ClassVar = {
        "hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }  # fmt: skip
    fixed: ClassVar = {"is_decoder": False, "is_encoder_decoder": True, "is_causal": True}
    sizes = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads")
    activation_field = "dense_act_fn"

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    classifier_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool | None = None
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = None

    def __post_init__(self) -> None:
        kind = self.feed_forward_proj.split("-")
        if len(kind) > 2 or (len(kind) == 2 and kind[0] != "gated"):
            raise ValueError(
                f"config: feed_forward_proj {self.feed_forward_proj!r} must be an activation, or 'gated-' and one"
            )
        super().__post_init__()
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        if self.scale_decoder_outputs is None:  # T5 1.0 scales and ties, 1.1 does neither
            self.scale_decoder_outputs = self.tie_word_embeddings
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.pad_token_id
        for name in ("num_layers", "num_decoder_layers"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"config: {name} must be at least 1, for the first layer holds the position bias")
        buckets, longest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4 or longest <= buckets // 2:
            raise ValueError(
                "config: relative_attention_num_buckets must be at least 4, and relative_attention_max_distance more "
                f"than half of it; got {buckets} and {longest}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> T5Config:
        """As PretrainedConfig.from_dict. Raises ValueError where what transformers writes beside feed_forward_proj, and
        prefers to it, says something else."""
        config = super().from_dict(values)
        for name in ("dense_act_fn", "is_gated_act"):
            if values.get(name, getattr(config, name)) != getattr(config, name):
                raise ValueError(
                    f"config: {name}={values[name]!r} contradicts feed_forward_proj {config.feed_forward_proj!r}: "
                    "leave one of them out"
                )
        return config

    @property
    def is_gated_act(self) -> bool:
        return "-" in self.feed_forward_proj

    @property
    def dense_act_fn(self) -> str:
        name = self.feed_forward_proj.split("-")[-1]
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else name
