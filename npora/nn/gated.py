"""The product of a gated feed-forward layer."""

from __future__ import annotations

from collections.abc import Callable

from npora.nn.activation import silu
from npora.nn.module import Array, Pullback


def gated(
    gate: Array, up: Array, activation: Callable[[Array], tuple[Array, Pullback]]
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """y = a(gate) ⊙ up, of an activation a with its pullback: SwiGLU, GEGLU and their like (Shazeer, 2020).

    gate, up, y [...,f];

        dup = dy ⊙ a(gate)                      (1)
        dgate = a's pullback of dy ⊙ up         (2)

    backward returns (dgate, dup). What it reads are the inputs: a(gate) is cheaper to compute again than to keep.
    Identity: Σ dup ⊙ up = Σ dy ⊙ y, since y is linear in up.
    """

    def backward(dy: Array) -> tuple[Array, Array]:
        a, back_activation = activation(gate)
        return back_activation(dy * up), dy * a  # (2), (1)

    return activation(gate)[0] * up, backward


def swiglu(gate: Array, up: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """y = silu(gate) ⊙ up, Llama's gate; see `gated`."""
    return gated(gate, up, silu)
