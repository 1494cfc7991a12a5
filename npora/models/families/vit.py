"""ViT (Dosovitskiy et al., 2020): the patches of an image as tokens, behind one that gathers what the image shows.

Pre-norm: each sublayer is x + dropout(f(LN(x))). Parameters have the names of transformers 5; files have older ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.families.bert_layers import BertSelfAttention
from npora.models.images import ForImageClassification, ImageBody, Patches
from npora.models.pooled import PooledBody
from npora.models.pretrained import Factory
from npora.models.tokens import Tokens
from npora.nn import Cache, Dropout, LayerNorm, Module, Parameter, init
from npora.nn.functional import ACTIVATIONS
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.patches import PatchProjection
from npora.nn.residual import chain, residual
from npora.nn.view import View


@dataclass(kw_only=True)
class ViTConfig(PretrainedConfig):
    """A ViT's `config.json`; the defaults are vit-base-patch16-224's.

    image_size, patch_size : a number of pixels, or [height, width]
    pooler_output_size : the width of what the pooler gives; hidden_size where it is None
    """

    model_type = "vit"
    fixed: ClassVar = {"head_dim": None}
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_channels")
    multiples: ClassVar = {"hidden_size": "num_attention_heads"}
    activations = ("hidden_act", "pooler_act")

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    image_size: int | list[int] = 224
    patch_size: int | list[int] = 16
    num_channels: int = 3
    qkv_bias: bool = True
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "patch_size"):
            sides = self._sides(name)
            if len(sides) != 2 or min(sides) < 1:
                raise ValueError(f"config: {name} must be a number of pixels, or height and width; got {sides}")
        if any(whole % part for whole, part in zip(self.image, self.patch, strict=True)):
            raise ValueError(
                f"config: image_size {self.image_size} is not a multiple of patch_size {self.patch_size}: transformers "
                "leaves the rest of an image out, and npora does not"
            )

    @property
    def image(self) -> tuple[int, ...]:
        """(height, width), in pixels."""
        return self._sides("image_size")

    @property
    def patch(self) -> tuple[int, ...]:
        """(height, width), in pixels."""
        return self._sides("patch_size")

    @property
    def patches(self) -> int:
        """How many an image has."""
        return (self.image[0] // self.patch[0]) * (self.image[1] // self.patch[1])

    def _sides(self, name: str) -> tuple[int, ...]:
        value = getattr(self, name)
        return (value, value) if isinstance(value, int) else tuple(value)


class ViTPatchEmbeddings(Module):
    """The layer's name in files is `projection`.    pixels → [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        height, width = config.patch
        self.projection = PatchProjection(
            config.num_channels, config.hidden_size, (height, width), rng=init.Unset(), dtype=make.dtype
        )
        shape = self.projection.weight.shape
        self.projection.weight.data = init.normal(make.rng, shape, make.std, make.dtype)


class ViTEmbeddings(Module):
    """h = dropout([g; u₁; …] + position), g the learnt token that stands first.    pixels → h [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m, t = config.hidden_size, config.patches + 1
        self.cls_token = Parameter(init.normal(make.rng, (1, 1, m), make.std, make.dtype))
        self.position_embeddings = Parameter(init.normal(make.rng, (1, t, m), make.std, make.dtype))
        self.patch_embeddings = ViTPatchEmbeddings(config, make)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, pixels: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        token, position = self.cls_token, self.position_embeddings
        u, back_project = self.patch_embeddings.projection(pixels.astype(token.dtype, copy=False))
        b, (_, t, m) = len(pixels), position.shape
        first = np.broadcast_to(token.data, (b, 1, m))
        x = np.concatenate((first, u.reshape(b, t - 1, m)), axis=1) + position.data  # [b,t,m]
        h, back_dropout = self.dropout(x.reshape(b * t, m), rng)  # [n,m]
        patches = u.shape

        def backward(dh: Array) -> Array:
            dx = back_dropout(dh).reshape(b, t, m)
            if token.requires_grad:
                token.accumulate(dx[:, :1].sum(axis=0, keepdims=True))
            if position.requires_grad:
                position.accumulate(dx.sum(axis=0, keepdims=True))
            return back_project(dx[:, 1:].reshape(patches))

        return h, backward


class ViTAttention(BertSelfAttention):
    """BERT's heads, with the output projection beside the others.    x [n,m]  →  [k,m]"""

    names = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: Any, make: Factory) -> None:
        m = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj = (make.linear(m, m, config.qkv_bias) for _ in self.names)
        self.o_proj: Module = make.linear(m, m)
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(super().forward, view=view, rng=rng), partial(self.o_proj, rng=rng))(x)


class ViTMLP(Module):
    """y = W₂ activation(W₁ x).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.fc1: Module = make.linear(config.hidden_size, config.intermediate_size)
        self.fc2: Module = make.linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.fc1, rng=rng), self.activation, partial(self.fc2, rng=rng))(x)


class ViTLayer(Module):
    """h = x + dropout(attention(LN(x))), y = h + dropout(MLP(LN(h))).    x [n,m]  →  y [k,m], of the rows read"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.attention = ViTAttention(config, make)
        self.layernorm_before = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.layernorm_after = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.mlp = ViTMLP(config, make)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        dropout = partial(self.dropout, rng=rng)
        attend = chain(self.layernorm_before, partial(self.attention, view=view, rng=rng), dropout)
        feed_forward = chain(self.layernorm_after, partial(self.mlp, rng=rng), dropout)
        return chain(partial(residual, attend, view=view), partial(residual, feed_forward))(x)


class ViTPooler(Module):
    """y = activation(W h + b), of each image's first row.    h [b,m]  →  y [b,o]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.pooler_output_size or config.hidden_size)
        self.activation = ACTIVATIONS[config.pooler_act]

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), self.activation)(h)


class ViTModel(PooledBody, ImageBody):
    """The encoder, with its pooler unless `add_pooling_layer` is False."""

    config_class = ViTConfig
    base_model_prefix = "vit"
    default_target_modules = ("q_proj", "v_proj")
    may_lack = ("pooler.",)
    renamed: ClassVar = {
        "encoder.layer.": "layers.", "attention.attention.query.": "attention.q_proj.",
        "attention.attention.key.": "attention.k_proj.", "attention.attention.value.": "attention.v_proj.",
        "attention.output.dense.": "attention.o_proj.", "intermediate.dense.": "mlp.fc1.", "output.dense.": "mlp.fc2.",
    }  # fmt: skip

    def __init__(
        self, config: Any, add_pooling_layer: bool = True, *, rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = ViTEmbeddings(config, make)
        self.layers = [ViTLayer(config, make) for _ in range(config.num_hidden_layers)]
        self.layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.pooler = ViTPooler(config, make) if add_pooling_layer else None

    def rows_of_an_image(self, pixels: Array) -> int:
        wanted = (self.config.num_channels, *self.config.image)
        if pixels.shape[1:] != wanted:
            raise ValueError(
                f"pixel_values must be [batch, {', '.join(map(str, wanted))}], the channels, height and width of this "
                f"model; got shape {pixels.shape}. npora interpolates no positions: resize the images"
            )
        return int(self.config.patches) + 1

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        assert isinstance(tokens, Patches) and tokens.pixels is not None, "a ViT reads patches"
        x, back_embeddings = self.embeddings(tokens.pixels, rng)  # [n,m]
        h, back_layers = self.through(
            self.layers, x, back_embeddings, tokens, below_is_trained=is_trained(self.embeddings), read=read, rng=rng
        )  # [k,m]
        h, back_norm = self.layernorm(h)

        def backward(dh: Array) -> None:
            back_layers(back_norm(dh))

        return h, backward


class ViTForImageClassification(ForImageClassification):
    body_class = ViTModel
    body_options: ClassVar = {"add_pooling_layer": False}

    def add_head(self, config: Any, make: Factory) -> None:
        self.classifier: Module = make.linear(config.hidden_size, self.num_logits(config))
