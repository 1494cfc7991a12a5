"""LoHa: the element-wise product of two low-rank matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Shared, Tensor, of_a_product
from npora.lora.config import PeftConfig
from npora.lora.names import by_pattern
from npora.lora.values import Unsupported
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear
from npora.nn.module import Array, Identities, Named, Parameter


@dataclass(kw_only=True)
class LoHaConfig(PeftConfig):
    """A LoHaConfig says what a LoHa adapter is (Hyeon-Woo et al., 2021), which goes on Linear and, as in PEFT, not on
    GPT-2's Conv1D.

    r, alpha : the rank of either factor; the update is scaled by s = alpha / r
    init_weights : True: W2b starts at zero; False: it is drawn as the others are
    use_effective_conv2d : says something of convolutions, and so nothing here
    layers_to_transform, layers_pattern, rank_pattern, alpha_pattern : as of LoraConfig
    """

    meaning: ClassVar[tuple[str, ...]] = ("r", "alpha", "rank_pattern", "alpha_pattern")

    peft_type: str = "LOHA"
    r: int = 8
    alpha: float = 8
    rank_dropout: Unsupported = 0.0
    module_dropout: Unsupported = 0.0
    use_effective_conv2d: bool = False
    init_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)


class LoHa(Adapter):
    """y = (W + M₁ ⊙ M₂) x + b,  M₁ = s W1a W1b,  M₂ = W2a W2b.    W1a, W2a [o,r]  W1b, W2b [r,i]

    (Hyeon-Woo et al., 2021.) s = α/r. The rank of M₁ ⊙ M₂ may be as high as r², with the numbers of a LoRA of rank 2r.
    There is no cheaper order of products than forming it, so forward is the seam's own, which has W′ = W + M₁ ⊙ M₂
    and its gradient dW′ [o,i] for a moment:

        dM₁ = dW′ ⊙ M₂,  dW1a = s dM₁ W1bᵀ,  dW1b = s W1aᵀ dM₁    (1)
        dM₂ = dW′ ⊙ M₁,  dW2a = dM₂ W2bᵀ,    dW2b = W2aᵀ dM₂      (2)

    Products beside the base's: 2 forward, 7 backward. Kept is x; M₁, M₂ and dW′ live in backward alone. W2b starts at
    zero, so that a fresh adapter leaves its layer as it is; the others are drawn as U(±1/√fan_in), as in PEFT. The
    paper writes whole matrices so, to send fewer numbers; as an update of a frozen W it is LyCORIS's (Yeh et al.,
    2023), which draws normal numbers.

    Identities: the loss sees either product alone, so W1aᵀ dW1a = dW1b W1bᵀ, and so for 2; and it does not see a row of
    M₁ grow as that of M₂ shrinks, so M₁ ⊙ dM₁ and M₂ ⊙ dM₂ have the same sums of rows, which are those of W1a ⊙ dW1a
    and W2a ⊙ dW2a, and the same sums of columns, those of W1b ⊙ dW1b and W2b ⊙ dW2b.
    """

    config_class = LoHaConfig
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {
        "W1a": Tensor("hada_w1_a.{}"), "W1b": Tensor("hada_w1_b.{}"),
        "W2a": Tensor("hada_w2_a.{}"), "W2b": Tensor("hada_w2_b.{}"),
    }  # fmt: skip
    samples: ClassVar[Mapping[str, Any]] = {"loha_linear": {"r": 2, "alpha": 5}}

    def __init__(self, base: Linear, config: LoHaConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r = r = by_pattern(config.rank_pattern, path, config.r)
        self.s = by_pattern(config.alpha_pattern, path, config.alpha) / r
        left, right = (base.out_features, r), (r, base.in_features)
        W1a, W1b, W2a, W2b = (init.kaiming_uniform(rng, shape, base.dtype) for shape in (left, right, left, right))
        self.W1a, self.W1b, self.W2a = Parameter(W1a), Parameter(W1b), Parameter(W2a)
        self.W2b = Parameter(np.zeros_like(W2b) if config.init_weights else W2b)

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        W1a, W1b, W2a, W2b = theta
        s, M1, M2 = self.s, product(self.s * W1a, W1b), product(W2a, W2b)  # [o,i]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dM = dW * M2  # (1) [o,i]
            dW1a, dW1b = s * product(dM, W1b.T), s * product(W1a.T, dM)
            dM = dW * M1  # (2) [o,i]
            dW2a, dW2b = product(dM, W2b.T), product(W2a.T, dM)
            return dW, db, dW1a, dW1b, dW2a, dW2b

        return W + M1 * M2, b, backward

    def factors(self) -> dict[str, float]:
        return {"α/r": self.s, "r": float(self.r)}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        yield from of_a_product(self.W1a, self.W1b, "W1aᵀ dW1a = dW1b W1bᵀ")
        yield from of_a_product(self.W2a, self.W2b, "W2aᵀ dW2a = dW2b W2bᵀ")
        terms = [p.data * p.grad for p in self.parameters() if p.grad is not None]
        if len(terms) == 4:
            of_1a, of_1b, of_2a, of_2b = terms
            yield "rows of W1a ⊙ dW1a = rows of W2a ⊙ dW2a", np.concatenate([of_1a, -of_2a], axis=1)
            yield "columns of W1b ⊙ dW1b = columns of W2b ⊙ dW2b", np.concatenate([of_1b, -of_2b], axis=0).T
