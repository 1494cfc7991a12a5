"""LoRA that begins somewhere else than at zero, and takes away where it began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.combine import Factors
from npora.lora.config import PeftConfig
from npora.lora.methods.lora import LoRA
from npora.lora.starts import start_of
from npora.machine.product import product
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Parameter, Pullback


class StartedLoRA(LoRA):
    """y = (W + s (B A − B₀ A₀)) x + b.    x [...,i]  W [o,i]  A, A₀ [r,i]  B, B₀ [o,r]  →  y [...,o]

    A and B begin as A₀ and B₀, which a page of `starts/` makes of W: PiSSA, OLoRA. PEFT writes W − s B₀ A₀ over W; here
    W stays as it is, so that the adapter switched off is the base, and one base serves many. With u = A (m ⊙ x), m the
    dropout of A's input, and u₀ = A₀ x, which as part of W is not dropped:

        du = s Bᵀ dy,  du₀ = −s B₀ᵀ dy              (1)
        dB = s Σₙ dyₙ uₙᵀ                           (2)
        dA = Σₙ duₙ (m ⊙ x)ₙᵀ                       (3)
        dx = Wᵀ dy + A₀ᵀ du₀ + m ⊙ (Aᵀ du)          (4)

    A₀ and B₀ are constants. Products beside the base's: 4 forward, 6 backward. Kept is what LoRA keeps, u and m ⊙ x.

    The file has the plain LoRA of rank 2r that this is, A′ = [A; A₀] and B′ = [B, −B₀]: see `starts/doubled.py`.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA.
    """

    tensors: ClassVar[Mapping[str, Tensor]] = {
        **LoRA.tensors,
        "A0": Tensor("lora_A0.{}.weight", trained=False),
        "B0": Tensor("lora_B0.{}.weight", trained=False),
    }
    samples: ClassVar[Mapping[str, Any]] = {
        "pissa_linear": {"r": 2, "lora_alpha": 5, "init_lora_weights": "pissa"},
        "pissa_niter_linear": {"r": 2, "lora_alpha": 3, "init_lora_weights": "pissa_niter_4", "use_rslora": True},
        "olora_linear": {"r": 2, "lora_alpha": 7, "init_lora_weights": "olora"},
    }

    def __init__(self, base: Linear, config: Any, rng: Source, path: str, shared: Shared) -> None:
        super().__init__(base, config, rng, path, shared)
        self.A0, self.B0 = (Parameter(part.data.copy(), requires_grad=False) for part in (self.A, self.B))

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        start = start_of(getattr(config, "init_lora_weights", True))
        return super().fits(config, base) and start is not None and start.is_kept

    def steps(self) -> tuple[Adapter, Adapter]:
        """W₁ = W − s B₀ A₀, of which no input is dropped, and W₂ = W₁ + s B A."""
        return _Away(self), _Onwards(self)

    def factored(self) -> Factors:
        """Return s, [B, −B₀], [A; A₀]: the plain LoRA of rank 2r that this is."""
        B = np.concatenate([self.B.data, -self.B0.data], axis=1)  # [o,r] → [o,2r]
        return Factors(self.s, B, np.concatenate([self.A.data, self.A0.data]))  # [r,i] → [2r,i]

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, B, A0, B0, s = self.A.data, self.B.data, self.A0.data, self.B0.data, self.s
        y, back_base = base(x)  # W x + b [...,o]
        dropped, back_dropout = self.drop(x, rng)  # m ⊙ x
        u, u0 = matmul(dropped, A.T), matmul(x, A0.T)  # [...,r]
        kept = dropped if self.A.requires_grad else None

        def backward(dy: Array) -> Array:
            du, du0 = s * matmul(dy, B), -s * matmul(dy, B0)  # (1) [...,r]
            dB = s * product(rows(dy).T, rows(u)) if self.B.requires_grad else None  # (2) [o,r]
            dA = None if kept is None else product(rows(du).T, rows(kept))  # (3) [r,i]
            self.accumulate(dA, dB, None, None)
            return back_base(dy) + (back_dropout(matmul(du, A)) + matmul(du0, A0))  # (4) [...,i]

        return y + (matmul(s * u, B.T) - matmul(s * u0, B0.T)), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + s (B A − B₀ A₀),  dA = s Bᵀ dW′,  dB = s dW′ Aᵀ,  and the same with −s for A₀ and B₀"""
        A, B, A0, B0 = theta
        s = self.s

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dA, dB = s * product(B.T, dW), s * product(dW, A.T)
            return dW, db, dA, dB, -s * product(B0.T, dW), -s * product(dW, A0.T)

        return W + s * (product(B, A) - product(B0, A0)), b, backward


class _Away(Adapter):
    """W′ = W − s B₀ A₀, constants all."""

    tensors: ClassVar[Mapping[str, Tensor]] = {}

    def __init__(self, started: StartedLoRA) -> None:
        self.s, self.A0, self.B0 = started.s, started.A0.data, started.B0.data

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        return W - self.s * product(self.B0, self.A0), b, lambda dW, db: (dW, db)


class _Onwards(LoRA):
    """W′ = W + s B A, of another adapter's tensors."""

    def __init__(self, started: StartedLoRA) -> None:
        self.A, self.B, self.s, self.dropout_p = started.A, started.B, started.s, started.dropout_p
