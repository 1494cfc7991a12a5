"""The starts of LoRA that `init_lora_weights` names: what A and B begin as, a page each.

A new start is a file here with a function of its name, and a line in STARTS. `methods/lora.py` draws the plain ones and
begins with one of these where its product is zero; `methods/lora_started.py` is for those whose product is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from npora.lora.starts.loftq import loftq
from npora.lora.starts.olora import olora
from npora.lora.starts.orthogonal import orthogonal
from npora.lora.starts.pissa import pissa, pissa_niter
from npora.machine.blas import on_one_thread
from npora.nn.module import Array

Begin = Callable[[Array, int, float, np.random.Generator], tuple[Array, Array]]


class Start(NamedTuple):
    """A Start makes (A, B) of (W, r, s, rng).    W [o,i] → A [r,i], B [o,r]

    is_kept : whether s B A is no zero and taken away from W: A₀ and B₀ are then kept, so that the new layer is the old
        one
    """

    begin: Begin
    is_kept: bool


STARTS = {
    "orthogonal": Start(orthogonal, False), "pissa": Start(pissa, True), "olora": Start(olora, True),
    "loftq": Start(loftq, False),
}  # fmt: skip
NAMES = ("orthogonal", "pissa", "pissa_niter_N", "olora", "loftq")


def start_of(name: object) -> Start | None:
    """Return the start that an `init_lora_weights` names; None for one that has no page here."""
    if isinstance(name, str) and (found := re.fullmatch(r"pissa_niter_(\d{1,3})", name)):
        return Start(pissa_niter(int(found[1])), True)
    return STARTS.get(name) if isinstance(name, str) else None


def begun(name: str, W: Array, r: int, s: float, rng: np.random.Generator, path: str) -> tuple[Array, Array]:
    """Return A [r,i] and B [o,r] as the start of this name makes them of W [o,i], the matrix of the layer at a path.

    Raises
    ------
    ValueError: there is no such start, or W has fewer directions than r.
    """
    start = start_of(name)
    if start is None:
        raise ValueError(f"there is no start init_lora_weights={name!r}; there are {', '.join(NAMES)}")
    if start.is_kept and r > min(W.shape):
        raise ValueError(
            f"init_lora_weights={name!r} takes r directions of W, and {path or 'this'}, of shape {tuple(W.shape)}, has "
            f"{min(W.shape)}; got the rank {r}: give it a lower one, in r or rank_pattern"
        )
    with on_one_thread():  # a decomposition's many small products wait for each other where another program runs
        A, B = start.begin(W, r, s, rng)
    return np.ascontiguousarray(A), np.ascontiguousarray(B)
