"""LoRA-GA: the start at the singular vectors of the gradient of W."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from npora.lora.starts.pissa import randomised_svd
from npora.lora.starts.settings import Settings
from npora.nn.module import Array

_TURNS = 4  # of the randomised decompositions, as in PEFT
_ROUNDINGS = 100  # a singular value of no more of them is zero


@dataclass
class LoraGAConfig(Settings):
    """A LoraGAConfig says which singular vectors LoRA-GA takes, and how long they are made (Wang et al., 2024).

    direction : "ArB2r", "A2rBr", "ArBr" (every other one) or "random" (the same r for both)
    scale : "stable", "weight_svd", "gd_scale" or "unit"
    stable_gamma : γ of "stable"

    Raises
    ------
    ValueError: a value that makes no sense.
    """

    direction: Literal["ArBr", "A2rBr", "ArB2r", "random"] = "ArB2r"
    scale: Literal["stable", "weight_svd", "gd_scale", "unit"] = "stable"
    stable_gamma: float = 16

    def check(self) -> None:
        if not self.stable_gamma > 0:
            raise ValueError(f"stable_gamma must be above 0; got {self.stable_gamma}")


def lora_ga(
    G: Array, config: LoraGAConfig, W: Array, r: int, s: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """G = U Σ Vᵀ,  A = c_A V_Jᵀ,  B = c_B U_K Σ_K.    W, G = ∂ℓ/∂W [o,i]  →  A [r,i]  B [o,r]

    (Wang, Yu and Li, 2024, arXiv:2407.05000.) The first step of LoRA changes s B A by −η s² (B Bᵀ G + G Aᵀ A), that of
    full fine-tuning W by −η G. The two are nearest, up to a factor, where B's columns are r and A's rows r others of
    the first 2r singular vectors. The randomised decomposition has min(4r, o, i) columns, of which

        J = 1 … r,  K = r+1 … 2r                         "ArB2r"     (1)
        J = r+1 … 2r,  K = 1 … r                         "A2rBr"     (2)
        J = 2, 4 … 2r,  K = 1, 3 … 2r−1                  "ArBr"      (3)
        J = K = r of the 2r, drawn                       "random"    (4)

        c_A = 1,  c_B = o^¼/√γ                           "stable"      (5)
        c_A = 1,  c_B = σ₁(W) / (the first of Σ_K)       "weight_svd"  (6)
        c_A = c_B = 1/s                                  "gd_scale"    (7)
        c_A = c_B = 1                                    "unit"        (8)

    W goes on from W − s B A, and the new layer is the old one.

    The paper has no Σ in B, which is PEFT's, and makes both factors, not B alone, as long as (5) says. PEFT's o of a
    Conv1D in (5) is its i; here it is o. G [o,i] is formed once, layer by layer, and dropped with the start.

    Raises ValueError where G has fewer than 2r directions.
    """
    o, i = W.shape
    U, S, V = randomised_svd(G.astype(W.dtype, copy=False), min(4 * r, o, i), _TURNS, rng)
    if (rank := int((S > _ROUNDINGS * np.finfo(S.dtype).eps * S[0]).sum())) < 2 * r:
        raise ValueError(
            f"LoRA-GA takes 2r directions of the gradient, and this one, of shape {W.shape}, has {rank}; got the rank "
            f"{r}: lower it, in r or rank_pattern, or record the gradient of more rows"
        )
    if config.direction == "random":
        J = K = rng.permutation(2 * r)[:r]  # (4)
    else:
        first, second = np.arange(r), np.arange(r, 2 * r)
        J, K = {
            "ArB2r": (first, second),  # (1)
            "A2rBr": (second, first),  # (2)
            "ArBr": (2 * first + 1, 2 * first),  # (3)
        }[config.direction]
    A, B = V[J], U[:, K] * S[K]  # [r,i], [o,r]
    number = S.dtype.type
    if config.scale == "stable":
        return A, B * number(o**0.25 / config.stable_gamma**0.5)  # (5)
    if config.scale == "weight_svd":
        return A, B * (randomised_svd(np.asarray(W), r, _TURNS, rng)[1][0] / S[K[0]])  # (6)
    if config.scale == "gd_scale":
        return A / number(s), B / number(s)  # (7)
    return A, B  # (8)
