"""The layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora import nn
from npora.lora import LoRAAttention, LoRALinear
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain, residual
from npora.nn.view import View, self_attention
from tests.cases.case import Case, draw, module
from tests.cases.functions import KEY_MASK, TARGETS

PACKING = nn.Packing.of_lengths([3, 0, 1, 4])  # 8 rows
READ = np.array([0, 2, 3, 5, 7])  # of PACKING
KEYS = nn.Packing.of_lengths([2, 1, 5, 3])  # 11 rows


class Projected(nn.Module):
    """The loss over a vocabulary of 4 that rows of 6 features are projected to, some rows at a time."""

    def __init__(self) -> None:
        self.head = nn.Linear(6, 4, rng=1)

    def forward(self, h: Array, targets: Array, rows_at_once: int) -> tuple[Array, Callable[..., Array]]:
        return nn.projected_cross_entropy(h, targets, self.head, rows_at_once=rows_at_once)[:2]


class SharedBias(nn.Module):
    """Self-attention over packed rows, with the bias [1,h,t,s] as an input of its own."""

    def __init__(self) -> None:
        self.attention = nn.MultiHeadAttention(6, 3, rng=1)

    def forward(self, x: Array, bias: Array, packing: nn.Packing) -> tuple[Array, Callable[[Array], Any]]:
        return self.attention(x, packing=packing, bias=bias)


class Sublayer(nn.Module):
    """x + W₂ LN(W₁ x), of all rows or of those that a view reads."""

    view: View | None = None

    def __init__(self) -> None:
        self.up, self.norm, self.down = nn.Linear(6, 5, rng=1), nn.LayerNorm(5, eps=1e-2), nn.Linear(5, 6, rng=2)

    def read(self, x: Array) -> tuple[Array, Pullback]:
        return (x, lambda dx: dx) if self.view is None else self.view.pick(x)

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        return residual(chain(self.read, self.up, self.norm, self.down), x, self.view)


class ReadSublayer(Sublayer):
    view = View(PACKING, READ)


CASES = [
    Case("Linear", module(lambda: nn.Linear(5, 3, rng=1)), (draw(4, 5),), row_wise=True),
    Case("Linear, no bias", module(lambda: nn.Linear(5, 3, bias=False, rng=1)), (draw(2, 4, 5),), row_wise=True),
    Case("Conv1D", module(lambda: nn.Conv1D(5, 3, rng=1)), (draw(4, 5),), row_wise=True),
    Case("RMSNorm", module(lambda: nn.RMSNorm(5, eps=1e-3)), (draw(2, 3, 5),), row_wise=True),
    Case("CentredRMSNorm", module(lambda: nn.CentredRMSNorm(5, eps=1e-3)), (draw(2, 3, 5),), row_wise=True),
    Case(
        "projected_cross_entropy, a trained head",
        module(Projected),
        (draw(5, 6),),
        {"targets": TARGETS, "rows_at_once": 3},
        frozen_rounds=True,
    ),
    Case(
        "projected_cross_entropy, a frozen head",
        lambda: module(Projected)().requires_grad_(False),
        (draw(5, 6),),
        {"targets": TARGETS, "rows_at_once": 2},
    ),
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
        "MultiHeadAttention, cross and dense, with padded keys and a bias",
        module(lambda: nn.MultiHeadAttention(6, 3, kdim=7, causal=True, rng=1)),
        (draw(2, 4, 6), draw(2, 5, 7), draw(1, 3, 1, 5)),
        {"key_mask": KEY_MASK},
    ),
    Case(
        "packed_attention, few scores at once, causal and grouped, with a bias and dropout",
        lambda: lambda q, k, v, bias, **kw: nn.functional.packed_attention(q, k, v, 4, bias=bias, **kw),
        (draw(8, 12), draw(11, 6), draw(11, 10), draw(1, 4, 4, 5)),
        {
            "packing": PACKING, "key_packing": KEYS, "rule": nn.functional.causal, "scores_at_once": 7,
            "dropout_p": 0.2, "rng": np.random.default_rng(12),
        },
    ),
    Case(
        "packed_attention, dense and grouped, a window",
        lambda: lambda q, k, v, **kw: nn.functional.packed_attention(q, k, v, 4, **kw)[:2],
        (draw(12, 12), draw(12, 6), draw(12, 10)),
        {"packing": nn.Packing.dense(3, 4), "rule": nn.functional.window(2), "scores_at_once": 35},
    ),
    Case(
        "self_attention, at the rows that are read, grouped, a window, dropout",
        lambda: lambda q, k, v, **kw: self_attention(q, k, v, 4, **kw)[:2],
        (draw(5, 12), draw(8, 6), draw(8, 10)),
        {
            "view": View(PACKING, READ), "rule": nn.functional.window(2), "scores_at_once": 9, "dropout_p": 0.2,
            "rng": np.random.default_rng(13),
        },
    ),
    Case("residual of a chain", module(Sublayer), (draw(8, 6),), row_wise=True),
    Case("residual of a chain, at the rows that are read", module(ReadSublayer), (draw(8, 6),)),
    Case("LoRALinear", module(lambda: LoRALinear(nn.Linear(5, 3), 2, 3, rng=2)), (draw(4, 5),), row_wise=True),
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
]  # fmt: skip
