"""Multi-head attention as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.nn import init
from npora.nn.dropout import active_rng
from npora.nn.init import Seed
from npora.nn.linear import Linear, rows
from npora.nn.module import Array, Module
from npora.nn.packed_attention import packed_attention
from npora.nn.packing import Packing
from npora.nn.rules import causal, everything
from npora.nn.scaled_attention import sum_to_shape


class MultiHeadAttention(Module):
    """y = W_o a,  a = concat_h(softmax(q_h k_hᵀ/√d) v_h),  q = W_q x,  k = W_k c,  v = W_v c    (Vaswani et al., 2017)

        da = W_oᵀ dy                       (1)
        dq, dk, dv from da                 (2)   head by head, as `attention` has it
        dx = W_qᵀ dq                       (3)
        dc = W_kᵀ dk + W_vᵀ dv             (4)   in self-attention c is x, and dx the sum of both

    The four projections are Linear, which add to their own dW and db and keep what they read for it. Beside that q, k
    and v are kept, and the softmaxes unless they are many: `packed_attention` then computes them again.

    x [b,t,m] is dense, or rows [n,m] with `packing`. c is x itself, or in cross-attention `memory` [b,s,k], dense or
    rows with `key_packing`, k = kdim. backward returns one gradient for each array given: dx, or (dx, dmemory); with a
    bias its gradient comes last.

    Parameters
    ----------
    embed_dim, num_heads : m and h; the head width is d = m / h
    kdim : k, the width of `memory`, m unless given
    causal : query t sees keys up to t (up to t + keys − queries where the lengths differ)
    dropout : probability of dropping an attention weight, when forward is given `rng`
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, kdim: int | None = None, bias: bool = True, causal: bool = False,
        dropout: float = 0.0, rng: Seed = None, dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} must be a multiple of num_heads {num_heads}")
        rng, kdim = init.default_rng(rng), embed_dim if kdim is None else kdim
        self.q_proj: Module = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        self.k_proj: Module = Linear(kdim, embed_dim, bias, rng=rng, dtype=dtype)
        self.v_proj: Module = Linear(kdim, embed_dim, bias, rng=rng, dtype=dtype)
        self.out_proj: Module = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        self.num_heads, self.causal, self.dropout = num_heads, causal, dropout

    def forward(
        self, x: Array, memory: Array | None = None, bias: Array | None = None, *, packing: Packing | None = None,
        key_packing: Packing | None = None, key_mask: Array | None = None, rng: np.random.Generator | None = None,
    ) -> tuple[Array, Callable[[Array], Any]]:  # fmt: skip
        """bias broadcasts to [b,h,t,s] and is added to the scores. key_mask bool [b,s], for dense input: True where a
        key is real."""
        if key_mask is not None and packing is not None:
            raise ValueError("key_mask is for dense input; a packed batch has no padding to hide")
        scores_bias = bias
        if key_mask is not None:
            hides = np.where(key_mask, 0, -np.inf).astype(x.real.dtype)[:, None, None, :]  # [b,1,1,s]; e^(−∞) = 0
            scores_bias = hides if bias is None else bias + hides
        x_rows, packing, x_shape = _as_rows(x, packing)
        given = (x_rows, packing, x_shape) if memory is None else _as_rows(memory, key_packing)
        memory_rows, key_packing, memory_shape = given
        q, back_q = self.q_proj(x_rows, rng)  # [n,h·d]
        k, back_k = self.k_proj(memory_rows, rng)  # [s,h·d]
        v, back_v = self.v_proj(memory_rows, rng)  # [s,h·d]
        a, back_attention = packed_attention(
            q, k, v, self.num_heads, packing, key_packing, causal if self.causal else everything, bias=scores_bias,
            dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_out = self.out_proj(a, rng)  # [n,m]
        is_self_attention = memory is None

        def backward(dy: Array) -> Any:
            da = back_out(rows(dy))  # (1) [n,h·d]
            dq, dk, dv, dbias = back_attention(da)  # (2)
            dx, dmemory = back_q(dq), back_k(dk) + back_v(dv)  # (3), (4)
            both = [dx.reshape(x_shape), dmemory.reshape(memory_shape)]
            gradients = [both[0] + both[1]] if is_self_attention else both
            if bias is not None and dbias is not None:
                gradients.append(sum_to_shape(dbias, bias.shape))
            return gradients[0] if len(gradients) == 1 else tuple(gradients)

        return y.reshape(*x_shape[:-1], y.shape[-1]), backward

    def idle_parameters(self) -> dict[str, slice]:
        """b_k adds the same to all of a query's scores, which softmax does not see: its gradient is zero."""
        return {f"k_proj.{name}": slice(None) for name, _ in self.k_proj.named_parameters() if name.endswith("bias")}


def _as_rows(x: Array, packing: Packing | None) -> tuple[Array, Packing, tuple[int, ...]]:
    """Return x as rows, their packing, and the shape that x came in."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"attention takes an array [batch, length, features]; got a {type(x).__name__}")
    if packing is not None:
        if x.shape[:-1] != (packing.rows,):
            raise ValueError(f"expected {packing.rows} packed rows, got an array of shape {x.shape}")
        return x, packing, x.shape
    if x.ndim != 3:
        raise ValueError(f"expected [batch, length, features], or packed rows with their packing; got shape {x.shape}")
    batch, length, width = x.shape
    return x.reshape(batch * length, width), Packing.dense(batch, length), x.shape  # [b,t,m] → [b·t,m]
