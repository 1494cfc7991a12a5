"""HiRA: the layer's matrix scaled element by element by a low-rank one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Shared, Tensor, of_a_product
from npora.lora.config import PeftConfig
from npora.lora.values import Unsupported
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear
from npora.nn.module import Array, Identities, Named, Parameter


@dataclass(kw_only=True)
class HiraConfig(PeftConfig):
    """A HiraConfig says what a HiRA adapter is (Huang et al., 2025). There is no scale.

    r : the rank of B A
    hira_dropout : probability of dropping an input of the adapter, in training
    init_weights : True: A ~ U(±1/√in), B = 0; "gaussian": A ~ N(0, 1/r²), B = 0; False: both ~ N(0, 1)
    layers_to_transform, layers_pattern : as of LoraConfig
    rank_pattern : refused, since PEFT 0.21.2 heeds it for the second adapter of a layer, and not for the first
    """

    meaning: ClassVar[tuple[str, ...]] = ("r",)
    beginning: ClassVar[tuple[str, ...]] = ("init_weights",)

    peft_type: str = "HIRA"
    r: int = 32
    hira_dropout: float = 0.0
    fan_in_fan_out: bool = False
    init_weights: Literal[True, False, "gaussian"] = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: Unsupported = field(default_factory=dict)


class HiRA(Adapter):
    """y = (W + W ⊙ B A) x + b.    x [...,i]  W [o,i]  A [r,i]  B [o,r]  →  y [...,o]    (Huang et al., 2025)

    ΔW = W ⊙ B A may have any rank, up to r times that of W. Forward is the seam's own, which has W′ = W + ΔW and its
    gradient dW′ [o,i] for a moment. With P = B A:

        dP = dW′ ⊙ W              (1)
        dB = dP Aᵀ,  dA = Bᵀ dP   (2)
        dW = dW′ + dW′ ⊙ P        (3)

    Products beside the base's: 1 forward, 4 backward. Kept is x, after dropout. B starts at zero, so that a fresh
    adapter leaves its layer as it is. Where W has a zero it stays one. Several that are merged each scale the base's
    own W, and their ΔW add up, as in PEFT.

    Identity: Bᵀ dB = dA Aᵀ, as for LoRA.
    """

    config_class = HiraConfig
    tensors: ClassVar[Mapping[str, Tensor]] = {"A": Tensor("hira_A.{}"), "B": Tensor("hira_B.{}")}
    samples: ClassVar[Mapping[str, Any]] = {"hira_linear": {"r": 3, "hira_dropout": 0.2}}
    adds = True

    def __init__(self, base: Linear, config: HiraConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r, self.dropout_p = config.r, config.hira_dropout
        dtype, start, shape = base.dtype, config.init_weights, (self.r, base.in_features)
        std = 1 / self.r if start == "gaussian" else 1.0
        A = init.kaiming_uniform(rng, shape, dtype) if start is True else init.normal(rng, shape, std, dtype)
        B = init.normal(rng, (base.out_features, self.r), 1.0, dtype)
        self.A, self.B = Parameter(A), Parameter(np.zeros_like(B) if start else B)

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        A, B = theta
        P = product(B, A)  # [o,i]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dP = dW * W  # (1) [o,i]
            return dW + dW * P, db, product(B.T, dP), product(dP, A.T)  # (3) (2)

        return W + W * P, b, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        return of_a_product(self.B, self.A)
