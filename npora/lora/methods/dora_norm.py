"""DoRA whose gradient goes through the lengths of V's rows too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from npora.lora.adapter import Merged, Rng
from npora.lora.config import PeftConfig
from npora.lora.methods.dora import DoRA
from npora.machine.product import product
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Pullback


class DoRANorm(DoRA):
    """y = g ⊙ V x + b,  V = W + s B A,  g = m / c,  c = ‖V‖ row by row, and c has a gradient.    (Liu et al., 2024)

        x [...,i]  W [o,i]  A [r,i]  B [o,r]  m, c, g, k [o]  →  y [...,o]

    It is DoRA as the paper has it before its section 4.3, where c becomes a constant: `dora_norm_grad=True`. Since
    ∂c/∂V = V/c row by row, and dc = −Σ dy ⊙ z m/c² = −g dm, dV has k ⊙ V beside Σ dz xᵀ. With u = A x and z = V x:

        dz = g ⊙ dy                                    (1)
        dm = Σₙ dyₙ ⊙ zₙ / c                           (2)
        k = −g dm / c                                  (3)
        du = s Bᵀ dz                                   (4)
        dB = s Σₙ dzₙ uₙᵀ + s k ⊙ (V Aᵀ)               (5)   V Aᵀ = W Aᵀ + s B (A Aᵀ)
        dA = Σₙ duₙ xₙᵀ + s (k ⊙ B)ᵀ V                 (6)   (k ⊙ B)ᵀ V = (k ⊙ B)ᵀ W + s ((k ⊙ B)ᵀ B) A
        dx = Wᵀ dz + Aᵀ du                             (7)

    With dropout x̃ stands in the place of x as on DoRA's page.

    Products beside the base's: 2 forward, 10 backward, of which two go through W with r rows. Kept are u, z, and x̃
    where A is trained. Values and files are DoRA's; PEFT, which lacks the option, reads them and trains with c as a
    constant. Among several adapters c is of what those before it make, as its gradient is.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA.
    """

    samples: ClassVar[Mapping[str, Any]] = {
        "dora_norm_linear": {"r": 3, "lora_alpha": 7, "use_dora": True, "dora_norm_grad": True}
    }

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        return super().fits(config, base) and bool(getattr(config, "dora_norm_grad", False))

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, B, m, s, W, bias = self.A.data, self.B.data, self.m.data, self.s, base.matrix, base.bias
        c = self.norms(W, A, B)  # [o]
        g = m / c
        dropped, back_dropout = self.drop(x, rng)
        z, back_base = base.product(dropped)  # [...,o]
        u = matmul(dropped, A.T)  # [...,r]
        z = z + matmul(s * u, B.T)
        y = g * z if bias is None else g * z + bias.data
        left, back_left = (None, None) if dropped is x else base.product(x - dropped)
        if left is not None:
            y = y + left
        kept = dropped if self.A.requires_grad else None

        def backward(dy: Array) -> Array:
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))
            dz = g * dy  # (1) [...,o]
            dm = rows(dy * z).sum(axis=0) / c  # (2) [o]
            k = (-g * dm / c)[:, None]  # (3) [o,1]
            du, kB = s * matmul(dz, B), k * B  # (4) [...,r], [o,r]
            dA = dB = None
            if self.B.requires_grad:
                VA = matmul(A, W.T).T + s * product(B, product(A, A.T))  # [o,r]
                dB = s * (product(rows(dz).T, rows(u)) + k * VA)  # (5) [o,r]
            if kept is not None:
                kBV = matmul(kB.T, W) + s * product(product(kB.T, B), A)  # [r,i]
                dA = product(rows(du).T, rows(kept)) + s * kBV  # (6) [r,i]
            self.accumulate(dA, dB, dm)
            dx = back_base(dz) + matmul(du, A)  # (7) [...,i]
            if back_left is None:
                return dx
            around = back_left(dy)
            return around + back_dropout(dx - around)

        return y, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = diag(g) V,  dm = Σᵢ dW′ ⊙ V / c,  dV = g ⊙ (dW′ − dm/c ⊙ V),  dW = dV,  dA = s Bᵀ dV,  dB = s dV Aᵀ"""
        A, B, m = theta
        V = W + self.s * product(B, A)
        c = self.norms(W, A, B)
        g = (m / c)[:, None]  # [o,1]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dm = (dW * V).sum(axis=1) / c
            dV = g * (dW - (dm / c)[:, None] * V)
            return dV, db, self.s * product(B.T, dV), self.s * product(dV, A.T), dm

        return g * V, b, backward
