"""CorDA: the start at the singular values of W beside the covariance of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from npora.lora.starts.settings import Settings
from npora.lora.values import Unsupported
from npora.machine.product import product
from npora.nn.module import Array

_ERROR = 0.05  # that C′⁻¹ may have at most


@dataclass
class CordaConfig(Settings):
    """A CordaConfig says which directions CorDA takes (Yang et al., 2024).

    corda_method : "ipm", the instruction-previewed mode, the r largest, where the data are those of the new task;
        "kpm", the knowledge-preserved mode, the r smallest, where they are of what is to be kept

    Raises
    ------
    ValueError: a value that makes no sense, or a field of PEFT's that npora does not support, by its name.
    """

    corda_method: Literal["ipm", "kpm"] = "ipm"
    cache_file: Unsupported = None
    covariance_file: Unsupported = None
    verbose: Unsupported = False
    use_float16_for_covariance: Unsupported = False
    prune_temporary_fields: Unsupported = True


class Covariance:
    """C = (1/N) Σ X̃ᵀ X̃,  X̃ = X / |max X|.    X [n,i]  →  C [i,i]    (1)

    N is the number of arrays X that were seen: one for each call of the layer.
    """

    def __init__(self) -> None:
        self.total: Array | None = None
        self.count = 0

    def see(self, X: Array, path: str) -> None:
        """Raises ValueError where X̃ is not finite."""
        largest = abs(X.max(initial=-np.inf))
        if not (0 < largest < np.inf and np.isfinite(X).all()):
            raise ValueError(f"CorDA divides the inputs of {path} by the largest of them, which is {X.max(initial=0)}")
        scaled = X / largest
        C = product(scaled.T, scaled)  # [i,i]
        self.total = C if self.total is None else self.total + C
        self.count += 1

    @property
    def mean(self) -> Array:
        assert self.total is not None, "no input was seen"
        return self.total / self.total.dtype.type(self.count)  # (1) [i,i]


def corda(C: Array, config: CordaConfig, W: Array, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """W C′ = U Σ Vᵀ,  A = √(Σᵣ/s) Vᵣᵀ C′⁻¹,  B = Uᵣ √(Σᵣ/s).    W [o,i]  C, C′ [i,i]  →  A [r,i]  B [o,r]

    (Yang et al., 2024, arXiv:2406.05223.) C is the covariance (1) of what the layer was given. Where it is large, an
    error of W is seen, so that W C is cut rather than W, and the covariance taken out again behind it:

        C′ = C + λ mean(diag C) I                   (2)   λ = 0.01, doubled until ‖C′ C′⁻¹ − I‖ < 0.05
        W C′ = U Σ Vᵀ                               (3)
        s B A = Uᵣ Σᵣ Vᵣᵀ C′⁻¹                      (4)   of all directions, W itself

    What is trained begins at the r largest ("ipm"), which do most of the work on such inputs as were seen; or at the r
    smallest ("kpm"), so that what they need stays in W − s B A. W goes on from there, and the new layer is the old one.

    The paper has s = 1, and C of X itself. The division by |max X|, and by the largest number rather than the largest
    modulus, is of the authors' program and PEFT's. There X is one text; here it is whatever a call of the layer has,
    without padding, so that batches of one text give PEFT's C.
    """
    W, C = np.asarray(W), C.astype(W.dtype, copy=False)
    one = np.eye(len(C), dtype=C.dtype)
    share = C.dtype.type(0.01)
    while True:
        damped = C + share * np.mean(np.diag(C)) * one  # (2) [i,i]
        inverse = np.linalg.inv(damped)
        if np.linalg.norm(damped @ inverse - one) < _ERROR:
            break
        share *= 2
    U, S, V = np.linalg.svd(product(W, damped), full_matrices=False)  # (3)
    some = slice(0, r) if config.corda_method == "ipm" else slice(len(S) - r, len(S))
    root = np.sqrt(S[some] / S.dtype.type(s))
    return root[:, None] * product(V[some], inverse), U[:, some] * root  # (4) [r,i], [o,r]
