"""DoRA: a low-rank update of the direction of W's rows, and their lengths trained apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Merged, Rng, Shared, Tensor
from npora.lora.combine import Factors
from npora.lora.config import PeftConfig
from npora.lora.methods.lora import LoRA
from npora.machine.blocks import blocks_of
from npora.machine.product import product
from npora.nn.grad_mode import held
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Parameter, Pullback


class DoRA(LoRA):
    """y = g ⊙ V x + b,  V = W + s B A,  g = m / c,  c = ‖V‖ row by row.    (Liu et al., 2024)

        x [...,i]  W [o,i]  A [r,i]  B [o,r]  m, c, g [o]  →  y [...,o]

    m is the length of each row of the new matrix and V/c its direction. The gradient treats c as a constant (the
    paper's section 4.3), so that it is not the derivative of y: see `held`. With u = A x and z = V x = W x + s B u:

        dz = g ⊙ dy                 (1)
        dm = Σₙ dyₙ ⊙ zₙ / c        (2)
        du = s Bᵀ dz                (3)
        dB = s Σₙ dzₙ uₙᵀ           (4)
        dA = Σₙ duₙ xₙᵀ             (5)
        dx = Wᵀ dz + Aᵀ du          (6)

    With dropout the method sees x̃ in place of x, and the base what is left: y = g ⊙ V x̃ + W (x − x̃) + b. Then (6) is
    dx̃, which goes back through the dropout, as Wᵀ dy goes around it.

    Products beside the base's: 2 forward, 4 backward. Kept are u, z, and x̃ where A is trained. c is formed at each
    forward, which costs as much as r rows of x: who generates token by token merges first. m starts as c, so that a
    fresh adapter leaves its layer as it is.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA.
    """

    calls_alone = False
    tensors: ClassVar[Mapping[str, Tensor]] = {
        **LoRA.tensors,
        "m": Tensor("lora_magnitude_vector.{}.weight", "lora_magnitude_vector"),
    }
    samples: ClassVar[Mapping[str, Any]] = {"dora_linear": {"r": 3, "lora_alpha": 7, "use_dora": True}}

    def __init__(self, base: Linear, config: Any, rng: Source, path: str, shared: Shared) -> None:
        super().__init__(base, config, rng, path, shared)
        self.m = Parameter(self.norms(base.matrix, self.A.data, self.B.data))
        if not self.m.data.all():
            row = int(np.argmin(self.m.data))
            raise ValueError(f"DoRA trains the direction of each row of W, and row {row} of {path or 'this'} is zero")

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        return super().fits(config, base) and bool(getattr(config, "use_dora", False))

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, B, m, s, W, bias = self.A.data, self.B.data, self.m.data, self.s, base.matrix, base.bias
        c = held("norm", self.norms, W, A, B)  # [o]
        g = m / c
        dropped, back_dropout = self.drop(x, rng)
        z, back_base = base.product(dropped)  # [...,o]
        u = matmul(dropped, A.T)  # [...,r]
        z = z + matmul(s * u, B.T)
        y = g * z if bias is None else g * z + bias.data
        left, back_left = (None, None) if dropped is x else base.product(x - dropped)
        if left is not None:
            y = y + left
        kept_x, kept_z = dropped if self.A.requires_grad else None, z if self.m.requires_grad else None

        def backward(dy: Array) -> Array:
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))
            dz = g * dy  # (1) [...,o]
            if kept_z is not None:
                self.m.accumulate(rows(dy * kept_z).sum(axis=0) / c)  # (2) [o]
            du = s * matmul(dz, B)  # (3) [...,r]
            if self.B.requires_grad:
                self.B.accumulate(s * product(rows(dz).T, rows(u)))  # (4) [o,r]
            if kept_x is not None:
                self.A.accumulate(product(rows(du).T, rows(kept_x)))  # (5) [r,i]
            dx = back_base(dz) + matmul(du, A)  # (6) [...,i]
            if back_left is None:
                return dx
            around = back_left(dy)
            return around + back_dropout(dx - around)

        return y, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = diag(g) V,  dV = diag(g) dW′,  dm = Σᵢ dW′ ⊙ V / c,  dW = dV,  dA = s Bᵀ dV,  dB = s dV Aᵀ"""
        A, B, m = theta
        V = W + self.s * product(B, A)
        c = held("norm", self.norms, W, A, B)
        g = (m / c)[:, None]  # [o,1]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dV = g * dW
            return dV, db, self.s * product(B.T, dV), self.s * product(dV, A.T), (dW * V).sum(axis=1) / c

        return g * V, b, backward

    def factored(self) -> Factors | None:
        return None  # ΔW is not s B A

    def norms(self, W: Array, A: Array, B: Array) -> Array:
        """c = ‖W + s B A‖ [o] row by row; of that matrix a block at a time is formed."""
        squares = np.zeros(len(W), np.result_type(W, A, B))
        for at, across in blocks_of(W):
            V = W[at, across] + (self.s * B[at]) @ A[:, across]
            squares[at] += (V * V).sum(axis=1)
        return np.sqrt(squares)
