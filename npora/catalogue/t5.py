"""T5: its parts and the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from npora import nn
from npora.catalogue.batches import part
from npora.catalogue.layers import KEYS, PACKING
from npora.catalogue.row import Draw, Drawn, Draws, Row, call, fixed
from npora.lora import LoraConfig, get_peft_model
from npora.models.body import Body
from npora.models.families.t5 import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5ForSequenceClassification
from npora.models.families.t5_stack import T5Block, T5DenseActDense, T5DenseGatedActDense, T5Stack
from npora.models.pretrained import Factory
from npora.models.relative import relative_bias, relative_buckets
from npora.models.tokens import Memory, Tokens
from npora.nn.module import Array
from npora.nn.residual import Shared
from npora.nn.view import View

SMALL: dict[str, Any] = {
    "vocab_size": 8, "d_model": 6, "d_kv": 2, "num_heads": 5, "d_ff": 7, "num_layers": 2,
    "relative_attention_num_buckets": 4, "relative_attention_max_distance": 3,
}  # fmt: skip
WHOLE: dict[str, Any] = {
    "vocab_size": 7, "d_model": 4, "d_kv": 3, "num_heads": 2, "d_ff": 5, "num_layers": 1, "num_decoder_layers": 2,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 4, "layer_norm_epsilon": 0.01,
}  # fmt: skip
READ = View(PACKING, np.array([1, 4, 7]))  # of sequences of 3, 0, 1 and 4 rows
WRITTEN = np.array([3, 5, 3, 1, 7, 0, 5, 2])


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
        owner: Any = SimpleNamespace(gradient_checkpointing=False)
        self.through = partial(Body.through, owner)

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


def read(kind: Any, layers: int, **labels: Any) -> Draws:
    """A model of sentences to read."""
    ids, mask = np.array([[3, 5, 1], [4, 1, 0]]), np.array([[1, 1, 1], [1, 1, 0]])
    keywords = {"input_ids": ids, "attention_mask": mask, "rng": np.random.default_rng(16), **labels}
    config = T5Config(**{**WHOLE, "num_layers": layers}, classifier_dropout=0.2)
    return fixed(lambda: kind(config, rng=1), **keywords)


def written(gated: bool | None = None, *, adapted: bool = False, labelled: bool = True) -> Draws:
    """A sentence to read and one to write; the gated model's embeddings are not tied to its head."""

    def drawn(d: Draw) -> Drawn:
        is_gated = bool(d.rng.integers(2)) if gated is None else gated
        kind = "gated-gelu" if is_gated else "gelu"
        config = T5Config(**WHOLE, feed_forward_proj=kind, tie_word_embeddings=not is_gated)
        model: nn.Module = T5ForConditionalGeneration(config, rng=0)
        if adapted:
            model = get_peft_model(model, LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, task_type="SEQ_2_SEQ_LM"))
        mask, counted = (np.arange(6) < d.rng.integers(1, 7, size=(3, 1)) for _ in range(2))
        target, ids = d.rng.integers(1, 7, (2, 3, 6))
        said = {"labels": np.where(counted, target, -100)} if labelled else {"decoder_input_ids": target}
        return call(d.moved(model), input_ids=ids, attention_mask=mask, **said, rng=np.random.default_rng(5))

    return drawn


ROWS = [
    Row("T5DenseActDense", part(T5DenseActDense, T5Config(**SMALL, feed_forward_proj="relu"), (3, 6))),
    Row("T5DenseGatedActDense", part(T5DenseGatedActDense, T5Config(**SMALL, feed_forward_proj="gated-gelu"), (3, 6))),
    Row("T5 relative_bias", fixed(RelativeBias, view=View(PACKING), bidirectional=True)),
    Row("T5 relative_bias, causal", fixed(RelativeBias, view=View(PACKING), bidirectional=False)),
    Row("T5 relative_bias, of some rows", fixed(RelativeBias, view=READ, bidirectional=True)),
    Row(
        "T5Block of an encoder",
        fixed(lambda: Layer(decoder=False), (8, 6), (1, 5, 4, 4), view=View(PACKING), rng=np.random.default_rng(14)),
    ),
    Row(
        "T5Block of a decoder",
        fixed(
            lambda: Layer(decoder=True, feed_forward_proj="gated-gelu"), (8, 6), (1, 5, 4, 4), (11, 6),
            view=View(PACKING), memory_packing=KEYS, rng=np.random.default_rng(15),
        ),
    ),
    Row(
        "T5Block of a decoder, of some rows",
        fixed(
            lambda: Layer(decoder=True), (8, 6), (4, 5, 2, 4), (11, 6),
            view=READ, memory_packing=KEYS, rng=np.random.default_rng(19),
        ),
    ),
    Row(
        "T5Stack of a decoder",
        fixed(Stack, (11, 6), WRITTEN, packing=PACKING, memory_packing=KEYS, dmemory_is_read=True),
    ),
    Row(
        "T5Stack of a decoder, of which some rows are read",
        fixed(Stack, (11, 6), WRITTEN, packing=PACKING, memory_packing=KEYS, dmemory_is_read=True, read=READ.read),
    ),
    Row("T5EncoderModel", read(T5EncoderModel, 2)),
    Row("T5ForSequenceClassification", read(T5ForSequenceClassification, 1, labels=np.array([0, 1]))),
    Row("t5", written()),
    Row("lora_t5", written(adapted=True)),
    Row("t5, tied", written(gated=False)),
    Row("t5, untied, logits", written(gated=True, labelled=False)),
]  # fmt: skip
