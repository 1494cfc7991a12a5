"""RoAd: pairs of a layer's outputs, each turned in its plane and scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, rows
from npora.nn.module import Array, Parameter, Pullback


@dataclass(kw_only=True)
class RoadConfig(PeftConfig):
    """A RoadConfig says what a RoAd adapter is (Liao and Monz, 2024).

    variant : "road_1": one angle and one scale for each pair; "road_2": for each output; "road_4": two for each output
    group_size : an even divisor of the layer's outputs; each output of the first half of a group of these is paired
        with the one that stands as far in the second half
    init_weights : True: θ = 0, α = 1, so that nothing changes at first; False: θ ~ N(0, 1/4), α ~ N(1, 1/4)
    """

    meaning = ("variant", "group_size")
    beginning = ("init_weights",)
    lacks = ("exclude_modules",)

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    group_size: int = 64
    init_weights: bool = True
    peft_type: str = "ROAD"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_size < 2 or self.group_size % 2:
            raise ValueError(f"group_size must be an even number of at least 2; got {self.group_size}")


class RoAd(Adapter):
    """y = R (W x + b).    x [...,i]  W [o,i]  b [o]  →  y [...,o]    (Liao and Monz, 2024, arXiv:2409.00119)

    With z = W x + b, and z⊥ = (−z₂, z₁) of each pair (z₁, z₂), R turns and scales each pair:

        y = c ⊙ z + s ⊙ z⊥,  c = α ⊙ cos θ,  s = α ⊙ sin θ

    θ and α are trained: o/2 numbers each, which both of a pair share (road_1), o (road_2), or 2 o, of which the first
    make c and the others s (road_4). Since ⊥ is a quarter turn, its transpose is −⊥:

        dz = c ⊙ dy − (s ⊙ dy)⊥                                     (1)
        dc = Σₙ dyₙ ⊙ zₙ,  ds = Σₙ dyₙ ⊙ zₙ⊥                        (2)
        dα = cos θ ⊙ dc + sin θ ⊙ ds                                (3)
        dθ = α ⊙ (cos θ ⊙ ds − sin θ ⊙ dc)                          (4)   each over all that share it

    Products beside the base's: 0 forward, 0 backward. Kept is z, where θ or α is trained. Merged, W′ = R W and b′ = R
    b.

    With one θ and one α to a pair, R is α times a rotation of it: ‖y‖ = |α| ‖z‖ pair by pair, whatever θ is.

    It is good where many adapters serve one batch, for each is element-wise. The paper pairs neighbours; PEFT pairs
    halves of groups, which only numbers the outputs in another order. PEFT puts it on Linear alone.
    """

    config_class = RoadConfig
    calls_alone = True
    adapts = (Linear,)
    tensors: ClassVar[Mapping[str, Tensor]] = {"angle": Tensor("road_theta.{}"), "size": Tensor("road_alpha.{}")}
    samples: ClassVar[Mapping[str, Any]] = {
        "road_linear": {"group_size": 4},
        "road_2_linear": {"group_size": 2, "variant": "road_2"},
        "road_4_linear": {"group_size": 4, "variant": "road_4"},
    }

    def __init__(self, base: Linear, config: RoadConfig, rng: Source, path: str, shared: Shared) -> None:
        self.half, self.variant, o, dtype = config.group_size // 2, config.variant, base.out_features, base.dtype
        if o % config.group_size:
            raise ValueError(
                f"RoAd turns pairs in groups of {config.group_size}, and {path or 'this layer'} has {o} outputs: give "
                "an even group_size that divides them"
            )
        size = {"road_1": o // 2, "road_2": o, "road_4": 2 * o}[config.variant]
        theta, alpha = init.normal(rng, (size,), 0.5, dtype), init.normal(rng, (size,), 0.5, dtype) + dtype.type(1)
        self.angle, self.size = Parameter(theta), Parameter(alpha)
        if config.init_weights:
            self.angle, self.size = Parameter(np.zeros_like(theta)), Parameter(np.ones_like(alpha))

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        c, s, back_coefficients = self.coefficients(*self.theta)
        z, back_base = base(x)  # [...,o]
        kept = z if any(parameter.requires_grad for parameter in self.parameters()) else None

        def backward(dy: Array) -> Array:
            if kept is not None:
                dc, ds = rows(dy * kept).sum(axis=0), rows(dy * self.turned(kept)).sum(axis=0)  # (2) [o]
                self.accumulate(*back_coefficients(dc, ds))
            return back_base(c * dy - self.turned(s * dy))  # (1)

        return c * z + s * self.turned(z), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = R W,  b′ = R b,  dW = Rᵀ dW′,  db = Rᵀ db′: of each column of W, and b, what forward does of z."""
        c, s, back_coefficients = self.coefficients(*theta)

        def turn(z: Array) -> Array:
            return c * z + s * self.turned(z)

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            columns, dcolumns = np.asarray(W).T, dW.T  # [i,o]
            if b is not None and db is not None:
                columns, dcolumns = np.vstack([columns, b]), np.vstack([dcolumns, db])
            dc, ds = (dcolumns * columns).sum(axis=0), (dcolumns * self.turned(columns)).sum(axis=0)  # (2) [o]
            back = c * dcolumns - self.turned(s * dcolumns)  # (1)
            i = W.shape[1]
            return back[:i].T, None if db is None else back[-1], *back_coefficients(dc, ds)

        return turn(np.asarray(W).T).T, None if b is None else turn(b), backward

    def coefficients(
        self, theta: Array, alpha: Array
    ) -> tuple[Array, Array, Callable[[Array, Array], tuple[Array, Array]]]:
        """Return c [o] and s [o], and the pullback (dc, ds) → (dθ, dα)."""
        (theta_c, theta_s), (alpha_c, alpha_s) = self.spread(theta), self.spread(alpha)
        cos, sin = np.cos(theta_c), np.sin(theta_s)

        def backward(dc: Array, ds: Array) -> tuple[Array, Array]:
            dalpha = self.gathered(cos * dc, sin * ds)  # (3)
            return self.gathered(-alpha_c * np.sin(theta_c) * dc, alpha_s * np.cos(theta_s) * ds), dalpha  # (4)

        return alpha_c * cos, alpha_s * sin, backward

    def spread(self, values: Array) -> tuple[Array, Array]:
        """Give each output its number, for c [o] and for s [o]."""
        if self.variant == "road_1":
            both = np.repeat(values.reshape(-1, 1, self.half), 2, axis=1).reshape(-1)  # [o/2] → [o]
            return both, both
        if self.variant == "road_2":
            return values, values
        two = values.reshape(-1, 2, 2 * self.half)
        return two[:, 0].reshape(-1), two[:, 1].reshape(-1)  # [2·o] → [o], [o]

    def gathered(self, of_c: Array, of_s: Array) -> Array:
        """Sum over what shares a number: the transpose of `spread`."""
        if self.variant == "road_1":
            return (of_c + of_s).reshape(-1, 2, self.half).sum(axis=1).reshape(-1)  # [o] → [o/2]
        if self.variant == "road_2":
            return of_c + of_s
        pairs = [part.reshape(-1, 2 * self.half) for part in (of_c, of_s)]
        return np.stack(pairs, axis=1).reshape(-1)  # [o], [o] → [2·o]

    def turned(self, z: Array) -> Array:
        """z⊥: each pair (z₁, z₂) as (−z₂, z₁)."""
        groups = z.shape[-1] // (2 * self.half)
        pairs = z.reshape(*z.shape[:-1], groups, 2, self.half)
        return np.concatenate([-pairs[..., 1:, :], pairs[..., :1, :]], axis=-2).reshape(z.shape)
