"""The starts of LoRA that `init_lora_weights` names: what A and B begin as, a page each.

A new start is a file here with a function of its name, and a line in STARTS. `methods/lora.py` draws the plain ones and
begins with one of these where its product is zero; `methods/lora_started.py` is for those whose product is not. What a
start needs of data lies on the layer by then, as its Prepared: `preprocess.py` records it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from npora.files.refusal import naming
from npora.lora.starts.corda import CordaConfig, corda
from npora.lora.starts.eva import EvaConfig
from npora.lora.starts.loftq import loftq
from npora.lora.starts.lora_ga import LoraGAConfig, lora_ga
from npora.lora.starts.olora import olora
from npora.lora.starts.orthogonal import orthogonal
from npora.lora.starts.pissa import pissa, pissa_niter
from npora.lora.starts.settings import Settings
from npora.machine.blas import on_one_thread
from npora.nn.linear import Linear
from npora.nn.module import Array


class Start(NamedTuple):
    """A Start makes (A, B) of (W, r, s, rng).    W [o,i] → A [r,i], B [o,r]

    begin : the function; one of data takes these and its settings before
    is_kept : whether s B A is no zero and taken away from W: A₀ and B₀ are then kept, so that the new layer is the old
        one
    needs : what is to be called before, where it is made of data
    """

    begin: Callable[..., tuple[Array, Array]]
    is_kept: bool
    needs: str = ""


@dataclass(frozen=True)
class Prepared:
    """What was recorded for a layer's start, and under which settings: a covariance of its inputs, or a gradient."""

    start: str
    settings: Settings
    data: Array


STARTS = {
    "orthogonal": Start(orthogonal, False),
    "pissa": Start(pissa, True),
    "olora": Start(olora, True),
    "loftq": Start(loftq, False),
    "corda": Start(corda, True, "preprocess_corda(model, config, batches)"),
    "lora_ga": Start(lora_ga, True, "preprocess_loraga(model, config, batches)"),
}
NAMES = ("orthogonal", "pissa", "pissa_niter_N", "olora", "loftq", "eva", "corda", "lora_ga")
SETTINGS: dict[str, tuple[str, type[Settings]]] = {  # of LoraConfig, by the start that they are for
    "eva": ("eva_config", EvaConfig),
    "corda": ("corda_config", CordaConfig),
    "lora_ga": ("lora_ga_config", LoraGAConfig),
}


def start_of(name: object) -> Start | None:
    """Return the start that an `init_lora_weights` names; None for one that has no page here, or none of its own in a
    new adapter, as EVA, whose A is put in afterwards."""
    if isinstance(name, str) and (found := re.fullmatch(r"pissa_niter_(\d{1,3})", name)):
        return Start(pissa_niter(int(found[1])), True)
    return STARTS.get(name) if isinstance(name, str) else None


def begun(config: Any, base: Linear, r: int, s: float, rng: np.random.Generator, path: str) -> tuple[Array, Array]:
    """Return A [r,i] and B [o,r] as a config's start makes them of W [o,i], the matrix of the layer at a path.

    Raises
    ------
    ValueError: there is no such start, W or the data have fewer directions than it takes, or there are no data.
    """
    name, W = config.init_lora_weights, base.matrix
    start = start_of(name)
    if start is None:
        raise ValueError(f"there is no start init_lora_weights={name!r}; there are {', '.join(NAMES)}")
    if start.is_kept and r > min(W.shape):
        raise ValueError(
            f"init_lora_weights={name!r} takes r directions of W, and {path or 'this'}, of shape {tuple(W.shape)}, has "
            f"{min(W.shape)}; got the rank {r}: give it a lower one, in r or rank_pattern"
        )
    with naming(path or "this layer"), on_one_thread():  # many small products wait for each other beside other programs
        recorded = _recorded(base, config, start) if start.needs else ()
        A, B = start.begin(*recorded, W, r, s, rng)
    return np.ascontiguousarray(A), np.ascontiguousarray(B)


def _recorded(base: Linear, config: Any, start: Start) -> tuple[Array, Settings]:
    """Return what was recorded for this start on this layer, and its settings."""
    name = config.init_lora_weights
    prepared = vars(base).get("_prepared")
    if not isinstance(prepared, Prepared) or prepared.start != name:
        raise ValueError(f"init_lora_weights={name!r} is made of data: call {start.needs} before get_peft_model")
    field, _ = SETTINGS[name]
    if prepared.settings != getattr(config, field):
        raise ValueError(f"{field} is another than when the data were recorded: call {start.needs} again")
    return prepared.data, prepared.settings
