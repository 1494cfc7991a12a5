"""LoKr: the Kronecker product of two small matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor, of_a_product
from npora.lora.config import PeftConfig
from npora.lora.names import by_pattern
from npora.lora.values import Unsupported
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback


@dataclass(kw_only=True)
class LoKrConfig(PeftConfig):
    """A LoKrConfig says what a LoKr adapter is (Yeh et al., 2023), which goes on Linear and, as in PEFT, not on GPT-2's
    Conv1D.

    r, alpha : the rank of a factor that is a product itself; the update is scaled by s = alpha / r
    decompose_factor : what o and i are cut by, each into o₁ ≤ o₂ and i₁ ≤ i₂: the first is decompose_factor itself
        where that divides, else the largest divisor below it; with -1 the two are as near to each other as can be
    decompose_both : W₁ is a product too, where r is below half of its longer side, as W₂ is anyway
    init_weights : True: W₁ (or its left factor) starts at zero; "lycoris": W₂ (or its right factor) does; False: none
    use_effective_conv2d, rank_dropout_scale : say something of convolutions and of rank_dropout, and so nothing here
    layers_to_transform, layers_pattern, rank_pattern, alpha_pattern : as of LoraConfig
    """

    meaning: ClassVar[tuple[str, ...]] = (
        "r", "alpha", "decompose_both", "decompose_factor", "rank_pattern", "alpha_pattern",
    )  # fmt: skip
    beginning: ClassVar[tuple[str, ...]] = ("init_weights",)

    peft_type: str = "LOKR"
    r: int = 8
    alpha: float = 8
    rank_dropout: Unsupported = 0.0
    module_dropout: Unsupported = 0.0
    use_effective_conv2d: bool = False
    decompose_both: bool = False
    decompose_factor: int = -1
    rank_dropout_scale: bool = False
    init_weights: Literal[True, False, "lycoris"] = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decompose_factor != -1 and self.decompose_factor < 1:
            raise ValueError(f"decompose_factor must be at least 1, or -1 for none; got {self.decompose_factor}")


class LoKr(Adapter):
    """y = (W + s W₁ ⊗ W₂) x + b.    x [...,i]  W [o,i]  W₁ [o₁,i₁]  W₂ [o₂,i₂]  →  y [...,o],  o = o₁ o₂,  i = i₁ i₂

    (Yeh et al., 2023, arXiv:2309.14859, as LyCORIS.) s = α/r. The rank of W₁ ⊗ W₂ is the product of theirs, so that the
    update may have full rank with o₁ i₁ + o₂ i₂ numbers, some √(o i) each; where o and i are primes W₂ is as large as
    W. W₂ is itself a product W₂a W₂b where r is below half of its longer side, and so is W₁ with `decompose_both`.

    W₁ ⊗ W₂ is never formed: with a row x read as X [i₁,i₂], and its y as Y [o₁,o₂], it takes X to W₁ X W₂ᵀ. So

        V = X W₂ᵀ,  and beside the base's  Y = s W₁ V         (1)
        dW₁ = s Σₙ dYₙ Vₙᵀ,  dV = s W₁ᵀ dY                    (2)
        dW₂ = Σₙ dVₙᵀ Xₙ,  dX = dV W₂                         (3)

    Where W₂ = W₂a W₂b, V is two such steps in a row, H = X W₂bᵀ [i₁,r] and V = H W₂aᵀ, and (3) is taken for each, the
    last one first. Where W₁ = W₁a W₁b, that is formed, and

        dW₁a = dW₁ W₁bᵀ,  dW₁b = W₁aᵀ dW₁                     (4)

    Products beside the base's: 3 forward, 6 backward; 1 and 2 fewer where W₂ is whole, 1 and 3 more where W₁ is a
    product. A row's forward takes i₁ i₂ o₂ + i₁ o₂ o₁ multiplications, for the o i of W. Kept are x, V [i₁,o₂] a row,
    and H; nothing is of W's size.

    W₁ (or W₁a) starts at zero, so that a fresh adapter leaves its layer as it is, and the others as U(±1/√fan_in). The
    paper's own code starts W₂ (or W₂b) at zero instead ("lycoris" here), and where both are whole it does not scale;
    PEFT, and so this, scales by α/r whatever is whole.

    It is good where a change of high rank has to fit in a small file, as of image models. Identities: the loss cannot
    see W₁ → c W₁, W₂ → W₂/c, so that W₁ ⊙ dW₁ and W₂ ⊙ dW₂ have the same sum, and either's factors have it too; and
    W₂aᵀ dW₂a = dW₂b W₂bᵀ, as for LoRA, and so for W₁.
    """

    config_class = LoKrConfig
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {
        "W1": Tensor("lokr_w1.{}"), "W1a": Tensor("lokr_w1_a.{}"), "W1b": Tensor("lokr_w1_b.{}"),
        "W2": Tensor("lokr_w2.{}"), "W2a": Tensor("lokr_w2_a.{}"), "W2b": Tensor("lokr_w2_b.{}"),
    }  # fmt: skip
    samples: ClassVar[Mapping[str, Any]] = {
        "lokr_linear": {"r": 1, "alpha": 3}, "lokr_linear, of whole matrices": {"r": 20, "alpha": 50},
        "lokr_linear, of products": {"r": 1, "alpha": 2, "decompose_both": True, "decompose_factor": 9},
    }  # fmt: skip

    W1: Parameter | None = None
    W1a: Parameter | None = None
    W1b: Parameter | None = None
    W2: Parameter | None = None
    W2a: Parameter | None = None
    W2b: Parameter | None = None

    def __init__(self, base: Linear, config: LoKrConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r = r = by_pattern(config.rank_pattern, path, config.r)
        self.s = by_pattern(config.alpha_pattern, path, config.alpha) / r
        (o1, o2), (i1, i2) = (two_factors(n, config.decompose_factor) for n in (base.out_features, base.in_features))
        self._sizes, start = (o1, i1, o2, i2), config.init_weights

        def drawn(o: int, i: int, is_zero: bool = False) -> Parameter:
            values = init.kaiming_uniform(rng, (o, i), base.dtype)
            return Parameter(np.zeros_like(values) if is_zero else values)

        if config.decompose_both and r < max(o1, i1) / 2:
            self.W1a, self.W1b = drawn(o1, r, start is True), drawn(r, i1)
        else:
            self.W1 = drawn(o1, i1, start is True)
        if r < max(o2, i2) / 2:
            self.W2a, self.W2b = drawn(o2, r), drawn(r, i2, start == "lycoris")
        else:
            self.W2 = drawn(o2, i2, start == "lycoris")

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        o1, i1, o2, i2 = self._sizes
        first, second = self.halves(self.theta)
        y, back_base = base(x)
        leading, s = x.shape[:-1], self.s
        given = [x.reshape(*leading, i1, i2)]  # X, and H [...,i₁,r]
        for W in reversed(second):
            given.append(matmul(given[-1], W.T))  # (1)
        V = given.pop().swapaxes(-1, -2)  # [...,i₁,o₂] → [...,o₂,i₁]
        Y = matmul(V, s * whole(first).T).swapaxes(-1, -2)  # (1) [...,o₂,o₁] → [...,o₁,o₂]
        kept = (V, given) if any(parameter.requires_grad for parameter in self.parameters()) else None

        def backward(dy: Array) -> Array:
            dY = dy.reshape(*leading, o1, o2).swapaxes(-1, -2)  # [...,o₂,o₁]
            d = matmul(dY, s * whole(first)).swapaxes(-1, -2)  # (2) dV [...,o₂,i₁] → [...,i₁,o₂]
            dtheta = []
            if kept is not None:
                V, given = kept
                dtheta = of_factors(first, s * product(rows(dY).T, rows(V)))  # (2) [o₁,i₁], (4)
            for step, W in enumerate(second):
                if kept is not None:
                    dtheta.append(product(rows(d).T, rows(given[-1 - step])))  # (3) [o₂,i₂]
                d = matmul(d, W)  # (3) [...,i₁,i₂]
            if kept is not None:
                self.accumulate(*dtheta)
            return back_base(dy) + d.reshape(*leading, i1 * i2)

        return y + Y.reshape(*leading, o1 * o2), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + s W₁ ⊗ W₂:  with dW′ as [o₁,o₂,i₁,i₂],  dW₁ = s Σ dW′ ⊙ W₂ over o₂, i₂  and  dW₂ = s Σ dW′ ⊙ W₁."""
        o1, i1, o2, i2 = self._sizes
        first, second = self.halves(theta)
        W1, W2, s = whole(first), whole(second), self.s

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            apart = dW.reshape(o1, o2, i1, i2)
            dW1 = s * np.tensordot(apart, W2, axes=((1, 3), (0, 1)))  # [o₁,i₁]
            dW2 = s * np.tensordot(W1, apart, axes=((0, 1), (0, 2)))  # [o₂,i₂]
            return dW, db, *of_factors(first, dW1), *of_factors(second, dW2)

        return W + s * np.kron(W1, W2), b, backward

    def halves(self, theta: Sequence[Array]) -> tuple[Sequence[Array], Sequence[Array]]:
        """Return what W₁ and what W₂ is made of: the matrix itself, or its two factors."""
        first = 2 if self.W1 is None else 1
        return theta[:first], theta[first:]

    def factors(self) -> dict[str, float]:
        return {"α/r": self.s, "r": float(self.r)}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        sums = [(p.data * p.grad).ravel() for p in self.parameters() if p.grad is not None]
        if len(sums) == len(self.parameters()):
            for other in sums[1:]:
                yield "W₁ ⊙ dW₁ and W₂ ⊙ dW₂ have one sum", np.concatenate([sums[0], -other])
        for W_a, W_b, name in ((self.W1a, self.W1b, "₁"), (self.W2a, self.W2b, "₂")):
            if W_a is not None and W_b is not None:
                yield from of_a_product(W_a, W_b, f"W{name}aᵀ dW{name}a = dW{name}b W{name}bᵀ")


def whole(factors: Sequence[Array]) -> Array:
    """Return a matrix that is there as it is, or as its two factors."""
    return factors[0] if len(factors) == 1 else product(*factors)


def of_factors(factors: Sequence[Array], dW: Array) -> list[Array]:
    """Take the gradient of `whole` back to what it was made of."""
    if len(factors) == 1:
        return [dW]
    W_a, W_b = factors
    return [product(dW, W_b.T), product(W_a.T, dW)]  # (4)


def two_factors(n: int, factor: int) -> tuple[int, int]:
    """Return (k, n/k): k is `factor` where that divides n, else the largest divisor of n below it that is not above
    √n, and n/k. Without a factor, -1, it is the largest that is not above √n."""
    if factor > 0 and n % factor == 0:
        return factor, n // factor
    most = math.isqrt(n) if factor == -1 else min(factor, math.isqrt(n))
    k = next(k for k in range(max(most, 1), 0, -1) if n % k == 0)
    return k, n // k
