"""The loss over a large vocabulary, whose logits never exist all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.machine.stored import Stored
from npora.nn.cross_entropy import cross_entropy
from npora.nn.generator import copied
from npora.nn.grad_mode import is_grad_enabled, no_grad
from npora.nn.module import Array, Module, is_trained

_LOGITS_AT_ONCE = 3 << 21  # 25 MB of float32: a product with the vocabulary keeps most of its speed
_ROWS_OF_STORED = 256  # at least, where each block of rows widens the whole of the vocabulary's matrix, twice


def projected_cross_entropy(
    h: Array,
    targets: Array,
    head: Module,
    *,
    ignore_index: int = -100,
    rows_at_once: int | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Any, Callable[..., Array], int]:
    """ℓ = cross_entropy(head(h), targets), in blocks of rows.    h [n,m]  targets int [n]  →  ℓ scalar

    Returns (ℓ, backward, N): backward(dℓ) → dh [n,m], and ℓ is the mean over N rows. Rows whose target is ignored are
    not projected at all. With z = head(h) and dz as of cross_entropy,

        dh = head's pullback of dz      (1)

    ℓ is a scalar, so dh is known up to the factor dℓ while z still exists: a frozen head is differentiated block by
    block in forward, and dh alone is kept. A head that is trained must wait for backward, since only backward adds to
    gradients: its logits are computed again there. `rng` is for an adapter on the head: what it dropped in forward it
    drops again.
    """
    counted = np.flatnonzero(np.asarray(targets) != ignore_index)
    targets = np.asarray(targets)[counted]
    width = rows_at_once or _rows_at_once(head, h, rng)
    blocks = [slice(start, start + width) for start in range(0, len(counted), width)]
    number = max(len(counted), 1)
    at_once = is_grad_enabled() and not is_trained(head)
    loss, dtype = np.zeros((), dtype=h.dtype), h.dtype
    kept = np.zeros_like(h) if at_once else h
    drawn: list[np.random.Generator | None] = []
    for block in blocks:
        rows = counted[block]
        if at_once:
            z, back_head = head(h[rows], rng)
            part, back_loss = cross_entropy(z, targets[block], ignore_index=ignore_index)
            del z  # or it would be there beside its gradient
            kept[rows] = back_head(back_loss(len(rows) / number))  # (1)
            del back_head, back_loss  # or its probabilities would be there beside the next block's
        else:
            drawn.append(copied(rng))
            with no_grad():
                z, _ = head(h[rows], rng)
                part, _ = cross_entropy(z, targets[block], ignore_index=ignore_index)
            del z
        loss = loss + part * (len(rows) / number)

    def backward(dloss: Any = 1.0) -> Array:
        if at_once:
            return kept * np.asarray(dloss, dtype=dtype)
        dh = np.zeros_like(kept)
        for block, drops in zip(blocks, drawn, strict=True):
            rows = counted[block]
            z, back_head = head(kept[rows], copied(drops))
            _, back_loss = cross_entropy(z, targets[block], ignore_index=ignore_index)
            del z
            dh[rows] = back_head(back_loss(dloss * (len(rows) / number)))  # (1) [n,m]
            del back_head, back_loss
        return dh

    return loss, backward, len(counted)


def _rows_at_once(head: Module, h: Array, rng: np.random.Generator | None) -> int:
    with no_grad():
        z, _ = head(h[:1], copied(rng))
    is_stored = any(isinstance(parameter.data, Stored) for parameter in head.parameters())
    return max(_LOGITS_AT_ONCE // int(z.shape[-1]), _ROWS_OF_STORED if is_stored else 1)
