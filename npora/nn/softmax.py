"""Softmax and its logarithm, with their true pullbacks."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array, Identities, Named, Pullback, declares


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dx = 0", gradients["x"]


@declares(_rows_sum_to_zero)
def softmax(x: Array, mask: Array | None = None) -> tuple[Array, Pullback]:
    """p_s = e^(x_s) / Σ e^(x_s) over the last axis, where `mask` (bool, broadcast to x) is True; zero elsewhere.

        dx = p ⊙ (dp − Σ_s dp_s p_s)

    A row that is masked throughout gives zeros and passes no gradient. Identity: Σ_s dx_s = 0.

    Raises
    ------
    ValueError: the mask does not broadcast to x.
    """
    # e^(−∞) = 0; a masked x may be anything, and meets no arithmetic
    z = x if mask is None else np.where(mask, x, x.dtype.type(-np.inf))
    if mask is not None and z.shape != x.shape:
        raise ValueError(f"a mask of shape {mask.shape} does not broadcast to x, of shape {x.shape}")
    top = z.real.max(axis=-1, keepdims=True, initial=-np.inf)  # [...,1]
    top[np.isneginf(top)] = 0  # of a row that is masked throughout
    e = np.exp(z - top)
    total = e.sum(axis=-1, keepdims=True)  # [...,1]
    total[total == 0] = 1
    p = e / total
    return p, lambda dp: p * (dp - (dp * p).sum(axis=-1, keepdims=True))


@declares(_rows_sum_to_zero)
def log_softmax(x: Array) -> tuple[Array, Pullback]:
    """l_v = x_v − log Σ e^(x_v) over the last axis;  dx = dl − p Σ_v dl_v with p = e^l.  Identity: Σ_v dx_v = 0."""
    shifted = x - x.real.max(axis=-1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
