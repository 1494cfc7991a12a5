"""The layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora import nn
from npora.catalogue.functions import KEY_MASK, TARGETS
from npora.catalogue.row import Draw, Drawn, Draws, Row, call, fixed
from npora.lora import LoRAAttention, LoRALinear
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain, residual
from npora.nn.view import View, self_attention
from npora.stored import FORMS

PACKING = nn.Packing.of_lengths([3, 0, 1, 4])  # 8 rows
READ = np.array([0, 2, 3, 5, 7])  # of PACKING
KEYS = nn.Packing.of_lengths([2, 1, 5, 3])  # 11 rows


def affine(kind: type[nn.Linear], bias: bool = True) -> Draws:
    def drawn(d: Draw) -> Drawn:
        n, i, o = d.sizes(3)
        return call(d.moved(kind(i, o, bias, rng=0)), d.normal(n, i))

    return drawn


def stored(form: str) -> Draws:
    """A linear layer whose matrix lies in a form of its own."""

    def drawn(d: Draw) -> Drawn:
        n, i, o = d.sizes(3)
        layer = d.moved(nn.Linear(i, o, rng=0))
        layer.weight = nn.Parameter(FORMS[form](layer.weight.data), requires_grad=False)
        return call(layer, d.normal(n, i))

    return drawn


def embedding(d: Draw) -> Drawn:
    n, v, m = d.sizes(3)
    return call(d.moved(nn.Embedding(v, m, rng=0)), d.rng.integers(0, v, n))


def norm(kind: Callable[[int], nn.Module]) -> Draws:
    def drawn(d: Draw) -> Drawn:
        b, t, m = d.sizes(3)
        return call(d.moved(kind(m + 1)), d.normal(b, t, m + 1))

    return drawn


def own_attention(d: Draw) -> Drawn:
    h, width, _ = d.sizes(3)
    layer = nn.MultiHeadAttention(h * width, h, causal=bool(d.rng.integers(2)), dropout=0.1, rng=0)
    packing = d.packing()
    return call(d.moved(layer), d.normal(packing.rows, h * width), packing=packing, rng=np.random.default_rng(1))


def cross_attention(d: Draw) -> Drawn:
    b, t, s, k = d.sizes(4)
    key_mask = np.arange(s) < d.rng.integers(1, s + 1, b)[:, None]
    key_mask[0, -1] = False
    layer = d.moved(nn.MultiHeadAttention(6, 2, kdim=k, rng=0))
    return call(layer, d.normal(b, t, 6), d.normal(b, s, k), key_mask=key_mask)


def lora_attention(d: Draw) -> Drawn:
    layer = LoRAAttention(6, 2, r=3, lora_alpha=5, lora_dropout=0.1, rng=0)
    packing = d.packing()
    return call(d.moved(layer), d.normal(packing.rows, 6), packing=packing, rng=np.random.default_rng(3))


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


def few_scores_at_once(d: Draw) -> Drawn:
    def function(q: Array, k: Array, v: Array, bias: Array, **keywords: Any) -> Any:
        return nn.functional.packed_attention(q, k, v, 4, bias=bias, **keywords)

    return call(
        function, d.scaled(8, 12), d.normal(11, 6), d.normal(11, 10), d.normal(1, 4, 4, 5),
        packing=PACKING, key_packing=KEYS, rule=nn.functional.causal, scores_at_once=7, dropout_p=0.2,
        rng=np.random.default_rng(12),
    )  # fmt: skip


def windowed(d: Draw) -> Drawn:
    def function(q: Array, k: Array, v: Array, **keywords: Any) -> Any:
        return nn.functional.packed_attention(q, k, v, 4, **keywords)[:2]

    return call(
        function, d.scaled(12, 12), d.normal(12, 6), d.normal(12, 10),
        packing=nn.Packing.dense(3, 4), rule=nn.functional.window(2), scores_at_once=35,
    )  # fmt: skip


def at_the_rows_that_are_read(d: Draw) -> Drawn:
    def function(q: Array, k: Array, v: Array, **keywords: Any) -> Any:
        return self_attention(q, k, v, 4, **keywords)[:2]

    return call(
        function, d.scaled(5, 12), d.normal(8, 6), d.normal(8, 10),
        view=View(PACKING, READ), rule=nn.functional.window(2), scores_at_once=9, dropout_p=0.2,
        rng=np.random.default_rng(13),
    )  # fmt: skip


ROWS = [
    Row("linear", affine(nn.Linear), row_wise=True),
    Row("linear, without a bias", affine(nn.Linear, bias=False), row_wise=True),
    Row("conv1d", affine(nn.Conv1D), row_wise=True),
    *(Row(f"linear, in {form}", stored(form), row_wise=True) for form in FORMS),
    Row("embedding", embedding),
    Row("embedding, padding", fixed(lambda: nn.Embedding(7, 3, padding_idx=4, rng=1), np.array([2, 6, 2, 0]))),
    Row("layer_norm", norm(nn.LayerNorm), row_wise=True),
    Row("rms_norm", norm(nn.RMSNorm), row_wise=True),
    Row("centred_rms_norm", norm(nn.CentredRMSNorm), row_wise=True),
    Row("dropout, the layer", lambda d: call(nn.Dropout(0.3), d.scaled(3, 5), rng=np.random.default_rng(4))),
    Row("attention", own_attention),
    Row(
        "attention, dense",
        fixed(lambda: nn.MultiHeadAttention(6, 2, dropout=0.2, rng=1), (3, 4, 6), rng=np.random.default_rng(5)),
    ),
    Row(
        "attention, causal, over no row and one",
        fixed(lambda: nn.MultiHeadAttention(6, 3, causal=True, rng=1), (8, 6), packing=PACKING),
    ),
    Row("attention, with a bias that the sequences share", fixed(SharedBias, (8, 6), (1, 3, 4, 4), packing=PACKING)),
    Row("cross_attention", cross_attention),
    Row(
        "cross_attention, packed, with a bias",
        fixed(
            lambda: nn.MultiHeadAttention(6, 3, kdim=5, rng=1), (8, 6), (11, 5), (4, 1, 4, 5),
            packing=PACKING, key_packing=KEYS,
        ),
    ),
    Row(
        "cross_attention, causal, with padded keys and a bias",
        fixed(
            lambda: nn.MultiHeadAttention(6, 3, kdim=7, causal=True, rng=1), (2, 4, 6), (2, 5, 7), (1, 3, 1, 5),
            key_mask=KEY_MASK,
        ),
    ),
    Row("packed_attention, few scores at once, causal and grouped, with a bias and dropout", few_scores_at_once),
    Row("packed_attention, dense and grouped, a window", windowed),
    Row("self_attention, at the rows that are read, grouped, a window, dropout", at_the_rows_that_are_read),
    Row("residual, of a chain", fixed(Sublayer, (8, 6)), row_wise=True),
    Row("residual, of a chain, at the rows that are read", fixed(ReadSublayer, (8, 6))),
    Row(
        "projected_cross_entropy, a trained head",
        fixed(Projected, (5, 6), targets=TARGETS, rows_at_once=3),
        frozen_rounds=True,
    ),
    Row(
        "projected_cross_entropy, a frozen head",
        fixed(lambda: Projected().requires_grad_(False), (5, 6), targets=TARGETS, rows_at_once=2),
    ),
    Row("lora_linear, LoRALinear", fixed(lambda: LoRALinear(nn.Linear(5, 3), 2, 3, rng=2), (4, 5)), row_wise=True),
    Row("lora_attention", lora_attention),
    Row(
        "lora_attention, dense",
        fixed(
            lambda: LoRAAttention(6, 2, r=3, lora_alpha=5, lora_dropout=0.2, dropout=0.1, rng=1), (3, 4, 6),
            rng=np.random.default_rng(7),
        ),
    ),
    Row(
        "lora_attention, on K and O, cross and packed",
        fixed(
            lambda: LoRAAttention(6, 3, 2, target_modules=["k_proj", "out_proj"], kdim=5, causal=True, rng=1),
            (8, 6), (11, 5), packing=PACKING, key_packing=KEYS,
        ),
    ),
]  # fmt: skip
