"""Bodies with a pooler: a layer of its own on each sequence's first row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.models.body import Back, Body, Rng
from npora.models.outputs import BaseModelOutputWithPooling
from npora.models.tokens import Tokens, first_token_rows
from npora.nn import Module
from npora.nn.module import Array
from npora.nn.view import pick_rows


class PooledBody(Body):
    """A body whose output has pooler_output besides, unless its `pooler` is None."""

    pooler: Module | None

    def unpacked(self, tokens: Tokens, h: Array, back_rows: Back, rng: Rng = None) -> tuple[Any, Callable[..., None]]:
        """last_hidden_state [b,t,m] and pooler_output [b,o]; backward takes their gradients; either may be None. Where
        there is no pooler, the first alone."""
        if self.pooler is None:
            return super().unpacked(tokens, h, back_rows, rng)
        padding = tokens.of_the_batch
        first, back_first = pick_rows(h, first_token_rows(tokens))  # [b,m]
        pooled, back_pooler = self.pooler(first, rng)  # [b,o]

        def backward(dhidden: Array | None = None, dpooled: Array | None = None) -> None:
            dh = np.zeros_like(h) if dhidden is None else padding.pack(dhidden)  # [n,m]
            if dpooled is not None:
                dh = dh + back_first(back_pooler(dpooled))
            back_rows(dh)

        return BaseModelOutputWithPooling(padding.unpack(h), pooled), backward
