"""LoRA-FA: A stays as it was drawn, so that backward needs no input of the layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.nn.module import Array, Module
from npora.optim.optimizer import Optimizer

_RIDGE = 1e-8


class LoraFAOptimizer(Optimizer):
    """Adam on B alone, with its gradient taken to that of W as near as it goes.    (Zhang et al., 2023)

    (arXiv:2308.03303.) With A frozen, y = W x + s B u needs u = A x [n,r] for dB, and no x [n,i]: LoRA's page keeps x
    only where A is trained, and this is what a freeze of A spares. Of G, the gradient of W, dB = s G Aᵀ is known, and a
    step g of B changes W by s g A. The g that makes this nearest to G, min ‖s g A − G‖², is

        g = s⁻² dB (A Aᵀ + 10⁻⁸ 1)⁺           (1)   since g s² A Aᵀ = s G Aᵀ = dB
        m ← β₁ m + (1 − β₁) g                 (2)
        v ← β₂ v + (1 − β₂) g²                (3)
        B ← B − lr √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε)         (4)
        B ← B (1 − lr λ)                      (5)

    What has no A, a head for one, takes (2) to (5) with its own gradient. It is AdamW of transformers' old form, whose
    ε is added before the correction of v, and which decays what (4) has made.

    groups : as of any optimiser; one with `A`, a layer's parameter, and its `scaling` s, holds that layer's B alone
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1); got {tuple(betas)}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "correct_bias": correct_bias})

    def update(self, theta: Array, g: Array, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        if "A" in group:
            A = group["A"].data
            square = A @ A.T + _RIDGE * np.eye(len(A), dtype=A.dtype)  # [r,r]
            g = g @ np.linalg.pinv(square) / group["scaling"] ** 2  # (1) [o,r]
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(theta), exp_avg_sq=np.zeros_like(theta))
        (beta1, beta2), m, v = group["betas"], state["exp_avg"], state["exp_avg_sq"]
        state["step"] += 1
        m *= beta1
        m += (1 - beta1) * g  # (2)
        v *= beta2
        v += (1 - beta2) * (g * g)  # (3)
        rate, t = group["lr"], state["step"]
        if group["correct_bias"]:
            rate *= math.sqrt(1 - beta2**t) / (1 - beta1**t)
        theta -= rate * (m / (np.sqrt(v) + group["eps"]))  # (4)
        theta *= 1 - group["lr"] * group["weight_decay"]  # (5)

    def state_dict(self) -> dict[str, Any]:
        """As of any optimiser, without the A's, which the model has."""
        saved = super().state_dict()
        return {**saved, "param_groups": [{k: x for k, x in g.items() if k != "A"} for g in saved["param_groups"]]}


def create_lorafa_optimizer(
    model: Module, r: int, lora_alpha: float, lr: float, weight_decay: float = 0.0, use_rslora: bool | None = None
) -> LoraFAOptimizer:
    """Freeze the A of every layer that has LoRA, and make the optimiser of what is left to train.

    r, lora_alpha, use_rslora : PEFT's. Each layer's own scale counts, and where none of them is what these say, that is
        an error; None for use_rslora, as PEFT now wants it, is either

    Raises
    ------
    ValueError: no layer has LoRA with this scale.
    """
    scales = {lora_alpha / r: False, lora_alpha / math.sqrt(r): True}
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()
    found: set[float] = set()
    for module in model.modules():
        for adapter in getattr(module, "adapters", {}).values():
            if all(tensor.live != "lora_A.{}.weight" for tensor in adapter.tensors.values()):
                continue
            A, B, s = adapter.A, adapter.B, adapter.s
            if not B.requires_grad:  # of an adapter that is not active
                continue
            A.requires_grad = False
            groups.append({"params": [B], "A": A, "scaling": s})
            taken.add(id(B))
            found.add(s)
    if not any(math.isclose(s, scale) and use_rslora in (None, rs) for s in found for scale, rs in scales.items()):
        raise ValueError(
            f"the scales of this model's LoRA layers are {sorted(found) or 'none'}, and r={r}, lora_alpha={lora_alpha} "
            "give none of them: name those of its config"
        )
    rest = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in taken]
    return LoraFAOptimizer([*groups, *([{"params": rest}] if rest else [])], lr, weight_decay=weight_decay)
