"""What a training step does with a gradient: no backward, but a function to be written from its formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn.module import Array
from npora.optim import Adam, AdamW, clip_grad_norm
from npora.study.exercises.declared import Argument, Exercise, given, normal, positive

Three = tuple[Array, Array, Array]


def adam(
    theta: Array, g: Array, m: Array, v: Array, *, t: int, lr: float, beta1: float, beta2: float, eps: float
) -> Three:
    """Return the new (theta, m, v) after step t = 1, 2, …    theta, g, m, v [o,i]

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − lr m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ) and
    v̂ = v/(1 − β₂ᵗ) of the new m and v. theta is θ, beta1 and beta2 are β₁ and β₂, eps is ε.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def adam_named(
    theta: Array, g: Array, m: Array, v: Array, *, t: int, lr: float, beta1: float, beta2: float, eps: float
) -> dict[str, Any]:
    new_m, new_v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    a, b = 1 - beta1**t, 1 - beta2**t

    def step(m: Array, v: Array, a: float, b: float, outside: bool = True) -> Array:
        return -lr * (m / a) / (np.sqrt(v / b) + eps if outside else np.sqrt(v / b + eps))

    right, last = step(new_m, new_v, a, b), t - 1
    wholes = {
        "without the correction of m, 1 − β₁ᵗ": step(new_m, new_v, 1, b),
        "without the correction of v, 1 − β₂ᵗ": step(new_m, new_v, a, 1),
        "without both corrections, 1 − β₁ᵗ and 1 − β₂ᵗ": step(new_m, new_v, 1, 1),
        "with ε inside the root": step(new_m, new_v, a, b, False), "with the old m": step(m, new_v, a, b),
        "with the old v": step(new_m, v, a, b), "with the old m and v": step(m, v, a, b),
        "with 1 − β₂ᵗ outside the root": -lr * (new_m / a) / (np.sqrt(new_v) / b + eps),
        "without the root": -lr * (new_m / a) / (new_v / b + eps), "upwards": -right, "without lr": right / lr,
    }  # fmt: skip
    if last:
        wholes["with t − 1 in the corrections"] = step(new_m, new_v, 1 - beta1**last, 1 - beta2**last)
    return {
        **{f"θ after the step {name}": theta + whole for name, whole in wholes.items()}, "the step": right,
        "β₁ m": beta1 * m, "β₂ v": beta2 * v, "(1 − β₁) g": (1 - beta1) * g, "(1 − β₂) g²": (1 - beta2) * g**2,
        "m with β₁ and 1 − β₁ in each other's place": (1 - beta1) * m + beta1 * g,
        "v with β₂ and 1 − β₂ in each other's place": (1 - beta2) * v + beta2 * g**2,
        "v with β₁ in the place of β₂": beta1 * v + (1 - beta1) * g**2,
        "m with β₂ in the place of β₁": beta2 * m + (1 - beta2) * g,
        "v with 1 − β₁ in the place of 1 − β₂": beta2 * v + (1 - beta1) * g**2,
        "v with g in the place of g²": beta2 * v + (1 - beta2) * g,
        "m with g in the place of (1 − β₁) g": beta1 * m + g,
        "v with g² in the place of (1 − β₂) g²": beta2 * v + g**2,
    }  # fmt: skip


def adamw(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    t: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> Three:
    """Return the new (theta, m, v): θ shrinks to θ (1 − lr decay), and then takes Adam's step.    theta, g, m, v [o,i]

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − lr m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵗ) and
    v̂ = v/(1 − β₂ᵗ) of the new m and v, and t the step's number, from 1 on.
    """
    return adam(theta * (1 - lr * decay), g, m, v, t=t, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


def adamw_named(theta: Array, g: Array, m: Array, v: Array, *, decay: float, **rest: Any) -> dict[str, Any]:
    lr, into_g = rest["lr"], g + decay * theta
    coupled = adam(theta, into_g, m, v, **rest)
    plain = adam(theta, g, m, v, **rest)[0]
    found = {
        "the decay of θ": -lr * decay * theta, "θ with a decay that lr is not multiplied into": plain - decay * theta,
        "θ with the decay in g": coupled[0], "m with the decay in g": coupled[1], "v with the decay in g": coupled[2],
        "θ with the decay after the step, of the new θ": plain * (1 - lr * decay),
        "θ with the decay in g and of θ": adam(theta * (1 - lr * decay), into_g, m, v, **rest)[0],
    }  # fmt: skip
    return {**found, **adam_named(theta * (1 - lr * decay), g, m, v, **rest)}


def clipping(g: Array, h: Array, *, max_norm: float) -> tuple[Array, Array]:
    """Return the gradients (g, h) of a model's two tensors, both times c = min(1, max_norm/‖(g, h)‖).    g [o,i]  h [f]

    ‖(g, h)‖ is the root of the sum of the squares of all elements of both.
    """
    scale = min(1.0, max_norm / np.sqrt((g**2).sum() + (h**2).sum()))
    return scale * g, scale * h


def clipping_named(g: Array, h: Array, *, max_norm: float) -> dict[str, Any]:
    right = min(1.0, max_norm / float(np.sqrt((g**2).sum() + (h**2).sum())))
    names = {
        "each tensor's own norm, and not that of both": [
            min(1.0, max_norm / float(np.sqrt((x**2).sum()))) / right for x in (g, h)],
        "the norm's square": [min(1.0, max_norm / float((g**2).sum() + (h**2).sum())) / right],
        "the sum of both norms": [
            min(1.0, max_norm / float(np.sqrt((g**2).sum()) + np.sqrt((h**2).sum()))) / right],
        "the largest element": [min(1.0, max_norm / float(max(np.abs(g).max(), np.abs(h).max()))) / right],
        "the sum of absolute values": [min(1.0, max_norm / float(np.abs(g).sum() + np.abs(h).sum())) / right],
        "the mean square": [min(1.0, max_norm / float(np.sqrt(
            ((g**2).sum() + (h**2).sum()) / (g.size + h.size)))) / right],
        "the clipping": [1 / right],
        "the clipping of norms that are small enough": [max_norm / float(np.sqrt((g**2).sum() + (h**2).sum()))],
        "max_norm": [max_norm],
    }  # fmt: skip
    factors = {name + " " * k: c for name, found in names.items() for k, c in enumerate(found) if abs(c - 1) > 1e-12}
    cut = {f"{name} with each element clipped": np.clip(x, -max_norm, max_norm) for name, x in (("g", g), ("h", h))}
    return {**factors, **cut}


def _betas() -> dict[str, Argument]:
    return {"t": given(3, 1), "lr": given(0.02, 0.3), "beta1": given(0.9, 0.7), "beta2": given(0.99, 0.95),
            "eps": given(1e-3, 1e-2)}  # fmt: skip


_STATE = {"theta": normal("o i"), "g": normal("o i"), "m": normal("o i"), "v": positive("o i")}

EXERCISES = (
    Exercise(
        adam,
        "The step of Kingma and Ba (2014). The corrections undo the pull towards the zeros that m and v begin with.",
        (
            "First the new m and v; the step uses these.",
            "1 − β₁ᵗ is for m, 1 − β₂ᵗ for v, with this step's t, which begins at 1.",
            "ε is added to the root of v̂, and does not stand in the root.",
        ),
        {**_STATE, **_betas()},
        named=adam_named,
        returns=("theta", "m", "v"),
        page=Adam,
    ),
    Exercise(
        adamw,
        "Loshchilov and Hutter (2017): the weight decay is no part of the gradient, so m and v do not see it.",
        (
            "What does θ become when g, m and v are all zero?",
            "θ (1 − lr decay). The rest is the exercise `adam`.",
            "Shrink θ first; Adam's step, made of g as it was given, is then subtracted.",
        ),
        {**_STATE, **_betas(), "decay": given(0.1, 0.5)},
        named=adamw_named,
        returns=("theta", "m", "v"),
        page=AdamW,
    ),
    Exercise(
        clipping,
        "The gradient of a whole model is one vector: where it is longer than max_norm it is made that long, and keeps "
        "its direction. (npora and torch add 1e-6 to the norm; leave that out.)",
        (
            "If each tensor were clipped by its own norm, would the direction of the whole stay the same?",
            "One factor for both tensors, of the norm of all their elements together.",
            "Where the norm is at most max_norm, the factor is 1, and not more.",
        ),
        {"g": normal("o i"), "h": normal("f"), "max_norm": given(1.5, 50.0)},
        named=clipping_named,
        returns=("g", "h"),
        page=clip_grad_norm,
    ),
)
