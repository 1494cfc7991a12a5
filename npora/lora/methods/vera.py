"""VeRA: random matrices that all layers share, and two trained vectors a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.lora.torch_words import TorchWords
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback


@dataclass(kw_only=True)
class VeraConfig(PeftConfig):
    """A VeraConfig says what a VeRA adapter is on, and how its matrices are drawn (Kopiczko et al., 2023).

    r : rows of A, columns of B, large beside LoRA's rank, since nothing of this size is trained but d
    projection_prng_key : the seed that A and B are drawn from, as torch draws them
    save_projection : whether A and B are in the file; else they are drawn again from the key on load. Where the file
        holds them, they count, whatever the key would give
    vera_dropout : probability of dropping an input of the adapter, in training
    d_initial : what d starts as; b starts as 0
    init_weights : False draws d from N(0, 1), and starts b as 1
    bias, layers_to_transform, layers_pattern : as LoraConfig's, "vera_only" for "lora_only"
    """

    meaning = ("r", "projection_prng_key")
    beginning = ("init_weights", "d_initial")
    lacks = ("exclude_modules",)

    r: int = 256
    projection_prng_key: int = 0
    save_projection: bool = True
    vera_dropout: float = 0.0
    d_initial: float = 0.1
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "vera_only"] = "none"
    init_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    peft_type: str = "VERA"


class VeRA(Adapter):
    """y = (W + Λ_b B Λ_d A) x + bias.    x [...,i]  W [o,i]  A [r,i]  B [o,r]  d [r]  b [o]  →  y [...,o]

    Λ_d and Λ_b are the diagonal matrices of d and b, which are trained (Kopiczko et al., 2023). A and B are drawn once,
    stay as they are, and are those of every layer. With u = A (m ⊙ x) and v = B (d ⊙ u), m the dropout of A's input:

        db = Σₙ dyₙ ⊙ vₙ              (1)
        dw = Bᵀ (b ⊙ dy)              (2)   of w = d ⊙ u
        dd = Σₙ dwₙ ⊙ uₙ              (3)
        dx = Wᵀ dy + m ⊙ Aᵀ (d ⊙ dw)  (4)

    Kept are u and v. b starts at zero, so that a fresh adapter leaves its layer as it is.

    Identity: the loss cannot see b → c b, d → d / c, so bᵀ db = dᵀ dd.

    Layers of different sizes share, as in PEFT, one A [r,i*] of the widest input and one B [o*,r] of the widest output:
    each takes their first columns and rows. Several adapters each have their own; where these are equal they lie in
    one memory. PEFT gives a later adapter the first one's, and refuses another key: its sizes must fit those.
    """

    config_class = VeraConfig
    calls_alone = True
    samples: ClassVar[Mapping[str, Any]] = {"vera_linear": {"r": 4, "projection_prng_key": 6, "vera_dropout": 0.2}}
    tensors: ClassVar[Mapping[str, Tensor]] = {
        "b": Tensor("vera_lambda_b.{}"),
        "d": Tensor("vera_lambda_d.{}"),
        "A": Tensor("vera_A.{}", trained=False, shared=True),
        "B": Tensor("vera_B.{}", trained=False, shared=True),
    }

    @staticmethod
    def shared(
        config: VeraConfig, shapes: Mapping[str, tuple[int, int]], dtype: np.dtype[Any], rng: Source
    ) -> dict[str, Array]:
        """Draw from U(±√(6 / fan_in)) (He et al., 2015), A before B, in float32 whatever the dtype."""
        o, i = map(max, zip(*shapes.values(), strict=True))
        wanted = {"vera_A": (config.r, i), "vera_B": (o, config.r)}
        if isinstance(rng, init.Unset):  # their shapes are all that counts
            return {name: np.broadcast_to(np.zeros((), dtype), shape) for name, shape in wanted.items()}
        words, drawn = TorchWords(config.projection_prng_key), {}
        for name, shape in wanted.items():
            bound = math.sqrt(3) * (math.sqrt(2) / math.sqrt(shape[1]))
            drawn[name] = words.uniform(shape, -bound, bound).astype(dtype)
        return drawn

    def __init__(self, base: Linear, config: VeraConfig, rng: Source, path: str, shared: Shared) -> None:
        plain, dtype = config.init_weights, base.dtype
        d = np.full(config.r, config.d_initial, dtype) if plain else init.normal(rng, (config.r,), 1.0, dtype)
        self.d, self.b = Parameter(d), Parameter(np.full(base.out_features, 0 if plain else 1, dtype))
        self.A, self.B, self.dropout_p = shared["vera_A"], shared["vera_B"], config.vera_dropout

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        lambda_b, lambda_d = self.b.data, self.d.data
        A = self.A.data[:, : base.in_features]  # [r,i*] → [r,i]
        B = self.B.data[: base.out_features]  # [o*,r] → [o,r]
        y, back_base = base(x)
        dropped, back_dropout = self.drop(x, rng)
        u = matmul(dropped, A.T)  # [...,r]
        v = matmul(u * lambda_d, B.T)  # [...,o]
        kept = (u, v) if self.b.requires_grad or self.d.requires_grad else None

        def backward(dy: Array) -> Array:
            dw = matmul(dy * lambda_b, B)  # (2) [...,r]
            if kept is not None:
                u, v = kept
                self.accumulate(rows(dy * v).sum(axis=0), rows(dw * u).sum(axis=0), None, None)  # (1) [o], (3) [r]
            return back_base(dy) + back_dropout(matmul(dw * lambda_d, A))  # (4) [...,i]

        return y + v * lambda_b, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + Λ_b B Λ_d A; with P = Λ_b B and Q = Λ_d A,  dP = dW′ Qᵀ  and  dQ = Pᵀ dW′."""
        lambda_b, lambda_d, A, B = theta
        o, i = W.shape
        P, Q = lambda_b[:, None] * B[:o], lambda_d[:, None] * A[:, :i]  # [o,r], [r,i]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dP, dQ, dA, dB = product(dW, Q.T), product(P.T, dW), np.zeros_like(A), np.zeros_like(B)
            dA[:, :i], dB[:o] = lambda_d[:, None] * dQ, lambda_b[:, None] * dP
            return dW, db, (dP * B[:o]).sum(axis=1), (dQ * A[:, :i]).sum(axis=1), dA, dB

        return W + product(P, Q), b, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        b, d = self.b, self.d
        if b.grad is not None and d.grad is not None:
            yield "bᵀ db = dᵀ dd", np.concatenate([b.data * b.grad, -d.data * d.grad])
