"""Several adapters on one layer, one after another in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from npora.lora.adapter import Adapter, Rng
from npora.machine.product import product
from npora.nn.contract import checked_input
from npora.nn.embedding import Embedding
from npora.nn.grad_mode import Values, holding
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Pullback


class Composed(NamedTuple):
    """What the first k of some adapters make of a layer's W and b, for k = 1, 2, …

    matrix, bias : W_k [o,i] and b_k [o]
    back : (dW_k, db_k) → (dW_{k−1}, db_{k−1}, *dθ_k). What reaches W through an update that is made of W itself is left
        out, since W is frozen
    """

    adapter: Adapter
    matrix: Array
    bias: Array | None
    back: Callable[[Array, Array | None], tuple[Array | None, ...]]


def composed(W: Array, b: Array | None, adapters: Sequence[Adapter], dtype: Any) -> Iterator[Composed]:
    """W_k = f_k(W_{k−1}), or W_{k−1} + (f_k(W) − W) where the adapter's method adds;  W₀ = W, and so for b.

    What an adapter holds constant is computed from W itself, as where that adapter is alone, and so in PEFT.
    """
    last = W
    for adapter in adapters:
        held = Values()
        for at in [W] if adapter.adds or last is W else [W, last]:
            with holding(held, dtype):
                changed, changed_b, back = adapter.merged(at, b, *adapter.theta)
        if adapter.adds and last is not W:
            changed, back = last + (changed - W), _around(back)
        last, b = changed, changed_b
        yield Composed(adapter, last, b, back)


def _around(back: Any) -> Any:
    """The pullback of an update that was added: dW_{k−1} is dW_k."""
    return lambda dW, db: (dW, *back(dW, db)[1:])


def forward(x: Array, base: Linear, adapters: Sequence[tuple[Adapter, Rng]]) -> tuple[Array, Pullback]:
    """y = x W_nᵀ + b_n, each adapter with its randomness for dropout.    x [...,i]  →  y [...,o]

    Where each but the first asks its base for nothing but base(x), each one's base is what those before it make of the
    layer, and no matrix is formed: with LoRA alone, y = W x + b + Σₖ sₖ Bₖ Aₖ x.
    """
    if not all(adapter.calls_alone for adapter, _ in adapters[1:]):
        return formed_table(x, base, adapters) if isinstance(base, Embedding) else formed(x, base, adapters)
    for adapter, rng in adapters[:-1]:
        base = Below(base, adapter, rng)
    adapter, rng = adapters[-1]
    return adapter.forward(x, base, rng)


class Below(Linear):
    """This is a layer with an adapter on it, as another adapter's base. Of its W, the shape and dtype alone count."""

    def __init__(self, base: Linear, adapter: Adapter, rng: Rng) -> None:
        self.base, self.adapter, self.rng = base, adapter, rng
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return self.adapter.forward(x, self.base, self.rng)

    def turned(self, W: Array) -> Array:
        return self.base.turned(W)


def formed(x: Array, base: Linear, adapters: Sequence[tuple[Adapter, Rng]]) -> tuple[Array, Pullback]:
    """Form the matrices W_k here and again in backward, and keep none.

    The update of adapter k sees x_k = drop_k(x), and the base x₀ = x:  y = x₀ W₀ᵀ + Σₖ x_k (W_k − W_{k−1})ᵀ + b_n.
    Summed the other way round, with z_k = x_k − x_{k+1} and z_n = x_n, which is zero where neither drops anything,

        y = Σₖ z_k W_kᵀ + b_n                             (1)
        dz_k = dy W_k                                     (2)
        dx = Σₖ drop_k's pullback of dz_k − dz_{k−1}      (3)
        dW_k = Σₙ dyₙ z_{k,n}ᵀ + what f_{k+1} sends back  (4)
        db_n = Σₙ dyₙ                                     (5)
    """
    W, bias, b = base.matrix, base.bias, None if base.bias is None else base.bias.data
    x = checked_input(base, x, W)
    adapters = [(step, rng) for adapter, rng in adapters for step in adapter.steps()]
    only = [adapter for adapter, _ in adapters]
    dropped = [adapter.drop(x, rng) for adapter, rng in adapters]
    seen, backs = [x, *(part for part, _ in dropped)], [back for _, back in dropped]
    z = [None if one is other else one - other for one, other in pairwise(seen)]
    z.append(seen[-1])
    trained = [bias, *(parameter for adapter in only for parameter in adapter.parameters())]
    kept = any(parameter is not None and parameter.requires_grad for parameter in trained)
    y = np.zeros((*x.shape[:-1], len(W)), x.dtype) if z[0] is None else matmul(z[0], W.T)
    last = None
    for part, step in zip(z[1:], composed(W, b, only, base.dtype), strict=True):
        y, last = y if part is None else y + matmul(part, step.matrix.T), step.bias  # (1) [...,o]
    if last is not None:
        y = y + last

    def backward(dy: Array) -> Array:
        steps = list(composed(W, b, only, base.dtype))
        matrices = [W, *(step.matrix for step in steps)]
        dz = [None if part is None else matmul(dy, M) for part, M in zip(z, matrices, strict=True)]  # (2) [...,i]
        dx = np.zeros_like(x, dtype=dy.dtype) if dz[0] is None else dz[0]
        for back, mine, before in zip(backs, dz[1:], dz, strict=False):
            for d, sign in ((mine, 1), (before, -1)):
                dx = dx if d is None else dx + sign * back(d)  # (3)
        if kept:
            dW: Any = np.zeros_like(W, dtype=dy.dtype)  # [o,i]
            db = None if last is None else rows(dy).sum(axis=0)  # (5) [o]
            for part, step in zip(z[:0:-1], reversed(steps), strict=True):
                if part is not None:
                    dW = dW + product(rows(dy).T, rows(part))  # (4) [o,i]
                dW, db, *dtheta = step.back(dW, db)
                step.adapter.accumulate(*dtheta)
            if bias is not None and bias.requires_grad and db is not None:
                bias.accumulate(db)
        return dx

    return y, backward


def formed_table(ids: Array, base: Embedding, adapters: Sequence[tuple[Adapter, Rng]]) -> tuple[Array, Any]:
    """y = E_n[ids] with E_n = W_nᵀ, formed here and again in backward, and kept by neither. Nothing is dropped.

    dW_n = dE_nᵀ, which is the embedding's own, and dW_{k−1} is what f_k sends back    (1)
    """
    only = [adapter for adapter, _ in adapters]
    y, _ = base.with_matrix(list(composed(base.matrix, None, only, base.dtype))[-1].matrix)(ids)

    def backward(dy: Array) -> None:
        steps = list(composed(base.matrix, None, only, base.dtype))
        table = base.with_matrix(steps[-1].matrix).requires_grad_()
        table(ids)[1](dy)
        assert table.weight.grad is not None
        dW: Array | None = table.weight.grad.T  # [m,v]
        for step in reversed(steps):
            assert dW is not None
            dW, _, *dtheta = step.back(dW, None)  # (1) [m,v]
            step.adapter.accumulate(*dtheta)

    return y, backward
