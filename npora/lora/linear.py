"""A linear layer with a low-rank update."""

from __future__ import annotations

import math

import numpy as np

from npora.lora.merging import Merging
from npora.machine.product import product
from npora.nn import init
from npora.nn.contract import activations
from npora.nn.dropout import Dropout
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Pullback


class LoRALinear(Merging):
    """y = (W + s B A) x + b.    x [...,i]  W [o,i]  A [r,i]  B [o,r]  →  y [...,o]    (Hu et al., 2021)

    W and b belong to `base_layer`, a Linear that stays frozen; s = α/r. With u = A x and dropout m on A's input,
    u = A (m ⊙ x):

        du = s Bᵀ dy                  (1)
        dB = s Σₙ dyₙ uₙᵀ             (2)
        dA = Σₙ duₙ (m ⊙ x)ₙᵀ         (3)
        dx = Wᵀ dy + m ⊙ (Aᵀ du)      (4)

    The full dW is never formed. Without dropout W + s B A may be formed, in forward and again in backward, which costs
    2 (r + 1) i o products and saves n r (i + o): whichever is less is done, and the same under no_grad(), so that the
    bits agree. B starts at zero, so the fresh layer equals its base.

    Identity: the loss cannot see A → M A, B → B M⁻¹, so Bᵀ dB = dA Aᵀ.

    `lora_A` and `lora_B` hold one pair for each named adapter; `active_adapter` is the one that counts. Merging makes
    a new array and leaves W's bytes alone, so that unmerging is exact.
    """

    def __init__(
        self,
        base_layer: Linear,
        r: int = 8,
        lora_alpha: float = 8,
        lora_dropout: float = 0.0,
        *,
        use_rslora: bool = False,
        init_lora_weights: bool | str = True,
        adapter_name: str = "default",
        rng: Source | int | None = None,
    ) -> None:
        self.base_layer = base_layer.requires_grad_(False)
        self.lora_A: dict[str, Linear] = {}
        self.lora_B: dict[str, Linear] = {}
        self.lora_dropout: dict[str, Dropout] = {}
        self.scaling: dict[str, float] = {}
        self.active_adapter: str | None = None
        self.disable_adapters = False
        scaling = lora_alpha / math.sqrt(r) if use_rslora else lora_alpha / max(r, 1)
        self.add_adapter(adapter_name, r, scaling, lora_dropout, init_lora_weights, rng)
        self.active_adapter = adapter_name

    def add_adapter(
        self,
        name: str,
        r: int,
        scaling: float,
        lora_dropout: float = 0.0,
        init_lora_weights: bool | str = True,
        rng: Source | int | None = None,
    ) -> None:
        if r < 1:
            raise ValueError(f"the rank of an adapter must be at least 1; got r={r}")
        rng, dtype = init.default_rng(rng), self.base_layer.weight.dtype
        A = Linear(self.base_layer.in_features, r, bias=False, rng=rng, dtype=dtype)
        B = Linear(r, self.base_layer.out_features, bias=False, rng=rng, dtype=dtype)
        if init_lora_weights == "gaussian":
            A.weight.data = init.normal(rng, A.weight.shape, 1 / r, dtype)
        if init_lora_weights:
            B.weight.data = np.zeros_like(B.weight.data)
        self.lora_A[name], self.lora_B[name] = A, B
        self.lora_dropout[name], self.scaling[name] = Dropout(lora_dropout), scaling

    def delete_adapter(self, name: str) -> None:
        for of_adapters in (self.lora_A, self.lora_B, self.lora_dropout, self.scaling):
            of_adapters.pop(name, None)

    def forward(
        self, x: Array, rng: np.random.Generator | None = None, dx_is_read: bool = True
    ) -> tuple[Array, Pullback]:
        """dx_is_read : whether (4) is computed, as Linear's (1)"""
        base, name = self.base_layer, self.active_adapter
        merged = None if self.disable_adapters else self._merged_weight
        if merged is not None:
            return self._forward_merged(x, merged, dx_is_read)
        if self.disable_adapters or name is None:
            return base(x, dx_is_read=dx_is_read)
        A_weight, B_weight, s = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        W, A, B = base.matrix, A_weight.data, B_weight.data
        x = activations(self, x, W)
        x_dropped, back_dropout = self.lora_dropout[name](x, rng)
        u = matmul(x_dropped, A.T)  # [...,r]
        formed = x_dropped is x and _forming_is_cheaper(x, A, B)
        y, back_base = base.affine(x, (lambda: _formed(W, A, B, s)) if formed else (lambda: W), dx_is_read)  # [...,o]
        if not formed:
            y += matmul(u * s, B.T)

        def backward(dy: Array) -> Array:
            du = matmul(dy, B) * s  # (1) [...,r]
            if B_weight.requires_grad:
                B_weight.accumulate(product(rows(dy).T, rows(u)) * s)  # (2) [o,r]
            if A_weight.requires_grad:
                A_weight.accumulate(product(rows(x_dropped).T, rows(du)).T)  # (3) [r,i]
            dx = back_base(dy)  # (4) [...,i]; all of it, where W + s B A was formed
            if dx_is_read and not formed:
                dx += back_dropout(matmul(du, A))
            return dx

        return y, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        name = self.active_adapter
        if name is not None and not self.disable_adapters and self._merged_weight is None:
            A, B = self.lora_A[name].weight, self.lora_B[name].weight
            if A.grad is not None and B.grad is not None:
                left = B.data.T[:, None, :] * B.grad.T[None, :, :]  # [r,r,o]
                right = A.grad[:, None, :] * A.data[None, :, :]  # [r,r,i]
                yield "Bᵀ dB = dA Aᵀ", np.concatenate([left, -right], axis=-1)

    def _forward_merged(self, x: Array, weight: Array, dx_is_read: bool) -> tuple[Array, Pullback]:
        y, back_base = self.base_layer.affine(x, lambda: weight, dx_is_read)
        names, pairs = self._names(), self._pairs(self.merged_adapters)

        def backward(dy: Array) -> Array:
            if any(parameter.requires_grad for parameter in pairs):
                raise RuntimeError(f"adapter {names} is merged, and cannot be trained so: call unmerge_adapter() first")
            return back_base(dy)

        return y, backward

    def get_delta_weight(self, name: str) -> Array:
        """s B A [o,i], what merging adds to W."""
        delta: Array = self.scaling[name] * product(self.lora_B[name].weight.data, self.lora_A[name].weight.data)
        return delta


def _formed(W: Array, A: Array, B: Array, s: float) -> Array:
    """W + s B A    [o,i]"""
    formed: Array = product(s * B, A)
    formed += W
    return formed


def _forming_is_cheaper(x: Array, A: Array, B: Array) -> bool:
    (r, i), o, n = A.shape, len(B), x.size // max(x.shape[-1], 1)
    return bool(2 * (r + 1) * i * o < n * r * (i + o))
