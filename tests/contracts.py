"""The table of layers: one row each. Every row goes through every contract in `test_contracts.py`.

Sizes are pairwise distinct, so that a missing transpose cannot hide; the data has no symmetry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora import nn
from npora.lora import LoRAAttention, LoRALinear
from npora.models import BertConfig
from npora.models.bert import (
    BertEmbeddings,
    BertForSequenceClassification,
    BertLayer,
    BertModel,
    BertPooler,
    _Make,
)  # fmt: skip
from npora.nn import functional as F
from npora.nn.module import Array


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([len(shape), *shape, seed]).standard_normal(shape)


@dataclass(frozen=True)
class Case:
    """build() makes the layer or function; inputs are its arrays in float64; keywords go with every call."""

    name: str
    build: Callable[[], Any]
    inputs: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    row_wise: bool = False  # takes any leading axes, and treats each row alone
    whole_model: bool = False  # too many parameters for differences of each


def randomized(module: nn.Module) -> nn.Module:
    """Every parameter away from the zeros and ones that it starts with, where errors hide."""
    rng = np.random.default_rng(7)
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.3 * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return module


def module(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: randomized(build())


PACKING = nn.Packing.of_lengths([3, 0, 1, 4])  # 8 rows
NO_GAPS = nn.Packing.of_lengths([3, 1, 3])  # 7 rows
KEYS = nn.Packing.of_lengths([2, 1, 5, 3])  # 11 rows
KEY_MASK = np.array([[True, True, False, True, False], [True, False, False, False, False]])
TARGETS = np.array([2, -100, 0, 3, 3])
SMOOTHED = {"targets": TARGETS, "label_smoothing": 0.1}

SMALL_BERT = BertConfig(
    vocab_size=8, hidden_size=6, num_attention_heads=2, intermediate_size=7, max_position_embeddings=4
)


def bert(layer: Callable[[_Make], nn.Module]) -> Callable[[], nn.Module]:
    return module(lambda: layer(_Make(SMALL_BERT, np.random.default_rng(1), np.float32)))


class Outputs(nn.Module):
    """A whole BERT as a function of its parameters: all that it returns, as one vector."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def forward(self, *inputs: Array, **keywords: Any) -> tuple[Array, Callable[[Array], None]]:
        output, backward = self.model(*inputs, **keywords)
        if hasattr(output, "loss"):
            return np.asarray(output.logits if output.loss is None else output.loss), backward
        hidden, pooled = output.last_hidden_state, output.pooler_output
        return np.concatenate([hidden.ravel(), pooled.ravel()]), lambda dy: backward(
            dy[: hidden.size].reshape(hidden.shape), dy[hidden.size :].reshape(pooled.shape)
        )


IDS = np.array([[3, 5, 3], [1, 0, 0]])
BATCH = {"attention_mask": np.array([[1, 1, 1], [1, 0, 0]]), "token_type_ids": np.array([[0, 1, 1], [1, 0, 0]])}
TINY_BERT = BertConfig(
    vocab_size=7, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=5,
    max_position_embeddings=3, num_labels=3, layer_norm_eps=0.1,
)  # fmt: skip


class SharedBias(nn.Module):
    """Self-attention over packed rows, with the bias [1,h,t,s] as an input of its own."""

    def __init__(self) -> None:
        self.attention = nn.MultiHeadAttention(6, 3, rng=1)

    def forward(self, x: Array, bias: Array, packing: nn.Packing) -> tuple[Array, Callable[[Array], Any]]:
        return self.attention(x, packing=packing, bias=bias)


def lora(i: int, o: int, bias: bool = True, **keywords: Any) -> Callable[[], nn.Module]:
    """A LoRALinear whose B is not zero."""
    return module(lambda: LoRALinear(nn.Linear(i, o, bias), rng=2, **keywords))


CASES = [
    Case("relu", lambda: F.relu, (draw(3, 5),), row_wise=True),
    Case("tanh", lambda: F.tanh, (draw(3, 5),), row_wise=True),
    Case("silu", lambda: F.silu, (3 * draw(3, 5),), row_wise=True),
    Case("gelu", lambda: F.gelu, (2 * draw(3, 5),), row_wise=True),
    Case("gelu_tanh", lambda: F.gelu_tanh, (2 * draw(3, 5),), row_wise=True),
    Case("softmax", lambda: F.softmax, (draw(3, 5),), row_wise=True),
    Case("softmax, masked", lambda: F.softmax, (draw(2, 5),), {"mask": KEY_MASK}),
    Case("softmax, huge logits", lambda: F.softmax, (800 + draw(3, 5),), row_wise=True),
    Case("log_softmax", lambda: F.log_softmax, (draw(3, 5),), row_wise=True),
    Case("log_softmax, huge logits", lambda: F.log_softmax, (800 + draw(3, 5),), row_wise=True),
    Case("normalize", lambda: F.normalize, (draw(3, 5),), {"eps": 1e-2}, row_wise=True),
    Case("dropout", lambda: F.dropout, (draw(3, 5),), {"p": 0.3, "rng": np.random.default_rng(2)}),
    Case("cross_entropy", lambda: F.cross_entropy, (draw(5, 4),), {"targets": TARGETS}),
    Case("cross_entropy, smoothed", lambda: F.cross_entropy, (draw(5, 4),), SMOOTHED),
    Case("mse_loss", lambda: F.mse_loss, (draw(3, 5),), {"target": draw(3, 5, seed=1)}),
    Case("attention", lambda: F.attention, (draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7))),
    Case(
        "attention, everything",
        lambda: lambda q, k, v, bias, **kw: F.attention(q, k, v, bias=bias, **kw),
        (draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7), draw(3, 1, 5)),
        {
            "mask": KEY_MASK[:, None, None], "scale": 0.7, "dropout_p": 0.3, "rng": np.random.default_rng(3),
        },
    ),
    Case("Linear", module(lambda: nn.Linear(5, 3, rng=1)), (draw(4, 5),), row_wise=True),
    Case("Linear, no bias", module(lambda: nn.Linear(5, 3, bias=False, rng=1)), (draw(2, 4, 5),), row_wise=True),
    Case("Embedding", module(lambda: nn.Embedding(7, 3, rng=1)), (np.array([[2, 6, 2], [0, 5, 6]]),)),
    Case("Embedding, padding", module(lambda: nn.Embedding(7, 3, padding_idx=4, rng=1)), (np.array([2, 6, 2, 0]),)),
    Case("LayerNorm", module(lambda: nn.LayerNorm(5, eps=1e-3)), (draw(2, 3, 5),), row_wise=True),
    Case("Dropout", lambda: nn.Dropout(0.3), (draw(3, 5),), {"rng": np.random.default_rng(4)}),
    Case(
        "MultiHeadAttention",
        module(lambda: nn.MultiHeadAttention(6, 2, dropout=0.2, rng=1)),
        (draw(3, 4, 6),),
        {"rng": np.random.default_rng(5)},
    ),
    Case(
        "MultiHeadAttention, causal and packed",
        module(lambda: nn.MultiHeadAttention(6, 3, causal=True, rng=1)),
        (draw(8, 6),),
        {"packing": PACKING},
    ),
    Case(
        "MultiHeadAttention, cross and packed, with bias",
        module(lambda: nn.MultiHeadAttention(6, 3, kdim=5, rng=1)),
        (draw(8, 6), draw(11, 5), draw(4, 1, 4, 5)),
        {"packing": PACKING, "key_packing": KEYS},
    ),
    Case(
        "MultiHeadAttention, packed, with a bias that the sequences share",
        module(SharedBias),
        (draw(8, 6), draw(1, 3, 4, 4)),
        {"packing": PACKING},
    ),
    Case(
        "MultiHeadAttention, cross and dense, with padded keys",
        module(lambda: nn.MultiHeadAttention(6, 3, kdim=7, causal=True, rng=1)),
        (draw(2, 4, 6), draw(2, 5, 7)),
        {"key_mask": KEY_MASK},
    ),
    Case("LoRALinear", lora(5, 3, r=2, lora_alpha=3), (draw(4, 5),), row_wise=True),
    Case("LoRALinear, W + sBA formed", lora(5, 3, r=2, lora_alpha=3), (draw(4, 3, 5),)),
    Case(
        "LoRALinear, dropout",
        lora(5, 3, bias=False, r=4, lora_dropout=0.3, use_rslora=True),
        (draw(2, 4, 5),),
        {"rng": np.random.default_rng(6)},
    ),
    Case(
        "LoRAAttention",
        module(lambda: LoRAAttention(6, 2, r=3, lora_alpha=5, lora_dropout=0.2, dropout=0.1, rng=1)),
        (draw(3, 4, 6),),
        {"rng": np.random.default_rng(7)},
    ),
    Case(
        "LoRAAttention, on K and O, cross and packed",
        module(lambda: LoRAAttention(6, 3, r=2, target_modules=["k_proj", "out_proj"], kdim=5, causal=True, rng=1)),
        (draw(8, 6), draw(11, 5)),
        {"packing": PACKING, "key_packing": KEYS},
    ),
    Case(
        "BertLayer",
        bert(BertLayer),
        (draw(8, 6),),
        {"packing": PACKING, "rng": np.random.default_rng(8)},
    ),
    Case(
        "BertEmbeddings",
        bert(BertEmbeddings),
        (np.array([3, 5, 3]), np.array([0, 1, 1]), np.array([0, 1, 2])),
        {"rng": np.random.default_rng(9)},
    ),
    Case("BertModel", module(lambda: Outputs(BertModel(TINY_BERT, rng=1))), (IDS,), BATCH, whole_model=True),
    Case(
        "BertForSequenceClassification, loss",
        module(lambda: Outputs(BertForSequenceClassification(TINY_BERT, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([2, 0]), "rng": np.random.default_rng(10)},
        whole_model=True,
    ),
    Case(
        "BertForSequenceClassification, logits",
        module(lambda: Outputs(BertForSequenceClassification(TINY_BERT, rng=1))),
        (IDS,),
        BATCH,
        whole_model=True,
    ),
    Case("BertPooler", bert(BertPooler), (draw(7, 6),), {"packing": NO_GAPS, "rng": None}),
]  # fmt: skip
