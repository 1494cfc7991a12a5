"""T5: its parts and the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from npora import nn
from npora.models.body import Body
from npora.models.families.t5 import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5ForSequenceClassification
from npora.models.families.t5_stack import T5Block, T5DenseActDense, T5DenseGatedActDense, T5Stack
from npora.models.pretrained import Factory
from npora.models.relative import relative_bias, relative_buckets
from npora.models.tokens import Memory, Tokens
from npora.nn.module import Array
from npora.nn.shared import Shared
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import KEYS, PACKING

SMALL: dict[str, Any] = {
    "vocab_size": 8, "d_model": 6, "d_kv": 2, "num_heads": 5, "d_ff": 7, "num_layers": 2,
    "relative_attention_num_buckets": 4, "relative_attention_max_distance": 3,
}  # fmt: skip
TINY: dict[str, Any] = {
    **SMALL, "vocab_size": 7, "d_model": 4, "d_kv": 3, "num_heads": 2, "d_ff": 5, "layer_norm_epsilon": 0.1
}  # fmt: skip
READ = View(PACKING, np.array([1, 4, 7]))  # of sequences of 3, 0, 1 and 4 rows
IDS = np.array([[3, 5, 3], [1, 4, 0]])
MASK = np.array([[1, 1, 1], [1, 1, 0]])
LABELS = np.array([[4, 6, 1, -100], [2, -100, 5, 1]])


class Layer(nn.Module):
    """A block as a function of x, and of the bias and the memory that it shares with others."""

    def __init__(self, decoder: bool, **config: Any) -> None:
        self.block = T5Block(T5Config(**SMALL, **config), Factory(1, np.float32, 1.0), decoder, has_bias=False)

    def forward(
        self, x: Array, bias: Array, memory: Array | None = None, memory_packing: Any = None, **keywords: Any
    ) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
        of_bias, of_memory = Shared(bias), None if memory is None else Shared(memory)
        y, backward = self.block(x, of_memory, memory_packing, bias=of_bias, **keywords)

        def back_parts(dy: Array) -> tuple[Array, ...]:
            dx = backward(dy)
            return (dx, of_bias.gradient(), *(() if of_memory is None else (of_memory.gradient(),)))

        return y, back_parts


class Stack(nn.Module):
    """The decoder over some ids, as a function of its memory and its parameters."""

    def __init__(self) -> None:
        make = Factory(1, np.float32, 1.0)
        self.stack = T5Stack(T5Config(**SMALL), make, make.embedding(8, 6).weight, decoder=True)
        self.through = partial(Body.through, SimpleNamespace(gradient_checkpointing=False))

    def forward(
        self, memory: Array, ids: Array, packing: nn.Packing, memory_packing: nn.Packing, **keywords: Any
    ) -> tuple[Array, Callable[[Array], Array]]:
        tokens = Tokens(ids, packing)
        return self.stack(tokens, self.through, Memory(memory, memory_packing), **keywords)


class RelativeBias(nn.Module):
    """The bias as a function of its table."""

    def __init__(self) -> None:
        self.table = nn.Embedding(6, 2, rng=1)

    def forward(self, view: View, bidirectional: bool) -> tuple[Array, Callable[[Array], None]]:
        return relative_bias(self.table, lambda r: relative_buckets(r, bidirectional, 6, 5), view)


def dense(layer: Any, kind: str) -> Callable[[], nn.Module]:
    return module(lambda: layer(T5Config(**SMALL, feed_forward_proj=kind), Factory(1, np.float32, 1.0)))


def whole(**config: Any) -> Callable[[], nn.Module]:
    return module(lambda: Outputs(T5ForConditionalGeneration(T5Config(**TINY, **config), rng=1)))


CASES = [
    Case("T5DenseActDense", dense(T5DenseActDense, "relu"), (draw(3, 6),), {"rng": np.random.default_rng(12)}),
    Case(
        "T5DenseGatedActDense", dense(T5DenseGatedActDense, "gated-gelu"), (draw(3, 6),),
        {"rng": np.random.default_rng(13)},
    ),
    Case("relative_bias", module(RelativeBias), (), {"view": View(PACKING), "bidirectional": True}),
    Case("relative_bias, causal", module(RelativeBias), (), {"view": View(PACKING), "bidirectional": False}),
    Case("relative_bias of some rows", module(RelativeBias), (), {"view": READ, "bidirectional": True}),
    Case(
        "T5Block of an encoder",
        module(lambda: Layer(decoder=False)),
        (draw(8, 6), draw(1, 5, 4, 4)),
        {"view": View(PACKING), "rng": np.random.default_rng(14)},
    ),
    Case(
        "T5Block of a decoder",
        module(lambda: Layer(decoder=True, feed_forward_proj="gated-gelu")),
        (draw(8, 6), draw(1, 5, 4, 4), draw(11, 6)),
        {"view": View(PACKING), "memory_packing": KEYS, "rng": np.random.default_rng(15)},
    ),
    Case(
        "T5Block of a decoder, of some rows",
        module(lambda: Layer(decoder=True)),
        (draw(8, 6), draw(4, 5, 2, 4), draw(11, 6)),
        {"view": READ, "memory_packing": KEYS, "rng": np.random.default_rng(19)},
    ),
    Case(
        "T5Stack, a decoder",
        module(Stack),
        (draw(11, 6), np.array([3, 5, 3, 1, 7, 0, 5, 2])),
        {"packing": PACKING, "memory_packing": KEYS, "dmemory_is_read": True},
        whole_model=True,
    ),
    Case(
        "T5Stack, a decoder of which some rows are read",
        module(Stack),
        (draw(11, 6), np.array([3, 5, 3, 1, 7, 0, 5, 2])),
        {"packing": PACKING, "memory_packing": KEYS, "dmemory_is_read": True, "read": READ.read},
        whole_model=True,
    ),
    Case(
        "T5EncoderModel",
        module(lambda: Outputs(T5EncoderModel(T5Config(**TINY), rng=1))),
        (IDS,),
        {"attention_mask": MASK, "rng": np.random.default_rng(16)},
        whole_model=True,
    ),
    Case(
        "T5ForConditionalGeneration, tied, loss",
        whole(),
        (IDS,),
        {"attention_mask": MASK, "labels": LABELS, "rng": np.random.default_rng(17)},
        whole_model=True,
    ),
    Case(
        "T5ForConditionalGeneration, untied, logits",
        whole(tie_word_embeddings=False, feed_forward_proj="gated-gelu"),
        (IDS,),
        {"attention_mask": MASK, "decoder_input_ids": np.array([[0, 2], [0, 6]])},
        whole_model=True,
    ),
    Case(
        "T5ForSequenceClassification",
        module(lambda: Outputs(T5ForSequenceClassification(T5Config(**TINY, classifier_dropout=0.2), rng=1))),
        (np.array([[3, 5, 1], [4, 1, 0]]),),
        {"attention_mask": MASK, "labels": np.array([0, 1]), "rng": np.random.default_rng(18)},
        whole_model=True,
    ),
]  # fmt: skip
