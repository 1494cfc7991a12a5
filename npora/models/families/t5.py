"""T5 (Raffel et al., 2020): an encoder and a decoder that reads it, with Hugging Face's parameter names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.machine.stored import same_values
from npora.models.body import Body, Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.encoder_decoder import EncoderDecoder, ForConditionalGeneration, shifted_right, up_to_the_last
from npora.models.families.t5_stack import T5Stack
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForSequenceClassification, Headed, ScoredTokens
from npora.models.tokens import Memory, Tokens
from npora.nn import Cache, Dropout, Module, Padding, init
from npora.nn.functional import tanh
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import chain


@dataclass(kw_only=True)
class T5Config(PretrainedConfig):
    """A T5's `config.json`; the defaults are t5-small's."""

    model_type = "t5"
    takes_any_length = True
    aliases: ClassVar = {
        "hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }  # fmt: skip
    fixed: ClassVar = {"is_decoder": False, "is_causal": True}
    sizes = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads")
    activations = ("dense_act_fn",)

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
    is_encoder_decoder: bool = True  # False in the files of its encoder alone
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


class T5Body(Body):
    """What T5's bodies have in common: the token embedding, and the encoder that stands on it."""

    config_class = T5Config
    base_model_prefix = "transformer"
    default_target_modules = ("q", "v")
    input_embeddings = "shared"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    ignored: ClassVar[tuple[str, ...]] = ("EncDecAttention.relative_attention_bias.weight",)  # the first T5s held one

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_factor)
        self.config = config
        self.shared = make.embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, make, self.shared.weight, decoder=False)

    def check_padding(self, padding: Padding, length: int) -> None:
        padding.refuse_gaps("T5 sees distances")


class T5EncoderModel(T5Body):
    """The encoder alone."""

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Pass over the decoder of a whole T5."""
        for key in [key for key in tensors if key.startswith(("decoder.", "lm_head."))]:
            del tensors[key]

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        h, back_encoder = self.encoder(tokens, self.through, rng=rng, read=read, cache=cache)

        def backward(dh: Array) -> None:
            back_encoder(dh)

        return h, backward


class T5Model(EncoderDecoder, T5Body):
    """The encoder, and the decoder that reads it, which stand on one token embedding."""

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        super().__init__(config, rng=rng, dtype=dtype)
        make = Factory(rng, dtype, config.initializer_factor)
        self.decoder = T5Stack(config, make, self.shared.weight, decoder=True)

    def encoded(self, source: Tokens, rng: Rng = None) -> tuple[Array, Callable[[Array], Any]]:
        return self.encoder(source, self.through, rng=rng)

    def decoded(
        self, tokens: Tokens, memory: Memory, rng: Rng, read: Array | None, cache: Cache | None
    ) -> tuple[Array, Callable[[Array], Array | None]]:
        trained = is_trained(self.encoder) or (isinstance(tokens.source, Tokens) and tokens.source.given is not None)
        return self.decoder(tokens, self.through, memory, rng, read, cache, dmemory_is_read=trained)


class T5WithHead(Headed, T5Model):
    """A head beside the two stacks, as the files have it: the model is a body, and its own."""

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        T5Model.__init__(self, config, rng=rng, dtype=dtype)
        self.add_head(config, Factory(rng, dtype, config.initializer_factor))

    @property
    def body(self) -> T5Model:
        return self


class T5ForConditionalGeneration(ForConditionalGeneration, T5WithHead):  # type: ignore[misc]  # it is its own body
    """T5 with a projection to the vocabulary, before which T5 1.0 scales the rows by 1/√m."""

    body_class = T5Model
    base_model_prefix = ""

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """The head is tied unless the file holds another one: transformers writes tie_word_embeddings as true for
        either. What older configs meant by it besides, the scale of the decoder's output, is read first."""
        values.setdefault("scale_decoder_outputs", values.get("tie_word_embeddings", True) is not False)
        head, names = tensors.get("lm_head.weight"), ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
        embedding = next((tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors), None)
        values["tie_word_embeddings"] = head is None or embedding is None or same_values(head, embedding)

    @property
    def scale(self) -> float:
        return float(self.config.d_model**-0.5) if self.config.scale_decoder_outputs else 1.0

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        scale = self.scale
        return h * scale, lambda dz: dz * scale


class T5ClassificationHead(Module):
    """W₂ dropout(tanh(W₁ dropout(x) + b₁)) + b₂.    x [b,m]  →  [b,v]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        self.dense: Module = make.linear(config.d_model, config.d_model)
        self.out_proj: Module = make.linear(config.d_model, config.num_labels)
        self.dropout = Dropout(config.classifier_dropout)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        dropout, dense, out_proj = (partial(layer, rng=rng) for layer in (self.dropout, self.dense, self.out_proj))
        return chain(dropout, dense, tanh, dropout, out_proj)(x)


class T5ForSequenceClassification(ForSequenceClassification):
    """T5 with a head on the decoder's row of each sequence's last end-of-sequence token, where the decoder reads the
    same ids as the encoder, shifted to the right.

    Raises ValueError where a sequence has no `config.eos_token_id`, or another number of them than the rest.
    """

    body_class = T5Model
    inputs = ("input_ids", "attention_mask", "labels")
    head_name = "classification_head"
    ignored = (*T5Model.ignored, "lm_head.weight")

    def add_head(self, config: T5Config, make: Factory) -> None:
        make = Factory(make.rng, make.dtype, config.initializer_factor * config.d_model**-0.5)
        self.classification_head: Module = T5ClassificationHead(config, make)

    def pack(self, input_ids: npt.ArrayLike | None, attention_mask: npt.ArrayLike | None, **others: Any) -> Tokens:
        if input_ids is None:
            raise ValueError(f"{type(self).__name__} looks for ends among input_ids, and reads no inputs_embeds")
        source = self.body.tokens(input_ids, attention_mask, **others)
        ends = np.isin(np.asarray(input_ids), self.config.eos_token_id) & source.of_the_batch.mask  # [b,t]
        counts = ends.sum(axis=1)
        if not counts.all() or len(set(counts)) > 1:
            raise ValueError(
                "each sequence must hold the same number of end-of-sequence tokens, at least one; found "
                f"{counts.tolist()} of config.eos_token_id {self.config.eos_token_id}"
            )
        ids = shifted_right(input_ids, self.config)
        return self.body.tokens(ids, up_to_the_last(ends), source=source)

    def read(self, tokens: Tokens) -> Array:
        """int [b]: each sequence's last row, which follows its last end."""
        return tokens.packing.last_rows()


class T5ForTokenClassification(ScoredTokens):
    """The encoder alone, under the name that the files of this task have for it."""

    body_class = T5EncoderModel
    base_model_prefix = "transformer"
    head_name = "classifier"
    adjust = T5EncoderModel.adjust


class T5ForQuestionAnswering(ForQuestionAnswering, T5WithHead):
    """The scores are of the decoder's rows, where it reads the same ids as the encoder, shifted to the right."""

    body_class = T5Model
    base_model_prefix = ""
    inputs = ("input_ids", "attention_mask", "labels")
    ignored = (*T5Model.ignored, "lm_head.weight")

    def pack(self, input_ids: npt.ArrayLike | None, attention_mask: npt.ArrayLike | None, **others: Any) -> Tokens:
        if input_ids is None:
            raise ValueError(f"{type(self).__name__} has its decoder read input_ids: it takes no inputs_embeds")
        source = self.body.tokens(input_ids, attention_mask, **others)
        return self.body.tokens(shifted_right(input_ids, self.config), source.of_the_batch.mask, source=source)
