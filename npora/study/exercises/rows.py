"""Where rows lie and stand: rotary positions, batches without padding, attention within each sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import functional as F
from npora.nn.module import Array
from npora.study.exercises.attention import attended, shares
from npora.study.exercises.declared import Exercise, given, normal


def rotary(x: Array, *, positions: Array) -> Array:
    """Turn pair j of each row, (x_j, x_{j+d/2}), by the angle φ = position · 10000^(−2j/d).

    y₁ = x₁ cos φ − x₂ sin φ,  y₂ = x₂ cos φ + x₁ sin φ, with x₁ and x₂ the two halves of x.

    x [n,d]  positions int [n]  →  y [n,d]
    """
    d = x.shape[-1]
    angle = positions[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    x1, x2 = x[:, : d // 2], x[:, d // 2 :]
    return np.concatenate([x1 * np.cos(angle) - x2 * np.sin(angle), x2 * np.cos(angle) + x1 * np.sin(angle)], axis=-1)


def rotary_backward(dy: Array, x: Array, *, positions: Array) -> Array:
    return rotary(dy, positions=-positions)


def rotary_named(dy: Array, x: Array, *, positions: Array) -> dict[str, Any]:
    forth, back = rotary(dy, positions=positions), rotary(dy, positions=-positions)
    half = dy.shape[-1] // 2
    first, second = back.copy(), back.copy()
    first[:, :half], second[:, half:] = forth[:, :half], forth[:, half:]
    pairs = np.empty_like(dy)
    pairs[:, 0::2], pairs[:, 1::2] = np.split(
        rotary(np.concatenate([dy[:, 0::2], dy[:, 1::2]], axis=1), positions=-positions), 2, axis=1
    )
    return {
        "the gradient turned by one position too many": rotary(dy, positions=-positions - 1),
        "the gradient turned by one position too few": rotary(dy, positions=1 - positions),
        "the gradient turned forwards": forth,
        "the gradient without sin φ": (back + forth) / 2,
        "the gradient with the wrong sign of sin φ in the first half": first,
        "the gradient with the wrong sign of sin φ in the second half": second,
        "the gradient turned in pairs of neighbours, where the pairs are x_j and x_(j+d/2)": pairs,
    }  # fmt: skip


def packing(x: Array, *, mask: Array) -> Array:
    """y = the rows of x where mask is True, sequence after sequence: padding is left out.

    x [b,t,m]  mask bool [b,t]  →  y [n,m], with n the number of True in mask
    """
    return x[mask]


def packing_backward(dy: Array, x: Array, *, mask: Array) -> Array:
    dx = np.zeros_like(x)
    dx[mask] = dy
    return dx


def packing_named(dy: Array, x: Array, *, mask: Array) -> dict[str, Any]:
    backwards = np.zeros_like(x)
    backwards[mask] = dy[::-1]
    in_a_row = np.zeros_like(x)
    in_a_row.reshape(-1, x.shape[-1])[: len(dy)] = dy
    by_columns = np.zeros_like(x)
    by_columns.swapaxes(0, 1)[mask.T] = dy
    return {
        "the gradient with the rows in the opposite order": backwards,
        "the gradient with all rows at the beginning": in_a_row,
        "the gradient with the rows laid out position by position, not sequence by sequence": by_columns,
    }  # fmt: skip


def packed_attention(q: Array, k: Array, v: Array, *, lengths: tuple[int, ...]) -> Array:
    """y = softmax(q kᵀ/√d) v of each sequence for itself; the n rows hold them one behind the other.

    lengths says how many rows each sequence has.    q, k, v [n,d]  →  y [n,d]
    """
    y, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        z = q[rows] @ k[rows].T / np.sqrt(q.shape[-1])
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        y.append(e / e.sum(axis=-1, keepdims=True) @ v[rows])
        start += length
    return np.concatenate(y)


def packed_attention_backward(
    dy: Array, q: Array, k: Array, v: Array, *, lengths: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    return attended(dy, q, k, v, _same(lengths))


def packed_attention_named(dy: Array, q: Array, k: Array, v: Array, *, lengths: tuple[int, ...]) -> dict[str, Any]:
    return {
        name.replace("masked keys", "other sequences"): known
        for name, known in shares(dy, q, k, v, _same(lengths)).items()
    }


def _same(lengths: tuple[int, ...]) -> Array:
    number = np.arange(len(lengths)).repeat(lengths)
    same: Array = number[:, None] == number
    return same


_PADDED = given(
    np.array([[1, 1, 0], [0, 1, 1]], bool), np.array([[0, 1, 0], [1, 1, 1]], bool), axes="b t"
)  # fmt: skip

EXERCISES = (
    Exercise(
        rotary_backward,
        "positions are whole numbers, and constants: each pair of numbers is multiplied by a 2 × 2 matrix.",
        (
            "Write the matrix that takes (x₁, x₂) to (y₁, y₂). Which one takes (dy₁, dy₂) to (dx₁, dx₂)?",
            "Its transpose, which is the rotation back.",
            "dx₁ has + dy₂ sin φ, and dx₂ has − dy₁ sin φ.",
        ),
        {"x": normal("n d"), "positions": given(np.array([3, 0, 1, 5, 2]), np.array([1, 4, 2, 0, 7]), axes="n")},
        rotary,
        dy="n d",
        named=rotary_named,
        page=F.rotary,
    ),
    Exercise(
        packing_backward,
        "Inside a model a batch may be rows without padding. What was left out has acted on nothing.",
        (
            "Each row of y is a copy of one row of x. Which rows of x have no copy?",
            "Those have a zero gradient; the others' is the dy of their copy.",
            "x[mask] can be assigned to, too: begin with zeros of x's shape.",
        ),
        {"x": normal("b t m"), "mask": _PADDED},
        packing,
        named=packing_named,
        dy="n m",
    ),
    Exercise(
        packed_attention_backward,
        "Rows of several sequences lie in one array, and none sees another sequence's.",
        (
            "Each sequence is an exercise `attention` of its own. Where do its gradients go?",
            "To the rows that the sequence has in q, k and v, and to no others.",
            "Loop over lengths as the forward does, and put the three gradients of each part one behind the other.",
        ),
        {"q": normal("n d"), "k": normal("n d"), "v": normal("n d"), "lengths": given((2, 3), (3, 2))},
        packed_attention,
        dy="n d",
        named=packed_attention_named,
        page=F.packed_attention,
    ),
)
