"""The loss over a large vocabulary, whose logits never exist all at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.machine.stored import Stored
from npora.nn.cross_entropy import cross_entropy
from npora.nn.grad_mode import is_grad_enabled, no_grad
from npora.nn.module import Array, Module, checkpoint, is_trained

_LOGITS_AT_ONCE = 3 << 21  # 25 MB of float32: a product with the vocabulary keeps most of its speed
_ROWS_OF_STORED = 256  # at least, where each block of rows widens the whole of the vocabulary's matrix, twice


def projected_cross_entropy(
    h: Array, targets: Array, head: Module, *, ignore_index: int = -100, rows_at_once: int | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Any, Callable[..., Array], int]:  # fmt: skip
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
    at_once = is_grad_enabled() and not is_trained(head)
    loss, dtype, shape = np.zeros((), dtype=h.dtype), h.dtype, h.shape
    kept = np.zeros_like(h) if at_once else None  # dh for dℓ = 1
    backs: list[Callable[..., Array]] = []

    def of_block(h: Array, block: slice, rng: np.random.Generator | None) -> tuple[Any, Callable[[Any], Array]]:
        its_targets = targets[block]
        share = len(its_targets) / len(counted)
        z, back_head = head(h[counted[block]], rng)
        part, back_loss = cross_entropy(z, its_targets, ignore_index=ignore_index)
        return part * share, lambda dloss: back_head(back_loss(dloss * share))  # (1)

    for block in blocks:
        if kept is not None:
            part, back = of_block(h, block, rng)
            kept[counted[block]] = back(1.0)
            del back  # or its probabilities would be there beside the next block's
        else:
            part, back = checkpoint(of_block, h, block, rng=rng)
            backs.append(back)
        loss = loss + part

    def backward(dloss: Any = 1.0) -> Array:
        if kept is not None:
            return kept * np.asarray(dloss, dtype=dtype)
        dh = np.zeros(shape, dtype)
        for block, back in zip(blocks, backs, strict=True):
            dh[counted[block]] = back(dloss)  # [n,m]
        return dh

    return loss, backward, len(counted)


def _rows_at_once(head: Module, h: Array, rng: np.random.Generator | None) -> int:
    with no_grad():
        z, _ = head(h[:1], copy.deepcopy(rng))
    is_stored = any(isinstance(parameter.data, Stored) for parameter in head.parameters())
    return max(_LOGITS_AT_ONCE // int(z.shape[-1]), _ROWS_OF_STORED if is_stored else 1)
