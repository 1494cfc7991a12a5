"""GPT-2 (Radford et al., 2019), with Hugging Face's parameter names.

Pre-norm: each sublayer is x + f(LN(x)). Its linear layers are stored transposed (Conv1D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Body, Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.models.tokens import Tokens, check_positions, summed
from npora.nn import Cache, Dropout, LayerCache, LayerNorm, Module
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, causal
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import chain, residual
from npora.nn.view import View, self_attention


@dataclass(kw_only=True)
class GPT2Config(PretrainedConfig):
    """A GPT-2's `config.json`; the defaults are gpt2's."""

    model_type = "gpt2"
    aliases: ClassVar = {
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    }  # fmt: skip
    fixed: ClassVar = {"add_cross_attention": False, "is_causal": True}
    sizes = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    multiples: ClassVar = {"n_embd": "n_head"}
    activations = ("activation_function",)

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256


class GPT2Attention(Module):
    """y = dropout(W_o concat_h(softmax(q_h k_hᵀ/√d) v_h)) over the keys up to each query.    x [n,m]  →  y [k,m]

    q, k and v are the thirds of one product, so that their gradients are the thirds of one upstream gradient. It is
    computed for all rows, since an adapter may sit on the whole of it, and q is then taken of those that are read.
    """

    def __init__(self, config: GPT2Config, make: Factory, index: int) -> None:
        m = config.n_embd
        self.c_attn: Module = make.conv1d(m, 3 * m)
        self.c_proj: Module = make.conv1d(m, m, std=make.std / math.sqrt(2 * config.n_layer))
        self.attn_pdrop, self.resid_dropout = config.attn_pdrop, Dropout(config.resid_pdrop)
        self.heads, self.width = config.n_head, m
        self.scale = math.sqrt(config.n_head / m) if config.scale_attn_weights else 1.0  # 1/√(head width)
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= index + 1

    def forward(self, x: Array, view: View, rng: Rng = None, past: LayerCache | None = None) -> tuple[Array, Pullback]:
        qkv, back_qkv = self.c_attn(x, rng)  # [n,3m]
        q, k, v = (qkv[:, part * self.width : (part + 1) * self.width] for part in range(3))  # [n,m] each
        q, back_pick = view.pick(q)  # [k,m]
        a, back_attention = self_attention(
            q, k, v, self.heads, view, causal, past, scale=self.scale, dropout_p=self.attn_pdrop,
            rng=active_rng(self, self.attn_pdrop, rng),
        )  # fmt: skip
        y, back_proj = self.c_proj(a, rng)
        y, back_dropout = self.resid_dropout(y, rng)

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(back_proj(back_dropout(dy)))
            return back_qkv(np.concatenate([back_pick(dq), dk, dv], axis=-1))  # [n,3m] → [n,m]

        return y, backward

    def idle_parameters(self) -> dict[str, slice]:
        """The keys' bias adds the same to all of a query's scores, which softmax does not see."""
        keys = slice(self.width, 2 * self.width)
        return {f"c_attn.{name}": keys for name, _ in self.c_attn.named_parameters() if name.endswith("bias")}


class GPT2MLP(Module):
    """y = dropout(W₂ activation(W₁ x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: GPT2Config, make: Factory) -> None:
        m, f = config.n_embd, config.n_inner or 4 * config.n_embd
        self.c_fc: Module = make.conv1d(m, f)
        self.c_proj: Module = make.conv1d(f, m, std=make.std / math.sqrt(2 * config.n_layer))
        self.act, self.dropout = ACTIVATIONS[config.activation_function], Dropout(config.resid_pdrop)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        f, back_fc = self.c_fc(x, rng)  # [n,f]
        f, back_act = self.act(f)
        y, back_proj = self.c_proj(f, rng)  # [n,m]
        y, back_dropout = self.dropout(y, rng)
        return y, lambda dy: back_fc(back_act(back_proj(back_dropout(dy))))


class GPT2Block(Module):
    """h = x + attention(LN(x)), y = h + MLP(LN(h)).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: GPT2Config, make: Factory, index: int) -> None:
        m, eps = config.n_embd, config.layer_norm_epsilon
        self.ln_1 = LayerNorm(m, eps, dtype=make.dtype)
        self.attn = GPT2Attention(config, make, index)
        self.ln_2 = LayerNorm(m, eps, dtype=make.dtype)
        self.mlp = GPT2MLP(config, make)

    def forward(self, x: Array, view: View, rng: Rng = None, past: LayerCache | None = None) -> tuple[Array, Pullback]:
        attend, feed_forward = partial(self.attn, view=view, rng=rng, past=past), partial(self.mlp, rng=rng)
        h, back_attention = residual(chain(self.ln_1, attend), x, view)
        y, back_feed_forward = residual(chain(self.ln_2, feed_forward), h)
        return y, lambda dy: back_attention(back_feed_forward(dy))


class GPT2Model(Body):
    """The decoder without a head."""

    config_class = GPT2Config
    base_model_prefix = "transformer"
    default_target_modules = ("c_attn",)
    input_embeddings = "wte"
    ignored = (".attn.bias", ".attn.masked_bias")  # masks; older files hold them

    def __init__(self, config: GPT2Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.wte = make.embedding(config.vocab_size, config.n_embd)
        self.wpe = make.embedding(config.n_positions, config.n_embd)
        self.drop = Dropout(config.embd_pdrop)
        self.h = [GPT2Block(config, make, index) for index in range(config.n_layer)]
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon, dtype=dtype)

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        check_positions(tokens.positions, self.config.n_positions)
        x, back_sum = summed(tokens.words, self.wte, (self.wpe, tokens.positions))
        x, back_drop = self.drop(x, rng)  # [n,m]
        h, back_blocks = self.through(
            self.h, x, lambda dx: back_sum(back_drop(dx)), tokens, below_is_trained=is_trained(self.wte, self.wpe),
            read=read, cache=cache, rng=rng,
        )  # fmt: skip
        h, back_norm = self.ln_f(h)  # [k,m]
        return h, lambda dh: back_blocks(back_norm(dh))


class GPT2LMHeadModel(ForCausalLM):
    body_class = GPT2Model


class GPT2ForSequenceClassification(ScoredSequences):
    body_class = GPT2Model


class GPT2ForTokenClassification(ScoredTokens):
    """Its head is called otherwise than other decoders'."""

    body_class = GPT2Model
    head_name = "classifier"


class GPT2ForQuestionAnswering(ForQuestionAnswering):
    body_class = GPT2Model
