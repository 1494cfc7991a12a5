"""LoRA whose B has a bias: what was a change of b in the weights that an adapter was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.lora.methods.lora import LoRA
from npora.machine.product import product
from npora.nn.init import Source, kaiming_uniform
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Parameter, Pullback


class BiasedLoRA(LoRA):
    """y = (W + s B A) x + b + s c.    x [...,i]  W [o,i]  A [r,i]  B [o,r]  b, c [o]  →  y [...,o]

    It is LoRA's page with c, PEFT's `lora_bias`, which starts at zero. With u = A (m ⊙ x):

        du = s Bᵀ dy                  (1)
        dB = s Σₙ dyₙ uₙᵀ             (2)
        dA = Σₙ duₙ (m ⊙ x)ₙᵀ         (3)
        dc = s Σₙ dyₙ                 (4)
        dx = Wᵀ dy + m ⊙ (Aᵀ du)      (5)

    Products beside the base's: 2 forward, 4 backward. Kept are u, and m ⊙ x where A is trained. Merged, b′ = b + s c. A
    layer without b can have it unmerged alone, since no file of the model has a place for it.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA.
    """

    tensors: ClassVar[Mapping[str, Tensor]] = {**LoRA.tensors, "c": Tensor("lora_B.{}.bias")}
    samples: ClassVar[Mapping[str, Any]] = {"lora_bias_linear": {"r": 3, "lora_alpha": 7, "lora_bias": True}}

    def __init__(self, base: Linear, config: Any, rng: Source, path: str, shared: Shared) -> None:
        super().__init__(base, config, rng, path, shared)
        c = kaiming_uniform(rng, (base.out_features, self.r), base.dtype)[:, 0]  # U(±1/√r) [o], as torch's Linear
        self.c = Parameter(np.zeros_like(c) if config.init_lora_weights else np.ascontiguousarray(c))

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        return super().fits(config, base) and bool(getattr(config, "lora_bias", False))

    def factored(self) -> None:
        return None  # s B A is not all of it

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, B, c, s = self.A.data, self.B.data, self.c.data, self.s
        y, back_base = base(x)  # W x + b [...,o]
        dropped, back_dropout = self.drop(x, rng)  # m ⊙ x
        u = matmul(dropped, A.T)  # [...,r]
        kept = dropped if self.A.requires_grad else None

        def backward(dy: Array) -> Array:
            du = s * matmul(dy, B)  # (1) [...,r]
            dB = s * product(rows(dy).T, rows(u)) if self.B.requires_grad else None  # (2) [o,r]
            dA = None if kept is None else product(rows(du).T, rows(kept))  # (3) [r,i]
            self.accumulate(dA, dB, s * rows(dy).sum(axis=0))  # (4) [o]
            return back_base(dy) + back_dropout(matmul(du, A))  # (5) [...,i]

        return y + (matmul(s * u, B.T) + s * c), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + s B A,  b′ = b + s c,  dA = s Bᵀ dW′,  dB = s dW′ Aᵀ,  dc = s db′"""
        A, B, c = theta
        s = self.s

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dc = None if db is None else s * db
            return dW, None if b is None else db, s * product(B.T, dW), s * product(dW, A.T), dc

        return W + s * product(B, A), s * c if b is None else b + s * c, backward
