"""A classification loss checks its targets, and says what to do where they do not fit."""

from __future__ import annotations

import numpy as np

from npora.nn.contract import Array

IGNORED = -100  # the target where there is none, unless another is said


def check_targets(logits: Array, targets: Array, ignore_index: int) -> None:
    """Raise ValueError, with what to do, unless logits are [n,v] and targets whole numbers [n], each of them ignored or
    a class in [0, v)."""
    if logits.dtype.kind not in "fc":
        remedy = "expected logits of floating point: pass logits.astype(float)"
    elif logits.ndim != 2:
        flat = "(1, -1)" if logits.ndim < 2 else f"(-1, {logits.shape[-1]})"
        remedy = f"pass logits.reshape{flat} and targets.reshape(-1)"
    elif targets.shape == logits.shape:
        remedy = "for one target in a row pass targets.argmax(-1), for several call binary_cross_entropy"
    elif targets.shape != logits.shape[:1]:
        remedy = f"expected {len(logits)} integer targets, one for each row"
    elif not np.issubdtype(targets.dtype, np.integer):
        remedy = "expected integer targets, the classes' numbers: pass targets.astype(np.int64)"
    else:
        outside = (targets != ignore_index) & ((targets < 0) | (targets >= logits.shape[1]))
        if (wrong := np.flatnonzero(outside)).size:
            row, last = int(wrong[0]), logits.shape[1] - 1
            raise ValueError(f"target {targets[row]} in row {row} is not one of the {last + 1} classes 0 … {last}")
        return
    came = " and ".join(f"{x.dtype}[{','.join(map(str, x.shape))}]" for x in (logits, targets))
    raise ValueError(f"cross_entropy takes logits [n,v] and integer targets [n]; got {came}: {remedy}")
