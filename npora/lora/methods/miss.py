"""MiSS: one small matrix that all shards of W share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Parameter, Pullback


@dataclass(kw_only=True)
class MissConfig(PeftConfig):
    """A MissConfig says what a MiSS adapter is (Kang and Yin, 2024), which goes on Linear and, as in PEFT, not on
    GPT-2's Conv1D.

    r : how many inputs a shard has, at most all; what is trained is M [r,o]
    init_weights : True: M = 0; False: M ~ U(±1/√o), which changes the layer at once; "mini": M [r,mini_r], repeated
        along o, which mini_r divides; "bat": M [o/r,r,r] beside W's blocks of r rows and columns (MiSSBat)
    mini_r : of "mini" alone
    miss_dropout : probability of dropping an input of the adapter, in training; "bat" has none
    bias, layers_to_transform, layers_pattern : as LoraConfig's, "MiSS_only" for "lora_only"
    """

    meaning: ClassVar[tuple[str, ...]] = ("r", "mini_r", "form")

    peft_type: str = "MISS"
    r: int = 64
    miss_dropout: float = 0.0
    mini_r: int = 1
    init_weights: Literal[True, False, "bat", "mini"] = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    bias: Literal["none", "all", "MiSS_only"] = "none"

    @property
    def form(self) -> str:
        """Which tensors there are; how they start is another matter."""
        return self.init_weights if isinstance(self.init_weights, str) else "whole"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mini_r < 1:
            raise ValueError(f"mini_r must be at least 1; got {self.mini_r}")

    def complete(self, model: Any) -> None:
        super().complete(model)
        if self.mini_r != 1 and self.form != "mini":
            raise ValueError(f"mini_r={self.mini_r} says something with init_weights='mini' alone: leave it out")
        if self.miss_dropout and self.form == "bat":
            raise ValueError("init_weights='bat' drops nothing out, in PEFT neither: leave miss_dropout out")


class MiSS(Adapter):
    """y = W x + b + Mᵀ u,  u = S x.    x [...,i]  W [o,i]  M [r,o]  u [...,r]  →  y [...,o]

    (Kang and Yin, 2024, arXiv:2409.15371.) S [r,i] is not trained and holds S_jc = 1 where c mod r is j, else 0: x is
    cut in shards of r, and u is their sum, the last one filled up with zeros. So ΔW = Mᵀ S is M transposed again and
    again, beside each other: a LoRA of rank r whose A is S, and half as many numbers. With dropout m on its input:

        u = S (m ⊙ x)                  (1)   the sum of shards
        dM = Σₙ uₙ dyₙᵀ                (2)
        du = M dy                      (3)
        dx = Wᵀ dy + m ⊙ Sᵀ du         (4)   du again and again

    With "mini" M is [r,k], and repeated along o in its turn: the same S, of k by o, goes between the two. e = S dy
    [...,k], the sum of dy's shards, then stands in the place of dy in (2) and (3).

    Products beside the base's: 1 forward, 2 backward; S is sums and copies. Kept is u alone, [...,r]: x is let go of.

    M starts at zero, so that a fresh adapter leaves its layer as it is. It is good where memory is short, and where one
    wants LoRA's update with one matrix to train and one rate for it. There is no identity: M is all that ΔW has.

    The paper first repeats rows of a matrix along shards of the outputs, and then has this as its efficient form
    (MiSSᵉ), which is PEFT's. PEFT's layers go by the init_weights of the first of their adapters, and here each adapter
    goes by its own.
    """

    config_class = MissConfig
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {"M": Tensor("miss_block.{}")}
    samples: ClassVar[Mapping[str, Any]] = {
        "miss_linear": {"r": 2, "miss_dropout": 0.2}, "miss_linear, mini": {"r": 2, "init_weights": "mini"},
    }  # fmt: skip

    def __init__(self, base: Linear, config: MissConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r, self.dropout_p, i, o = config.r, config.miss_dropout, base.in_features, base.out_features
        if config.r > i:
            raise ValueError(f"{path} has {i} inputs, and a shard of r={config.r} is more: choose r ≤ {i}")
        if config.form == "mini" and o % config.mini_r:
            raise ValueError(f"{path} has {o} outputs, which mini_r={config.mini_r} does not divide")
        M = init.kaiming_uniform(rng, (self.r, config.mini_r if config.form == "mini" else o), base.dtype)
        self.M = Parameter(np.zeros_like(M) if config.init_weights else M)

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        M, (i, o) = self.M.data, (base.in_features, base.out_features)
        y, back_base = base(x)
        dropped, back_dropout = self.drop(x, rng)
        u = sum_of_shards(dropped, len(M))  # (1) [...,r]

        def backward(dy: Array) -> Array:
            e = sum_of_shards(dy, M.shape[1])  # [...,o] → [...,k]
            if self.M.requires_grad:
                self.accumulate(product(rows(u).T, rows(e)))  # (2) [r,k]
            du = matmul(e, M.T)  # (3) [...,r]
            return back_base(dy) + back_dropout(repeated(du, i))  # (4) [...,i]

        return y + repeated(matmul(u, M), o), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + Mᵀ S, or Sᵀ Mᵀ S of "mini":  dM = S dW′ᵀ, or S dW′ᵀ Sᵀ."""
        (M,) = theta
        o, i = W.shape

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            return dW, db, sum_of_shards(sum_of_shards(dW, len(M)).T, M.shape[1])  # [o,r] → [r,k]

        return W + repeated(repeated(M, o).T, i), b, backward


class MiSSBat(Adapter):
    """W′_kl = W_kl + (W_kl + I) M_k.    x [...,i]  W, W′ [o,i] in blocks k, l of [r,r]  M [o/r,r,r]  →  y [...,o]

    (Kang and Yin, 2024: "bat", for block affine transformation.) r divides i and o. The update of each block depends on
    the block, so that it is no matrix of low rank; forward is the seam's own, which has W′ and its gradient dW′ [o,i]
    for a moment:

        dM_k = Σ_l (W_kl + I)ᵀ dW′_kl           (1)
        dW_kl = dW′_kl + dW′_kl M_kᵀ            (2)

    Products beside the base's: 0 forward, 1 backward; and of blocks, o r i multiplications each, ΔW forward and again
    in backward, (1) and (2). Kept is x. M starts at zero. Adapters that are merged one after another each change what
    those before made, as in PEFT.
    """

    config_class = MissConfig
    adapts = (Linear,)
    tensors = MiSS.tensors
    samples: ClassVar[Mapping[str, Any]] = {"miss_linear, bat": {"r": 1, "init_weights": "bat"}}

    def __init__(self, base: Linear, config: MissConfig, rng: Source, path: str, shared: Shared) -> None:
        self.r, i, o = config.r, base.in_features, base.out_features
        if i % self.r or o % self.r:
            raise ValueError(f"{path} is {o} by {i}, and r={self.r} must divide both: init_weights='bat' is of blocks")
        self.M = Parameter(np.zeros((o // self.r, self.r, self.r), base.dtype))

    @classmethod
    def fits(cls, config: PeftConfig, base: Module) -> bool:
        return super().fits(config, base) and getattr(config, "form", "") == "bat"

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        (M,) = theta
        (o, i), r = W.shape, self.r
        strips = o // r, i, r  # of r rows of W: row by row its parts of r
        plus_one = (np.asarray(W).reshape(o // r, r, i // r, r) + np.eye(r, dtype=W.dtype)[:, None]).reshape(strips)

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            of_strips = dW.reshape(strips)
            dM = plus_one.transpose(0, 2, 1) @ of_strips  # (1) [o/r,r,r]
            return dW + (of_strips @ M.transpose(0, 2, 1)).reshape(o, i), db, dM  # (2)

        return W + (plus_one @ M).reshape(o, i), b, backward


def sum_of_shards(x: Array, r: int) -> Array:
    """Return S x: the sum of x's parts of r, the last one filled up with zeros.    x [...,i]  →  [...,r]"""
    i = x.shape[-1]
    whole = x[..., : i - i % r].reshape(*x.shape[:-1], i // r, r).sum(axis=-2)  # [...,r]
    if i % r:
        whole[..., : i % r] += x[..., i - i % r :]
    return whole


def repeated(u: Array, i: int) -> Array:
    """Return Sᵀ u: u again and again, i numbers of it.    u [...,r]  →  [...,i]"""
    return np.tile(u, -(-i // u.shape[-1]))[..., :i]
