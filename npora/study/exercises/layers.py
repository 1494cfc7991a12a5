"""Layers that multiply, look up, add and average: where the sums over what is shared belong."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import Embedding, Linear
from npora.nn.module import Array
from npora.study.exercises.declared import Exercise, given, normal, whole


def linear(x: Array, W: Array, b: Array) -> Array:
    """y = x Wᵀ + b.    x [b,t,i]  W [o,i]  b [o]  →  y [b,t,o]"""
    return x @ W.T + b


def linear_backward(dy: Array, x: Array, W: Array, b: Array) -> tuple[Array, Array, Array]:
    return dy @ W, np.einsum("bto,bti->oi", dy, x), dy.sum(axis=(0, 1))


def linear_named(dy: Array, x: Array, W: Array, b: Array) -> dict[str, Any]:
    return {
        "the gradient of the first sequence alone (dW)": np.einsum("to,ti->oi", dy[0], x[0]),
        "the gradient of the first sequence alone (db)": dy[0].sum(axis=0), "b·t": x.shape[0] * x.shape[1],
    }  # fmt: skip


def positions(x: Array, P: Array) -> Array:
    """y = x + P, the same P in every sequence.    x [b,t,m]  P [t,m]  →  y [b,t,m]"""
    return x + P


def positions_backward(dy: Array, x: Array, P: Array) -> tuple[Array, Array]:
    return dy, dy.sum(axis=0)


def positions_named(dy: Array, x: Array, P: Array) -> dict[str, Any]:
    return {
        "the gradient of the first sequence alone": dy[0], "the gradient of the last sequence alone": dy[-1],
        "b": len(x), "t": x.shape[1],
    }  # fmt: skip


def embedding(E: Array, *, ids: Array) -> Array:
    """y = E[ids].    E [v,m]  ids int [n]  →  y [n,m]"""
    return E[ids]


def embedding_backward(dy: Array, E: Array, *, ids: Array) -> Array:
    dE = np.zeros_like(E)
    np.add.at(dE, ids, dy)
    return dE


def embedding_named(dy: Array, E: Array, *, ids: Array) -> dict[str, Any]:
    first, last = np.zeros_like(E), np.zeros_like(E)
    first[ids[::-1]], last[ids] = dy[::-1], dy
    all_of_them = embedding_backward(dy, E, ids=ids)
    times = np.maximum(np.bincount(ids, minlength=len(E)), 1)[:, None]
    return {
        "the sum over all occurrences of a token, but the last,": all_of_them - last,
        "the sum over all occurrences of a token, but the first,": all_of_them - first,
        "the gradient with the mean over the occurrences of a token": all_of_them / times,
        "1/(how often a token occurs)": np.broadcast_to(1 / times, E.shape),
        "how often a token occurs": np.broadcast_to(times, E.shape) + 0.0,
    }  # fmt: skip


def tied_weights(E: Array, *, ids: Array) -> Array:
    """z = tanh(E[ids]) Eᵀ: one table reads tokens in and scores them.    E [v,m]  ids int [n]  →  z [n,v]"""
    return np.tanh(E[ids]) @ E.T


def tied_weights_backward(dz: Array, E: Array, *, ids: Array) -> Array:
    h = np.tanh(E[ids])
    dE = dz.T @ h
    np.add.at(dE, ids, (dz @ E) * (1 - h**2))
    return dE


def tied_weights_named(dz: Array, E: Array, *, ids: Array) -> dict[str, Any]:
    h, d_in, last = np.tanh(E[ids]), np.zeros_like(E), np.zeros_like(E)
    dh = (dz @ E) * (1 - h**2)
    np.add.at(d_in, ids, dh)
    without = np.zeros_like(E)
    np.add.at(without, ids, dz @ E)
    last[ids] = dh
    return {
        "the share of the input": d_in, "the share of the output": dz.T @ h,
        "the gradient with E[ids] in the place of tanh(E[ids]) at the output": dz.T @ E[ids] + d_in,
        "the share of tanh's slope": d_in - without,
        "the input's sum over all occurrences of a token, but the last,": d_in - last,
    }  # fmt: skip


def mean_pooling(x: Array, *, mask: Array) -> Array:
    """y = the mean of x over those t where mask is True.    x [b,t,m]  mask bool [b,t]  →  y [b,m]"""
    weights = mask / mask.sum(axis=1, keepdims=True)
    return (x * weights[:, :, None]).sum(axis=1)


def mean_pooling_backward(dy: Array, x: Array, *, mask: Array) -> Array:
    weights = mask / mask.sum(axis=1, keepdims=True)
    return dy[:, None, :] * weights[:, :, None]


def mean_pooling_named(dy: Array, x: Array, *, mask: Array) -> dict[str, Any]:
    count = np.broadcast_to(mask.sum(axis=1)[:, None, None], x.shape)
    return {
        "how many of a sequence are counted": count + 0.0, "1/(how many of a sequence are counted)": 1 / count,
        "t": x.shape[1],
        "the share of masked positions": dy[:, None, :] * (~mask / mask.sum(1, keepdims=True))[..., None],
        "how many are counted, over t,": count / x.shape[1],
        "the share of masked positions, over t": dy[:, None, :] * ~mask[..., None] / x.shape[1],
    }  # fmt: skip


EXERCISES = (
    Exercise(
        linear_backward,
        "W and b are used by every row, and the rows lie on two axes. Each gradient has the shape of what it is the "
        "gradient of.",
        (
            "Write one element, y_o = Σ_i x_i W_oi + b_o, and differentiate it by x_i, by W_oi and by b_o.",
            "dx_i = Σ_o dy_o W_oi: no transpose. dW_oi and db_o are sums over all rows.",
            "dW sums dy_o x_i over b and t: bring both to [n,·] first, or name the axes in np.einsum.",
        ),
        {"x": normal("b t i"), "W": normal("o i"), "b": normal("o")},
        linear,
        dy="b t o",
        named=linear_named,
        page=Linear,
    ),
    Exercise(
        positions_backward,
        "P is broadcast: each of its elements is used once in each sequence.",
        (
            "Which y does one element of P act on?",
            "One in each sequence, with the slope 1: so its gradient is a sum.",
            "What broadcasting repeats, its pullback sums: over b, and over nothing else.",
        ),
        {"x": normal("b t m"), "P": normal("t m")},
        positions,
        dy="b t m",
        named=positions_named,
    ),
    Exercise(
        embedding_backward,
        "A token may stand in ids several times: then its row of E is used several times. Some tokens are not used.",
        (
            "Which rows of y does one row of E act on?",
            "On all n with ids[n] = its number: its gradient is their sum, and zero where there is none.",
            "dE[ids] += dy does not add twice where an id stands twice. Which function of NumPy does?",
        ),
        {"E": normal("v m"), "ids": whole("n", "v")},
        embedding,
        dy="n m",
        named=embedding_named,
        page=Embedding,
    ),
    Exercise(
        tied_weights_backward,
        "E is used twice, as the table of the input and as the matrix of the output: its gradient is the sum of both.",
        (
            "Treat both as two matrices E₁ and E₂, find a gradient for each, and add them.",
            "With h = tanh(E₁[ids]): dE₂ = dzᵀ h, and dh = dz E₂.",
            "Back through tanh, dh gets the factor 1 − h²; then it is added to the rows ids of dE, each as often as it "
            "stands there.",
        ),
        {"E": normal("v m"), "ids": whole("n", "v")},
        tied_weights,
        dy="n v",
        named=tied_weights_named,
    ),
    Exercise(
        mean_pooling_backward,
        "Sequences are of different lengths: padding, where mask is False, is no part of the mean.",
        (
            "Each x that counts acts on one row of y. With which slope?",
            "One over the number of those that count in its own sequence; the others' gradient is zero.",
            "dx [b,t,m] needs dy [b,m] at every t: put an axis between, dy[:, None, :].",
        ),
        {
            "x": normal("b t m"),
            "mask": given(np.array([[1, 1, 0], [1, 0, 0]], bool), np.array([[1, 0, 0], [1, 1, 1]], bool), axes="b t"),
        },
        mean_pooling,
        dy="b m",
        named=mean_pooling_named,
    ),
)
