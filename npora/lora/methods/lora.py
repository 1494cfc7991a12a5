"""LoRA: a low-rank update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor, of_a_product
from npora.lora.combine import Factors
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.starts import begun, start_of
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback


class LoRA(Adapter):
    """y = (W + s B A) x + b.    x [...,i]  W [o,i]  A [r,i]  B [o,r]  →  y [...,o]    (Hu et al., 2021)

    s = α/r, or α/√r (rank-stabilised, Kalajdzievski, 2023). With u = A (m ⊙ x), where m is dropout's mask over 1 − p,
    and ones where nothing is dropped, y = W x + b + s B u, and so

        du = s Bᵀ dy                  (1)
        dB = s Σₙ dyₙ uₙᵀ             (2)
        dA = Σₙ duₙ (m ⊙ x)ₙᵀ         (3)
        dx = Wᵀ dy + m ⊙ (Aᵀ du)      (4)

    Products beside the base's: 2 forward, 4 backward. The full dW is never formed. Kept are u, and m ⊙ x where A is
    trained. B starts at zero, so that a fresh adapter leaves its layer as it is; `starts/` has other starts.

    Identity: the loss cannot see A → M A, B → B M⁻¹, so Bᵀ dB = dA Aᵀ.
    """

    config_class = LoraConfig
    calls_alone = True
    tensors: ClassVar[Mapping[str, Tensor]] = {"A": Tensor("lora_A.{}.weight"), "B": Tensor("lora_B.{}.weight")}
    samples: ClassVar[Mapping[str, Any]] = {
        "lora_linear": {"r": 3, "lora_alpha": 7}, "rslora_linear": {"r": 2, "lora_alpha": 5, "use_rslora": True}
    }  # fmt: skip

    def __init__(self, base: Linear, config: LoraConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r, self.s = config.rank_and_scaling(path)
        self.dropout_p, dtype, start = config.lora_dropout, base.dtype, config.init_lora_weights
        # B is drawn also where it starts at zero: what the next layer draws does not depend on it.
        A = init.kaiming_uniform(rng, (self.r, base.in_features), dtype)
        B = init.kaiming_uniform(rng, (base.out_features, self.r), dtype)
        A = init.normal(rng, A.shape, 1 / self.r, dtype) if start == "gaussian" else A
        B = np.zeros_like(B) if start else B
        if isinstance(rng, np.random.Generator) and start_of(start) is not None:
            A, B = begun(config, base, self.r, self.s, rng, path)
        self.A, self.B = Parameter(A), Parameter(B)

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, B, s = self.A.data, self.B.data, self.s
        y, back_base = base(x)  # W x + b [...,o]
        dropped, back_dropout = self.drop(x, rng)  # m ⊙ x
        u = matmul(dropped, A.T)  # [...,r]
        kept = dropped if self.A.requires_grad else None

        def backward(dy: Array) -> Array:
            du = s * matmul(dy, B)  # (1) [...,r]
            dB = s * product(rows(dy).T, rows(u)) if self.B.requires_grad else None  # (2) [o,r]
            dA = None if kept is None else product(rows(du).T, rows(kept))  # (3) [r,i]
            self.accumulate(dA, dB)
            return back_base(dy) + back_dropout(matmul(du, A))  # (4) [...,i]

        return y + matmul(s * u, B.T), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + s B A,  dA = s Bᵀ dW′,  dB = s dW′ Aᵀ"""
        A, B = theta

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            return dW, db, self.s * product(B.T, dW), self.s * product(dW, A.T)

        return W + self.s * product(B, A), b, backward

    def factored(self) -> Factors | None:
        return Factors(self.s, self.B.data, self.A.data)

    def factors(self) -> dict[str, float]:
        return {"α/r": self.s, "r": float(self.r)}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        return of_a_product(self.B, self.A)
