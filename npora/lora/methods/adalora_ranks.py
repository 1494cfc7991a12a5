"""AdaLoRA's ranks: how important each is, how many there may be, and which are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npora.lora.methods.adalora_config import AdaLoraConfig
from npora.nn.module import Array, Parameter


def orthogonality(A: Array) -> tuple[Array, Callable[[float], Array]]:
    """f = ‖G‖,  G = A Aᵀ − I.    A [r,i]  G [r,r]

        dA = df/f (G + Gᵀ) A = 2 df/f G A     (1)   since dG = dA Aᵀ + A dAᵀ, and G is its own transpose

    Where f is 0, which is its least, the gradient is 0.
    """
    G = A @ A.T - np.eye(len(A), dtype=A.dtype)
    f = np.sqrt((G * G).sum())

    def backward(df: float) -> Array:
        return 2 * df / f * (G @ A) if f else np.zeros_like(A)  # (1) [r,i]

    return f, backward


class Importance:
    """How important each number θ of a tensor is: over the steps

        I = |θ dθ|,  Ī ← β₁ Ī + (1 − β₁) I,  U ← β₂ U + (1 − β₂) |I − Ī|,  and its score is Ī U.

    I is how much the loss would change, to the first order, were the number 0 (Zhang et al., 2023, section 3.2).
    """

    def __init__(self, theta: Array) -> None:
        self.mean, self.uncertainty = np.zeros_like(theta), np.zeros_like(theta)  # Ī, U

    def follow(self, parameter: Parameter, config: AdaLoraConfig) -> None:
        """Take in a step: the number after it, and the gradient that it was made with."""
        gradient = 0.0 if parameter.grad is None else parameter.grad
        now = abs(parameter.data * gradient)
        self.mean = config.beta1 * self.mean + (1 - config.beta1) * now
        self.uncertainty = config.beta2 * self.uncertainty + (1 - config.beta2) * abs(now - self.mean)

    def score(self) -> Array:
        return self.mean * self.uncertainty


def cut(scores: Sequence[Array], budget: int) -> list[Array]:
    """Return which ranks of each layer are left: of all of them the `budget` of the highest scores. What has no higher
    score than the highest that is cut goes with it."""
    everything = np.sort(np.concatenate(scores))
    number = len(everything) - budget
    return [score > everything[number - 1] if number > 0 else np.ones(len(score), bool) for score in scores]
