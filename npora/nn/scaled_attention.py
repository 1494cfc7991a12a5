"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.nn.dropout import dropout
from npora.nn.module import Array, Identities, Named, declares
from npora.nn.softmax import softmax


def _queries_and_keys_balance(inputs: Named, gradients: Named) -> Identities:
    """The scores q kᵀ do not change with q → c q, k → k / c."""
    q_terms = (inputs["q"] * gradients["q"]).reshape(*inputs["q"].shape[:-2], -1)  # [...,t·d]
    k_terms = (inputs["k"] * gradients["k"]).reshape(*inputs["k"].shape[:-2], -1)  # [...,s·d]
    yield "Σ qᵀ dq = Σ dkᵀ k", np.concatenate([q_terms, -k_terms], axis=-1)


@declares(_queries_and_keys_balance)
def attention(
    q: Array, k: Array, v: Array, *, mask: Array | None = None, bias: Array | None = None, scale: float | None = None,
    dropout_p: float = 0.0, rng: np.random.Generator | None = None,
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array | None]]]:  # fmt: skip
    """y = a v,  a = dropout(p),  p = softmax(z),  z = scale · q kᵀ + bias    (Vaswani et al., 2017).

    q [...,t,d]  k [...,s,d]  v [...,s,o]  →  y [...,t,o]; mask (True: may attend) and bias broadcast to [...,t,s], and
    k and v along the leading axes, over which (1), (4) and (6) are then summed. scale is 1/√d unless given.

        dv = aᵀ dy               (1)
        da = dy vᵀ               (2)
        dz = p ⊙ (dp − Σ dp p)   (3)   softmax's pullback of dp, which is dropout's of da
        dbias = dz               (4)
        dq = scale · dz k        (5)
        dk = scale · dzᵀ q       (6)

    backward returns (dq, dk, dv, dbias). Kept are q, k, v, p and a, and neither z nor the bias, which is as large. A
    query whose keys are all masked gives zeros and passes no gradient. Identity, for each head:
    Σ_t q_tᵀ dq_t = Σ_s dk_sᵀ k_s.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    z = (q * scale) @ k.swapaxes(-1, -2)  # [...,t,s]
    if bias is not None:
        z = z + bias
    of_bias = None if bias is None else bias.shape
    p, back_softmax = softmax(z, mask)
    a, back_dropout = dropout(p, dropout_p, rng)

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dv = a.swapaxes(-1, -2) @ dy  # (1) [...,s,o]
        da = dy @ v.swapaxes(-1, -2)  # (2) [...,t,s]
        dz = back_softmax(back_dropout(da))  # (3)
        dbias = None if of_bias is None else sum_to_shape(dz, of_bias)  # (4)
        dq = (dz @ k) * scale  # (5) [...,t,d]
        dk = dz.swapaxes(-1, -2) @ (q * scale)  # (6) [...,s,d]
        return dq, sum_to_shape(dk, k.shape), sum_to_shape(dv, v.shape), dbias

    return a @ v, backward  # [...,t,o]


def sum_to_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of this shape was broadcast: broadcasting's own pullback."""
    if x.shape == shape:
        return x
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    broadcast = tuple(axis for axis, size in enumerate(shape) if size == 1 and x.shape[axis] != 1)
    return x.sum(axis=broadcast, keepdims=True)
