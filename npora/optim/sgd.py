"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.nn.module import Array
from npora.optim.optimizer import Optimizer, Params


class SGD(Optimizer):
    """θ ← θ − lr · d, with momentum μ, dampening τ and weight decay λ as in torch.

    g ← g + λ θ                                (1)   of −g where `maximize`
    m ← μ m + (1 − τ) g,  m = g at first       (2)
    d = m;  Nesterov: d = g + μ m              (3)   (Sutskever et al., 2013)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum; got momentum=0")
        if nesterov and dampening != 0:
            raise ValueError(f"nesterov needs a momentum that is not dampened; got dampening={dampening}")
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov, "maximize": maximize})

    def update(self, theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        mu = group["momentum"]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * theta  # (1)
        if mu:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = g.copy()
            else:
                state["momentum_buffer"] *= mu  # (2)
                state["momentum_buffer"] += (1 - group["dampening"]) * g if group["dampening"] else g
            m = state["momentum_buffer"]
            g = g + mu * m if group["nesterov"] else m  # (3)
        theta -= group["lr"] * g
