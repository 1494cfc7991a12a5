"""HRA: a chain of Householder reflections of a layer's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.lora.values import Unsupported
from npora.machine.product import product
from npora.nn import init
from npora.nn.contract import checked_input
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback


@dataclass(kw_only=True)
class HRAConfig(PeftConfig):
    """An HRAConfig says what an HRA adapter is (Yuan, Liu and Xu, 2024).

    r : how many reflections there are; even, unless init_weights is False
    init_weights : True: each reflection stands twice, one beside the other, so that nothing changes at first; False:
        all are drawn
    apply_GS : refused: the reflections of orthogonal vectors alone. Where each stands twice there are none
    bias, layers_to_transform, layers_pattern : as LoraConfig's, "hra_only" for "lora_only"
    """

    meaning = ("r",)
    beginning = ("init_weights",)

    r: int = 8
    apply_GS: Unsupported = False
    bias: Literal["none", "all", "hra_only"] = "none"
    init_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    peft_type: str = "HRA"


class HRA(Adapter):
    """y = W H₁ H₂ ⋯ Hᵣ x + b,  Hₖ = 1 − 2 ûₖ ûₖᵀ,  ûₖ = uₖ/‖uₖ‖.    x [...,i]  W [o,i]  U = [u₁ … uᵣ] [i,r]

    (Yuan, Liu and Xu, 2024, arXiv:2405.17484.) U is trained: W is turned and mirrored, and the angles between its rows
    stay. The chain is formed at once (Schreiber and Van Loan, 1989): where G = Ûᵀ Û, and ▵ keeps what stands above the
    diagonal,

        H₁ ⋯ Hᵣ = 1 − Û T Ûᵀ,  T = M⁻¹,  M = ½ 1 + ▵G

    so that it costs what a LoRA of rank r does. With c = Ûᵀ x, e = T c, z = x − Û e, y = W z + b, and dz = Wᵀ dy:

        de = −Ûᵀ dz                                       (1)
        dc = Tᵀ de                                        (2)
        dM = −Σₙ dcₙ eₙᵀ                                  (3)   since M e = c
        dÛ = Σₙ xₙ dcₙᵀ − Σₙ dzₙ eₙᵀ + Û (▵dM + (▵dM)ᵀ)   (4)   the last through G
        du = (dû − û (û·dû)) / ‖u‖                        (5)   of each column
        dx = dz + Û dc                                    (6)

    Two products with r columns forward, four backward. Kept are x and e, where U is trained. Each column of U stands
    twice at first, and twice the same reflection is none; it is so to rounding.

    Identity: the loss does not see the length of u, so u·du = 0, column by column.

    It is good where W's geometry is to stay, as OFT is, with half the numbers of a LoRA. PEFT forms the i × i matrix of
    the chain at each forward, and goes on Linear alone. The paper adds a penalty on ‖G − 1‖, which PEFT has not.
    """

    config_class = HRAConfig
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {"U": Tensor("hra_u.{}")}
    samples: ClassVar[Mapping[str, Any]] = {"hra_linear": {"r": 4}}

    def __init__(self, base: Linear, config: HRAConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r, i, dtype, paired = config.r, base.in_features, base.dtype, config.init_weights and config.r % 2 == 0
        if config.init_weights and not paired and isinstance(rng, np.random.Generator):
            raise ValueError(
                f"HRA begins with pairs of equal reflections, so that r must be even; got r={self.r}. With "
                "init_weights=False it may be odd, and the new layer is not the old one"
            )
        U = init.kaiming_uniform(rng, (i, self.r // 2 if paired else self.r), dtype)
        self.U = Parameter(np.repeat(U, 2, axis=1) if paired else U)

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        U, T, back_chain = chain(self.U.data)
        x = checked_input(base, x, base.matrix)
        e = matmul(x, U) @ T.T  # [...,r]
        y, back_base = base(x - matmul(e, U.T))
        kept = (x, e) if self.U.requires_grad else None

        def backward(dy: Array) -> Array:
            dz = back_base(dy)  # [...,i]
            dc = -matmul(dz, U) @ T  # (1), (2) [...,r]
            if kept is not None:
                x, e = kept
                dU = product(rows(x).T, rows(dc)) - product(rows(dz).T, rows(e))  # (4) [i,r]
                self.accumulate(back_chain(dU, -rows(dc).T @ rows(e)))  # (3)
            return dz + matmul(dc, U.T)  # (6)

        return y, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W − E Ûᵀ with E = W Û T;  dE = −dW′ Û,  dP = dE Tᵀ of P = W Û,  dM = −Eᵀ dP,  dW = dW′ + dP Ûᵀ"""
        U, T, back_chain = chain(theta[0])
        E = product(W, U) @ T  # [o,r]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dP = -product(dW, U) @ T.T  # [o,r]
            dU = product(W.T, dP) - product(dW.T, E)  # [i,r]
            return dW + product(dP, U.T), db, back_chain(dU, -E.T @ dP)

        return W - product(E, U.T), b, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if self.U.grad is not None:
            yield "u·du = 0", (self.U.data * self.U.grad).T  # [r,i]


def chain(U: Array) -> tuple[Array, Array, Callable[[Array, Array], Array]]:
    """Return Û [i,r] and T [r,r], and the pullback (dÛ, dM) → dU."""
    length = np.sqrt((U * U).sum(axis=0))  # [r]
    unit = U / length
    M = np.triu(unit.T @ unit, 1)  # [r,r]
    np.fill_diagonal(M, 0.5)

    def backward(dunit: Array, dM: Array) -> Array:
        dG = np.triu(dM, 1)
        dunit = dunit + unit @ (dG + dG.T)  # (4)
        return (dunit - unit * (unit * dunit).sum(axis=0)) / length  # (5)

    return unit, np.linalg.inv(M), backward
