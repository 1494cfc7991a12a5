"""LoftQ: the start at what quantising took away from W."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.files.refusal import shortened
from npora.machine.stored import form_of, is_quantized
from npora.nn.module import Array, Module

_BITS = {"nf4": 4, "int8": 8}


def loftq(W: Any, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """W₀ − W = U Σ Vᵀ,  A = √(Σᵣ/s) Vᵣᵀ,  B = Uᵣ √(Σᵣ/s).    W [o,i]  →  A [r,i]  B [o,r]

    (Li et al., 2023, arXiv:2310.08659.) W is quantised, and W₀ what it was in its file. Then W + s B A is nearer to W₀
    than any other sum of W and a matrix of rank r.

    The paper alternates: W ← q(W₀ − s B A), and A and B anew. Here W is the base's own, whose bytes stay, since other
    adapters stand on them too: so there is one turn, which is PEFT's default (`loftq_iter`). PEFT does not divide by s,
    and is right for s = 1 alone.

    Raises
    ------
    ValueError: W is not quantised, or not as it was read from its file; it has fewer directions than r.
    """
    if not is_quantized(W):
        raise ValueError(
            "init_lora_weights='loftq' begins at what quantising took away, and this base is not quantised: load it "
            "with from_pretrained(…, quantize='nf4') or 'int8'"
        )
    if W.original is None:
        raise ValueError(
            "init_lora_weights='loftq' needs what W was before it was quantised, and that is not there any more: load "
            "the base with from_pretrained(…, quantize=…), which knows its file"
        )
    if r > min(W.shape):
        raise ValueError(f"init_lora_weights='loftq' takes r of {min(W.shape)} directions of W, {W.shape}; got r={r}")
    rest = np.asarray(W.original, np.float32) - np.asarray(W)
    U, S, V = np.linalg.svd(rest, full_matrices=False)  # [o,r], [r], [r,i] of the full rank
    root = np.sqrt(S[:r] / S.dtype.type(s))
    return root[:, None] * V[:r], U[:, :r] * root  # [r,i], [o,r]


def check_loftq(settings: Mapping[str, Any] | None, model: Module | None = None) -> None:
    """Check PEFT's `loftq_config`, {"loftq_bits": 4 or 8, "loftq_iter": 1}, each of which may be left out.

    Raises
    ------
    ValueError: a key or value that there is not; bits of another form than the model's matrices are in.
    """
    for name, value in (settings or {}).items():
        if name not in ("loftq_bits", "loftq_iter"):
            raise ValueError(f"loftq_config has loftq_bits and loftq_iter; got {shortened(name)}")
        if name == "loftq_iter" and value != 1:
            raise ValueError(
                "loftq_iter must be 1: another turn would quantise the base anew, and its bytes stay; got "
                f"{shortened(value)}"
            )
        if name == "loftq_bits" and value not in (4, 8):
            raise ValueError(f"loftq_bits must be 4 or 8; got {shortened(value)}")
    bits, parameters = (settings or {}).get("loftq_bits"), () if model is None else model.parameters()
    forms = sorted({form_of(parameter.data) for parameter in parameters if is_quantized(parameter.data)})
    if bits is not None and forms and all(_BITS.get(form) != bits for form in forms):
        raise ValueError(f"loftq_config says loftq_bits={bits}, and the base is in {', '.join(forms)}")
