"""OFT: the inputs of a layer turned in blocks, by orthogonal matrices made of skew-symmetric ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.cayley import cayley, neumann, skew
from npora.lora.config import PeftConfig
from npora.lora.values import Unsupported
from npora.nn import init
from npora.nn.contract import checked_input
from npora.nn.init import Source
from npora.nn.linear import Linear, rows
from npora.nn.module import Array, Parameter, Pullback


@dataclass(kw_only=True)
class OFTConfig(PeftConfig):
    """An OFTConfig says what an OFT adapter is (Qiu et al., 2023).

    r, oft_block_size : how many blocks a layer's inputs have, or how large each is; the other one is 0. What does not
        divide the inputs gives way to the nearest number that does, the smaller of two
    block_share : whether all blocks of a layer are turned alike
    use_cayley_neumann, num_cayley_neumann_terms : whether the inverse in Cayley's form is cut off, and where
    init_weights : True: nothing is turned at first; False: the angles are drawn from N(0, 1/100)
    coft, eps, module_dropout : coft and module_dropout are refused; eps says something of coft alone
    bias, layers_to_transform, layers_pattern : as LoraConfig's, "oft_only" for "lora_only"
    """

    meaning = ("r", "oft_block_size", "use_cayley_neumann", "num_cayley_neumann_terms", "block_share")
    beginning = ("init_weights",)

    r: int = 0
    oft_block_size: int = 32
    module_dropout: Unsupported = 0.0
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "oft_only"] = "none"
    init_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    coft: Unsupported = False
    eps: float = 6e-5
    block_share: bool = False
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: int = 5
    peft_type: str = "OFT"
    peft_version: str | None = "0.18.0"  # PEFT asks whether the file is of this form, which it has since then

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.r == 0) == (self.oft_block_size == 0) or self.oft_block_size < 0:
            raise ValueError(
                "one of r and oft_block_size says how the inputs are divided, and the other one is 0; got "
                f"r={self.r}, oft_block_size={self.oft_block_size}"
            )
        if self.num_cayley_neumann_terms < 2:
            raise ValueError(f"num_cayley_neumann_terms must be at least 2; got {self.num_cayley_neumann_terms}")


class OFT(Adapter):
    """y = W Rᵀ x + b.    x [...,i]  W [o,i]  R [i,i], of k blocks [i/k,i/k]    (Qiu et al., 2023, arXiv:2306.07280)

    Each block is (nearly) a rotation, made of a skew-symmetric Q, whose numbers above the diagonal are trained:
    `cayley.py` has both forms. W's rows keep their lengths and angles, block by block. With z = Rᵀ x, and dz = Wᵀ dy:

        dR = Σₙ xₙ dzₙᵀ        (1)   block by block; the sum of all blocks, where they are shared
        dx = R dz              (2)
        dq = dQ − dQᵀ          (3)   above the diagonal, with dQ from `cayley.py`

    Beside the layer's own there are a product with i/k columns forward and two backward, and some of single blocks.
    Kept is x, where Q is trained. Q starts as 0, so that a fresh adapter leaves its layer as it is.

    It is good where what a model can do is to stay, as where it draws. The paper has the exact form; PEFT's default is
    the one that is cut off, which turns to the other side. PEFT goes on Linear alone, and, as here, turns x instead of
    forming W Rᵀ.
    """

    config_class = OFTConfig
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {"q": Tensor("oft_R.{}.weight")}
    samples: ClassVar[Mapping[str, Any]] = {
        "oft_linear": {"oft_block_size": 4},
        "oft_cayley_linear": {"oft_block_size": 4, "use_cayley_neumann": False},
        "oft_shared_linear": {"oft_block_size": 4, "block_share": True, "num_cayley_neumann_terms": 4},
    }

    def __init__(self, base: Linear, config: OFTConfig, rng: Source, path: str, shared: Shared) -> None:
        i = base.in_features
        self.blocks = nearest_divisor(i, config.r) if config.r else i // nearest_divisor(i, config.oft_block_size)
        self.size = i // self.blocks
        self.terms = config.num_cayley_neumann_terms if config.use_cayley_neumann else 0
        numbers = (1 if config.block_share else self.blocks, self.size * (self.size - 1) // 2)
        q = init.normal(rng, numbers, 0.1, base.dtype)
        self.q = Parameter(np.zeros_like(q) if config.init_weights else q)

    def rotation(self, q: Array) -> tuple[Array, Pullback]:
        """R [k,i/k,i/k], and the pullback dR → dq."""
        Q, back_skew = skew(q, self.size)
        R, back_rotation = neumann(Q, self.terms) if self.terms else cayley(Q)

        def backward(dR: Array) -> Array:
            if len(q) == 1:
                dR = dR.sum(axis=0, keepdims=True)
            return back_skew(back_rotation(dR))  # (3)

        return np.broadcast_to(R, (self.blocks, self.size, self.size)), backward

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        R, back_rotation = self.rotation(self.q.data)
        x = checked_input(base, x, base.matrix)
        y, back_base = base(in_blocks(x, R))
        kept = x if self.q.requires_grad else None

        def backward(dy: Array) -> Array:
            dz = back_base(dy)  # [...,i]
            if kept is not None:
                self.accumulate(back_rotation(self.outer(kept, dz)))  # (1)
            return in_blocks(dz, R.transpose(0, 2, 1))  # (2)

        return y, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W Rᵀ,  dW = dW′ R,  dR = dW′ᵀ W, block by block"""
        W, (R, back_rotation) = np.asarray(W), self.rotation(theta[0])

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            return in_blocks(dW, R), db, back_rotation(self.outer(dW, W))

        return in_blocks(W, R.transpose(0, 2, 1)), b, backward

    def outer(self, x: Array, dz: Array) -> Array:
        """Σₙ xₙ dzₙᵀ in each block.    x, dz [...,i]  →  [k,i/k,i/k]"""
        columns, others = (rows(part).reshape(-1, self.blocks, self.size) for part in (x, dz))  # [n,k,i/k]
        return np.matmul(columns.transpose(1, 2, 0), others.transpose(1, 0, 2))


def in_blocks(x: Array, R: Array) -> Array:
    """x R, of each block of x by its own.    x [...,i]  R [k,i/k,i/k]  →  [...,i]"""
    parts = rows(x).reshape(-1, len(R), R.shape[1]).transpose(1, 0, 2)  # [n,i] → [k,n,i/k]
    return np.matmul(parts, R).transpose(1, 0, 2).reshape(x.shape)


def nearest_divisor(i: int, wanted: int) -> int:
    """The divisor of i nearest to a number, the smaller of two that are as near."""
    return min((d for d in range(1, i + 1) if i % d == 0), key=lambda d: (abs(d - wanted), d))
