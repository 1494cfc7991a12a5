"""LoRA and its kin: a frozen matrix W, and what is trained beside it; and NF4, in which a frozen W may lie."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from npora.lora.methods.adalora import AdaLoRA
from npora.lora.methods.dora import DoRA
from npora.lora.methods.loha import LoHa
from npora.lora.methods.lora import LoRA
from npora.lora.methods.vera import VeRA
from npora.nn.module import Array
from npora.study.exercises.declared import Exercise, given, normal, positive


def lora(x: Array, A: Array, B: Array, *, W: Array, s: float) -> Array:
    """y = (W + s B A) x for each row x, that is y = x Wᵀ + s (x Aᵀ) Bᵀ.

    x [n,i]  A [r,i]  B [o,r]  W [o,i]  →  y [n,o]
    """
    return x @ W.T + s * (x @ A.T) @ B.T


def lora_backward(dy: Array, x: Array, A: Array, B: Array, *, W: Array, s: float) -> tuple[Array, Array, Array]:
    du = s * dy @ B
    return dy @ W + du @ A, du.T @ x, s * dy.T @ (x @ A.T)


def lora_named(dy: Array, x: Array, A: Array, B: Array, *, W: Array, s: float) -> dict[str, Any]:
    return {
        "the share of W": dy @ W, "the share of the adapter": s * dy @ B @ A,
        "the gradient without s": dy @ W + dy @ B @ A, "r": len(A), "n": len(x),
    }  # fmt: skip


def lora_merged(A: Array, B: Array, *, W: Array, s: float) -> Array:
    """V = W + s B A: the layer's new matrix.    A [r,i]  B [o,r]  W [o,i]  →  V [o,i]"""
    return W + s * B @ A


def lora_merged_backward(dV: Array, A: Array, B: Array, *, W: Array, s: float) -> tuple[Array, Array]:
    return s * B.T @ dV, s * dV @ A.T


def lora_merged_named(dV: Array, A: Array, B: Array, *, W: Array, s: float) -> dict[str, Any]:
    return {
        "the gradient with V in the place of dV (dA)": s * B.T @ (W + s * B @ A), "r": len(A),
        "the gradient with V in the place of dV (dB)": s * (W + s * B @ A) @ A.T,
    }  # fmt: skip


def dora(x: Array, A: Array, B: Array, m: Array, *, W: Array, s: float, c: Array) -> Array:
    """y = (m/c) ⊙ V x for each row x, with V = W + s B A, that is y = (m/c) ⊙ (x Vᵀ).

    x [n,i]  A [r,i]  B [o,r]  m, c [o]  W [o,i]  →  y [n,o]
    """
    return m / c * (x @ (W + s * B @ A).T)


def dora_backward(
    dy: Array, x: Array, A: Array, B: Array, m: Array, *, W: Array, s: float, c: Array
) -> tuple[Array, Array, Array, Array]:
    V, dz = W + s * B @ A, m / c * dy
    du = s * dz @ B
    return dz @ V, du.T @ x, s * dz.T @ (x @ A.T), (dy * (x @ V.T)).sum(axis=0) / c


def dora_named(dy: Array, x: Array, A: Array, B: Array, m: Array, *, W: Array, s: float, c: Array) -> dict[str, Any]:
    plain = lora_backward(dy, x, A, B, W=W, s=s)
    names = ("x", "A", "B")
    right = dora_backward(dy, x, A, B, m, W=W, s=s, c=c)
    dz = m / c * dy
    V = W + s * B @ A
    dV, along = dz.T @ x, V * ((dz.T @ x) * V).sum(axis=1, keepdims=True)
    through = {"c": dV - along / c[:, None] ** 2, "of V": dV - along / (V * V).sum(axis=1, keepdims=True)}
    return {
        **{f"the gradient that goes through the lengths {of} too (dA)": s * B.T @ g for of, g in through.items()},
        **{f"the gradient that goes through the lengths {of} too (dB)": s * g @ A.T for of, g in through.items()},
        "c": c, "1/c": 1 / c, "m": m, "c (of each row)": c[:, None], "m/c (of each row)": (m / c)[:, None],
        "m (of each row)": m[:, None],
        **{f"the gradient without m/c (d{name})": g for name, g in zip(names, plain, strict=True)},
        "the share of W (dx)": dz @ W, "the share of the adapter (dx)": s * dz @ B @ A,
        "the share of the adapter (dm)": (dy * (s * x @ A.T @ B.T)).sum(axis=0) / c,
        "the share of W (dm)": (dy * (x @ W.T)).sum(axis=0) / c, "m/c too often (dm)": right[3] * m / c,
        **{f"the gradient without 1/c (d{name})": lora_backward(m * dy, x, A, B, W=W, s=s)[k]
           for k, name in enumerate(names)},
        **{f"the gradient without m (d{name})": lora_backward(dy / c, x, A, B, W=W, s=s)[k]
           for k, name in enumerate(names)},
    }  # fmt: skip


def vera(x: Array, d: Array, b: Array, *, A: Array, B: Array) -> Array:
    """y = b ⊙ (B (d ⊙ (A x))) for each row x: what VeRA adds to its layer's output.

    x [n,i]  d [r]  b [o]  A [r,i]  B [o,r]  →  y [n,o]; A and B are drawn once, and not trained
    """
    return b * ((d * (x @ A.T)) @ B.T)


def vera_backward(dy: Array, x: Array, d: Array, b: Array, *, A: Array, B: Array) -> tuple[Array, Array, Array]:
    u = x @ A.T
    dw = (b * dy) @ B
    return (d * dw) @ A, (dw * u).sum(axis=0), (dy * ((d * u) @ B.T)).sum(axis=0)


def vera_named(dy: Array, x: Array, d: Array, b: Array, *, A: Array, B: Array) -> dict[str, Any]:
    u = x @ A.T
    return {
        "the gradient without b (dd)": ((dy @ B) * u).sum(axis=0), "the gradient without b (dx)": (d * (dy @ B)) @ A,
        "the gradient without d (dx)": ((b * dy) @ B) @ A, "the gradient without d (db)": (dy * (u @ B.T)).sum(axis=0),
        "d": d, "b": b, "n": len(x),
    }  # fmt: skip


def adalora_penalty(A: Array) -> Array:
    """f = ‖G‖ = √Σ G² with G = A Aᵀ − I: 0 where the rows of A are orthonormal.    A [r,i]  →  f"""
    G = A @ A.T - np.eye(len(A))
    return np.sqrt((G**2).sum())


def adalora_penalty_backward(df: Array, A: Array) -> Array:
    G = A @ A.T - np.eye(len(A))
    return df * 2 * G @ A / np.sqrt((G**2).sum())


def adalora_penalty_named(df: Array, A: Array) -> dict[str, Any]:
    G = A @ A.T - np.eye(len(A))
    f = float(np.sqrt((G**2).sum()))
    return {
        "f": f, "2": 2.0, "df": float(df), "the share of I": -2 * df / f * A,
        "the share of A Aᵀ": 2 * df / f * A @ A.T @ A,
    }  # fmt: skip


def loha(W1a: Array, W1b: Array, W2a: Array, W2b: Array, *, W: Array, s: float) -> Array:
    """V = W + s (W1a W1b) ⊙ (W2a W2b), the product of two matrices element by element.

    W1a, W2a [o,r]  W1b, W2b [r,i]  W [o,i]  →  V [o,i]
    """
    return W + s * (W1a @ W1b) * (W2a @ W2b)


def loha_backward(
    dV: Array, W1a: Array, W1b: Array, W2a: Array, W2b: Array, *, W: Array, s: float
) -> tuple[Array, Array, Array, Array]:
    d1, d2 = s * dV * (W2a @ W2b), s * dV * (W1a @ W1b)
    return d1 @ W1b.T, W1a.T @ d1, d2 @ W2b.T, W2a.T @ d2


def loha_named(dV: Array, W1a: Array, W1b: Array, W2a: Array, W2b: Array, *, W: Array, s: float) -> dict[str, Any]:
    M1, M2 = W1a @ W1b, W2a @ W2b
    found: dict[str, Any] = {}
    for name, mine in {"without the other product": (s * dV, s * dV), "with its own product in the other's place":
                       (s * dV * M1, s * dV * M2)}.items():  # fmt: skip
        found |= {
            f"the gradient {name} (dW1a)": mine[0] @ W1b.T, f"the gradient {name} (dW1b)": W1a.T @ mine[0],
            f"the gradient {name} (dW2a)": mine[1] @ W2b.T, f"the gradient {name} (dW2b)": W2a.T @ mine[1],
        }  # fmt: skip
    return found


def _quantiles(delta: float) -> Array:
    quantile = NormalDist().inv_cdf
    above = [quantile(p) for p in np.linspace(1 - delta, 0.5, 9)[:-1]]
    below = [-quantile(p) for p in np.linspace(1 - delta, 0.5, 8)[:-1]]
    levels: Array = np.sort([*above, 0.0, *below]) / max(above)
    return levels


def nf4_levels() -> Array:
    """Return NF4's 16 levels in rising order, from −1 to 1: quantiles of the normal distribution, and 0.    →  [16]

    With Φ⁻¹ the quantile function and δ = (1/32 + 1/30)/2: of the 9 numbers that lie evenly from 1 − δ to 1/2, ends
    included, leave out 1/2; the Φ⁻¹ of the other 8 are the levels above 0. Of the 8 numbers from 1 − δ to 1/2 leave out
    1/2, too; −Φ⁻¹ of the other 7 are those below. With 0 that is 16. Divide all by the largest.
    """
    return _quantiles((1 / 32 + 1 / 30) / 2)


def nf4_levels_named() -> dict[str, Any]:
    right, top = nf4_levels(), NormalDist().inv_cdf(1 - (1 / 32 + 1 / 30) / 2)
    above = right[right > 0]
    return {
        "Φ⁻¹(1 − δ), the largest,": top, "the levels with δ = 1/32": _quantiles(1 / 32),
        "the levels with δ = 1/30": _quantiles(1 / 30), "the levels in falling order": right[::-1],
        "even steps": np.linspace(-1, 1, 16),
        "the levels above 0 on both sides": np.array([*-above[:0:-1], 0, *above]),
        "the levels with 8 below 0 and 7 above": -right[::-1],
        "the levels as they were computed, not sorted": np.array([*above[::-1], 0, *right[right < 0]]),
    }  # fmt: skip


_FACTORS = {"A": normal("r i"), "B": normal("o r")}
_W, _S = normal("o i"), given(1.75, 0.6)

EXERCISES = (
    Exercise(
        lora_backward,
        "W is frozen: it has no gradient, but x has one through it. Form no array of W's shape beside W, which is what "
        "LoRA is for.",
        (
            "Name u = x Aᵀ [n,r] and go back through y = x Wᵀ + s u Bᵀ first.",
            "du = s dy B, and dB = s dyᵀ u.",
            "u is a linear layer of x: dA = duᵀ x, and dx gets du A beside dy W.",
        ),
        {"x": normal("n i"), **_FACTORS, "W": _W, "s": _S},
        lora,
        dy="n o",
        named=lora_named,
        page=LoRA,
    ),
    Exercise(
        lora_merged_backward,
        "Merged, the adapter is a change of the matrix. Given dV, the gradient of the whole, return (dA, dB).",
        (
            "V_oi = W_oi + s Σ_r B_or A_ri: differentiate it by A_ri, and by B_or.",
            "dA_ri = s Σ_o B_or dV_oi: which of B and dV is transposed?",
            "dA = s Bᵀ dV; dB has dV on the left, and Aᵀ on the right.",
        ),
        {**_FACTORS, "W": _W, "s": _S},
        lora_merged,
        dy="o i",
        named=lora_merged_named,
        page=LoRA.merged,
    ),
    Exercise(
        dora_backward,
        "c is given, as a constant: in DoRA the lengths of V's rows, through which no gradient goes (section 4.3). "
        "m is trained. Return (dx, dA, dB, dm).",
        (
            "Name z = x Vᵀ [n,o]. Of y = (m/c) ⊙ z, what are dz and dm?",
            "dz = (m/c) ⊙ dy, and dm sums dy ⊙ z/c over the rows: both shares of V, W's and the adapter's, are in z.",
            "From dz on it is the exercise `lora`.",
        ),
        {"x": normal("n i"), **_FACTORS, "m": positive("o"), "W": _W, "s": _S, "c": positive("o")},
        dora,
        dy="n o",
        named=dora_named,
        page=DoRA,
    ),
    Exercise(
        vera_backward,
        "Two fixed random matrices, with a trained scale behind each. Return (dx, dd, db).",
        (
            "Name u = x Aᵀ, w = d ⊙ u and v = w Bᵀ, so that y = b ⊙ v, and go back step by step.",
            "dv = b ⊙ dy, dw = dv B, du = d ⊙ dw. Which sums are db and dd?",
            "db sums dy ⊙ v over the rows, and dd sums dw ⊙ u.",
        ),
        {"x": normal("n i"), "d": normal("r"), "b": normal("o"), "A": normal("r i"), "B": normal("o r")},
        vera,
        dy="n o",
        named=vera_named,
        page=VeRA,
    ),
    Exercise(
        adalora_penalty_backward,
        "AdaLoRA draws the rows of A towards orthonormal ones by a penalty, which has a gradient like any loss.",
        (
            "First the gradient by G: what is the derivative of √Σ G²?",
            "dG = df G/f. Then dA = (dG + dGᵀ) A, as A stands twice in A Aᵀ.",
            "G is its own transpose, so both terms are the same.",
        ),
        {"A": normal("r i")},
        adalora_penalty,
        named=adalora_penalty_named,
        page=AdaLoRA,
    ),
    Exercise(
        loha_backward,
        "Two products of low rank, multiplied element by element. Return (dW1a, dW1b, dW2a, dW2b).",
        (
            "Call M₁ = W1a W1b and M₂ = W2a W2b. What are dM₁ and dM₂?",
            "dM₁ = s dV ⊙ M₂, and dM₂ = s dV ⊙ M₁: each gets the other.",
            "M₁ is a product of matrices: dW1a = dM₁ W1bᵀ, dW1b = W1aᵀ dM₁; so for M₂.",
        ),
        {"W1a": normal("o r"), "W1b": normal("r i"), "W2a": normal("o r"), "W2b": normal("r i"), "W": _W, "s": _S},
        loha,
        dy="o i",
        named=loha_named,
        page=LoHa,
    ),
    Exercise(
        nf4_levels,
        "NF4 (Dettmers et al., 2023) has more levels where a normal distribution has more numbers. Python's quantile "
        "function is statistics.NormalDist().inv_cdf, for one number at a time.",
        (
            "np.linspace(1 − δ, 0.5, 9) has both ends in it: leave out the last.",
            "8 levels above 0, 7 below, and 0 itself: the two sides are not mirror images.",
            "Sort them; then divide by the largest, Φ⁻¹(1 − δ), so that the last is 1, and the first −1.",
        ),
        {},
        named=nf4_levels_named,
        returns=("levels",),
    ),
)
