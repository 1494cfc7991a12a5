"""A classification loss checks its targets, and says what to do where they do not fit."""

from __future__ import annotations

import numpy as np

from npora.nn.parameter import Array


def check_targets(logits: Array, targets: Array, ignore_index: int) -> None:
    """Raise ValueError, with what to do, unless logits are [n,v] and targets whole numbers [n], each of them ignored or
    a class in [0, v)."""
    _check_shapes(logits, targets)
    outside = (targets != ignore_index) & ((targets < 0) | (targets >= logits.shape[1]))
    if (wrong := np.flatnonzero(outside)).size:
        row, classes = int(wrong[0]), logits.shape[1]
        raise ValueError(f"target {targets[row]} in row {row} is not one of the {classes} classes 0 … {classes - 1}")


def _check_shapes(logits: Array, targets: Array) -> None:
    came = f"cross_entropy takes logits [n,v] and integer targets [n]; got {_said(logits)} and {_said(targets)}"
    if logits.dtype.kind not in "fc":
        raise ValueError(f"{came}: expected logits of floating point: pass logits.astype(float)")
    if logits.ndim != 2:
        flat = "(1, -1)" if logits.ndim < 2 else f"(-1, {logits.shape[-1]})"
        raise ValueError(f"{came}: pass logits.reshape{flat} and targets.reshape(-1)")
    whole = np.issubdtype(targets.dtype, np.integer)
    if targets.shape == (len(logits),):
        if not whole:
            raise ValueError(f"{came}: expected integer targets, the classes' numbers: pass targets.astype(np.int64)")
    elif targets.shape == logits.shape and not (whole and targets.size == len(logits)):
        raise ValueError(f"{came}: for one target in a row pass targets.argmax(-1), for several binary_cross_entropy")
    elif targets.size == len(logits):
        raise ValueError(f"{came}: pass targets.reshape(-1)")
    else:
        raise ValueError(f"{came}: expected {len(logits)} integer targets, one for each row")


def _said(x: Array) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"
