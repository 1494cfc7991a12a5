"""Attention, from scores to groups of heads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npora.nn import functional as F
from npora.nn.module import Array
from npora.study.exercises.declared import Exercise, normal


def scores(q: Array, k: Array) -> Array:
    """z = q kᵀ/√d.    q [t,d]  k [s,d]  →  z [t,s]"""
    return q @ k.T / np.sqrt(q.shape[-1])


def scores_backward(dz: Array, q: Array, k: Array) -> tuple[Array, Array]:
    return dz @ k / np.sqrt(q.shape[-1]), dz.T @ q / np.sqrt(q.shape[-1])


def scores_named(dz: Array, q: Array, k: Array) -> dict[str, Any]:
    return {"d": q.shape[-1], "t": len(q), "s": len(k)}


def attention(q: Array, k: Array, v: Array) -> Array:
    """y = p v with p = softmax(q kᵀ/√d) over the last axis, the keys'.    q [t,d]  k [s,d]  v [s,o]  →  y [t,o]"""
    z = q @ k.T / np.sqrt(q.shape[-1])
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def attention_backward(dy: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    return attended(dy, q, k, v, np.ones((len(q), len(k)), bool))


def attended(dy: Array, q: Array, k: Array, v: Array, seen: Array) -> tuple[Array, Array, Array]:
    d = math.sqrt(q.shape[-1])
    p = _softmax(np.where(seen, q @ k.T / d, -np.inf))
    dp = dy @ v.T
    dz = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
    return dz @ k / d, dz.T @ q / d, p.T @ dy


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def shares(dy: Array, q: Array, k: Array, v: Array, seen: Array) -> dict[str, Any]:
    """By name: the share of the sum in softmax, and the gradients after the usual mistakes."""
    d = math.sqrt(q.shape[-1])
    z = q @ k.T / d
    p, dp = _softmax(np.where(seen, z, -np.inf)), dy @ v.T
    sums = -p * (dp * p).sum(axis=-1, keepdims=True)
    through = {
        "the share of the sum in softmax": sums, "the gradient with dp in the place of dz": dp,
        "the gradient with a sum over the queries in softmax": p * (dp - (dp * p).sum(axis=0)),
        "the gradient without softmax's factor p": dp + sums / p if p.all() else dp,
    }  # fmt: skip
    found: dict[str, Any] = {"d, the width of q": q.shape[-1]}
    for name, dz in through.items():
        found |= {f"{name} (dq)": dz @ k / d, f"{name} (dk)": dz.T @ q / d}
    wholes = [("sees masked keys too", np.ones_like(seen)), ("sees the masked keys alone", ~seen),
              ("sees its own and later keys, by the mask's transpose,", seen.T),
              ("sees no later key", seen & (np.tri(*seen.shape) > 0))]  # fmt: skip
    for name, mask in () if seen.all() else wholes:
        if mask.shape == seen.shape and mask.any(axis=1).all() and not np.array_equal(mask, seen):
            each = attended(dy, q, k, v, mask)
            found |= {
                f"the gradient where a query {name} ({x})": g for x, g in zip(("dq", "dk", "dv"), each, strict=True)
            }
    if not seen.all():
        later = _softmax(z) * seen
        dz = later * (dp - (dp * later).sum(axis=-1, keepdims=True))
        found |= {"the gradient with the mask after softmax (dq)": dz @ k / d,
                  "the gradient with the mask after softmax (dk)": dz.T @ q / d,
                  "the gradient with the mask after softmax (dv)": later.T @ dy}  # fmt: skip
    return {**found, "the gradient with the scores in the place of p": z.T @ dy, "dy summed over t": dy.sum(axis=0)}


def attention_named(dy: Array, q: Array, k: Array, v: Array) -> dict[str, Any]:
    return shares(dy, q, k, v, np.ones((len(q), len(k)), bool))


def causal_attention(q: Array, k: Array, v: Array) -> Array:
    """y = p v with p = softmax(q kᵀ/√d), where row n of q sees the rows of k up to n alone.

    q, k, v [n,d]  →  y [n,d]
    """
    z = q @ k.T / np.sqrt(q.shape[-1])
    z = np.where(np.tri(len(q)) > 0, z, -np.inf)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def causal_attention_backward(dy: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    return attended(dy, q, k, v, np.tri(len(q)) > 0)


def causal_attention_named(dy: Array, q: Array, k: Array, v: Array) -> dict[str, Any]:
    return shares(dy, q, k, v, np.tri(len(q)) > 0)


def grouped_attention(q: Array, k: Array, v: Array) -> Array:
    """Attention whose h query heads share g key-value heads: query head j attends with key-value head j // (h/g).

    y_j = softmax(q_j kᵀ/√d) v with k and v of that head.    q [h,t,d]  k, v [g,s,d]  →  y [h,t,d]
    """
    each = len(q) // len(k)
    k, v = k.repeat(each, axis=0), v.repeat(each, axis=0)
    z = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def grouped_attention_backward(dy: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    dq, dk, dv = (np.stack(found) for found in zip(*_heads(dy, q, k, v), strict=True))
    return dq, dk.reshape(len(k), -1, *k.shape[1:]).sum(axis=1), dv.reshape(len(v), -1, *v.shape[1:]).sum(axis=1)


def _heads(dy: Array, q: Array, k: Array, v: Array) -> list[tuple[Array, Array, Array]]:
    each, seen = len(q) // len(k), np.ones((q.shape[1], k.shape[1]), bool)
    return [attended(dy[j], q[j], k[j // each], v[j // each], seen) for j in range(len(q))]


def grouped_attention_named(dy: Array, q: Array, k: Array, v: Array) -> dict[str, Any]:
    found: dict[str, Any] = {"d, the width of q": q.shape[-1], "h/g, the query heads of a group": len(q) // len(k)}
    _, *by_head = (np.stack(each) for each in zip(*_heads(dy, q, k, v), strict=True))
    for name, of_head in zip("kv", by_head, strict=True):
        grouped = of_head.reshape(len(k), -1, *k.shape[1:])
        found[f"the gradient of each group's first query head alone (d{name})"] = grouped[:, 0]
        found[f"the gradient of each group's last query head alone (d{name})"] = grouped[:, -1]
        by_turns = of_head.reshape(-1, len(k), *k.shape[1:]).sum(axis=0)
        found[f"the gradient with the query heads dealt to the groups by turns (d{name})"] = by_turns
    seen, each = np.ones((q.shape[1], k.shape[1]), bool), len(q) // len(k)
    parts = [shares(dy[j], q[j], k[j // each], v[j // each], seen) for j in range(len(q))]
    for name in parts[0]:
        if name.endswith("(dq)"):
            found[name] = np.stack([part[name] for part in parts])
        if name.endswith("(dk)"):
            found[name] = np.stack([part[name] for part in parts]).reshape(len(k), -1, *k.shape[1:]).sum(axis=1)
    return found


EXERCISES = (
    Exercise(
        scores_backward,
        "Each score is the product of one query with one key. Return (dq, dk).",
        (
            "z_ts = Σ_d q_td k_sd/√d: differentiate it by q_td, and by k_sd.",
            "dq_td = Σ_s dz_ts k_sd/√d, and dk_sd sums over t.",
            "dq is dz times k; dk is dz transposed times q. Both keep the 1/√d.",
        ),
        {"q": normal("t d"), "k": normal("s d")},
        scores,
        dy="t s",
        named=scores_named,
        page=F.attention,
    ),
    Exercise(
        attention_backward,
        "Three steps, of which each has been an exercise: scores, softmax, and a product. Go back through them in the "
        "opposite order, and return (dq, dk, dv).",
        (
            "Compute p again. Of y = p v, what are dv and dp?",
            "dv = pᵀ dy and dp = dy vᵀ. From dp to dz as in the exercise `softmax`.",
            "From dz to dq and dk as in the exercise `scores`, with 1/√d in both.",
        ),
        {"q": normal("t d"), "k": normal("s d"), "v": normal("s o")},
        attention,
        dy="t o",
        named=attention_named,
        page=F.attention,
    ),
    Exercise(
        causal_attention_backward,
        "As `attention`, where no query sees a later key. Here there are as many queries as keys.",
        (
            "What is p where a query does not see a key?",
            "It is 0 there, so softmax's pullback gives 0 there too: nothing else is to be masked.",
            "Compute p as the forward does, with np.tri, and go on as in `attention`.",
        ),
        {"q": normal("n d"), "k": normal("n d"), "v": normal("n d")},
        causal_attention,
        dy="n d",
        named=causal_attention_named,
        page=F.packed_attention,
    ),
    Exercise(
        grouped_attention_backward,
        "As `attention`, head by head; but several query heads use one head of keys and values.",
        (
            "With k and v repeated for each query head, all is as in `attention`. What undoes the repetition?",
            "A key-value head gets the sum of what its query heads give it.",
            "repeat puts the copies next to each other: reshape [h,s,d] to [g,h/g,s,d] and sum over the second axis.",
        ),
        {"q": normal("h t d"), "k": normal("g s d"), "v": normal("g s d")},
        grouped_attention,
        dy="h t d",
        named=grouped_attention_named,
        page=F.packed_attention,
    ),
)
