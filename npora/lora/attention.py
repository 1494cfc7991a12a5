"""Attention with LoRA on its projections, standing alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from npora.lora.linear import LoRALinear
from npora.nn import init
from npora.nn.attention import MultiHeadAttention
from npora.nn.init import Source
from npora.nn.linear import Linear

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


class LoRAAttention(MultiHeadAttention):
    """This is a frozen MultiHeadAttention with a low-rank update on W_q and W_v, or on the projections that are named.

        q = (W_q + s B_q A_q) x + b_q,  v likewise                (Hu et al., 2021, section 4.2)

    forward and backward are MultiHeadAttention's own: a projection with LoRA is a projection. With B = 0, as it
    starts, the layer equals a MultiHeadAttention of the same `rng` bit for bit.

    Parameters
    ----------
    embed_dim, num_heads, kdim, bias, causal, dropout, rng, dtype : as of MultiHeadAttention
    r, lora_alpha, lora_dropout, use_rslora : as of LoRALinear
    target_modules : which of q_proj, k_proj, v_proj, out_proj get an update
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        r: int = 8,
        lora_alpha: float = 8,
        lora_dropout: float = 0.0,
        target_modules: Sequence[str] = ("q_proj", "v_proj"),
        *,
        use_rslora: bool = False,
        kdim: int | None = None,
        bias: bool = True,
        causal: bool = False,
        dropout: float = 0.0,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        rng = init.default_rng(rng)
        super().__init__(
            embed_dim, num_heads, kdim=kdim, bias=bias, causal=causal, dropout=dropout, rng=rng, dtype=dtype
        )
        self.requires_grad_(False)
        if not target_modules:
            raise ValueError(f"target_modules is empty: name some of {', '.join(_PROJECTIONS)}")
        for name in target_modules:
            if name not in _PROJECTIONS:
                raise ValueError(f"target_modules: '{name}' is not one of {', '.join(_PROJECTIONS)}")
            base = getattr(self, name)
            if isinstance(base, Linear):  # a name that stands twice is adapted once
                setattr(self, name, LoRALinear(base, r, lora_alpha, lora_dropout, use_rslora=use_rslora, rng=rng))
