"""Adam, and AdamW with its decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.nn.module import Array
from npora.optim.optimizer import Optimizer, Params


class Adam(Optimizer):
    """Adam takes steps of size lr, whatever the gradient's scale (Kingma and Ba, 2014). At step t, with weight decay λ:

        g ← g + λ θ                                   (1)   an L2 penalty on the loss; of −g where `maximize`
        m ← β₁ m + (1 − β₁) g                         (2)
        v ← β₂ v + (1 − β₂) g²                        (3)
        θ ← θ − lr m̂ / (√v̂ + ε)                       (4)   m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

    The hats undo the pull towards the zeros that m and v start from. With `amsgrad` steps never grow again where
    gradients become small: in (4) the largest v so far, w, takes the place of v (Reddi et al., 2018).

        w ← max(w, v)                                 (5)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "amsgrad": amsgrad, "maximize": maximize})
        for group in self.param_groups:
            if not all(0 <= beta < 1 for beta in group["betas"]):
                raise ValueError(f"betas must lie in [0, 1); got {tuple(group['betas'])}")

    def update(self, theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        if group["weight_decay"]:
            g = g + group["weight_decay"] * theta  # (1)
        _adam_step(theta, g, state, group)


class AdamW(Adam):
    """Adam whose weight decay λ is not part of the gradient: θ ← θ (1 − lr λ), then (2) to (5).

    (Loshchilov and Hutter, 2017)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def update(self, theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        theta *= 1 - group["lr"] * group["weight_decay"]
        _adam_step(theta, g, state, group)


def _adam_step(theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    beta1, beta2 = group["betas"]
    if not state:
        state.update(step=0, exp_avg=np.zeros_like(theta), exp_avg_sq=np.zeros_like(theta))
    state["step"] += 1
    t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
    m *= beta1
    m += (1 - beta1) * g  # (2)
    v *= beta2
    v += (1 - beta2) * (g * g)  # (3)
    if group["amsgrad"]:
        w = state.setdefault("max_exp_avg_sq", np.zeros_like(v))
        np.maximum(w, v, out=w)  # (5)
        v = w
    denominator = np.sqrt(v) / math.sqrt(1 - beta2**t) + group["eps"]
    theta -= group["lr"] / (1 - beta1**t) * (m / denominator)  # (4)
