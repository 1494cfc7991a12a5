"""FourierFT: a few coefficients of the update's Fourier transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from npora.files.kinds import is_of_kind
from npora.files.refusal import shortened
from npora.lora.adapter import Adapter, Merged, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.lora.names import by_pattern
from npora.lora.torch_words import TorchWords
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear
from npora.nn.module import Array, Identities, Named, Parameter


@dataclass(kw_only=True)
class FourierFTConfig(PeftConfig):
    """A FourierFTConfig says what a FourierFT adapter is (Gao et al., 2024).

    n_frequency : how many coefficients a layer trains; n_frequency_pattern gives some layers others, as rank_pattern
    scaling : the update is scaled by it
    random_loc_seed : what the places of the coefficients are drawn from, as torch draws them; files do not hold them
    init_weights : True: the coefficients start at zero; False, the default: as N(0, 1), which changes the layer at once
    bias, layers_to_transform, layers_pattern : as LoraConfig's, "fourier_only" for "lora_only"
    """

    meaning: ClassVar[tuple[str, ...]] = ("n_frequency", "scaling", "random_loc_seed", "n_frequency_pattern")
    beginning: ClassVar[tuple[str, ...]] = ("init_weights",)
    usual: ClassVar[Mapping[str, Sequence[str]]] = {"gpt2": ("mlp.c_proj",)}

    peft_type: str = "FOURIERFT"
    n_frequency: int = 1000
    scaling: float = 150.0
    random_loc_seed: int = 777
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "fourier_only"] = "none"
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    n_frequency_pattern: dict[str, int] = field(default_factory=dict)
    init_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for where, k in {"n_frequency": self.n_frequency, **self.n_frequency_pattern}.items():
            if not is_of_kind(k, "int") or k < 1:
                raise ValueError(f"n_frequency must be a whole number of at least 1; got {shortened(k)} for {where}")


class FourierFT(Adapter):
    """y = (W + ΔW) x + b,  ΔW_jc = s/(o i) Σₖ cₖ cos(2π (pₖ j/o + qₖ c/i)).    x [...,i]  W [o,i]  c [k]  →  y [...,o]

    (Gao et al., 2024, arXiv:2405.03003.) The coefficients c are trained; their places (pₖ, qₖ) in [o,i] are drawn once,
    and s is `scaling`. ΔW is s times the real part of the inverse Fourier transform of F [o,i], which has c at these
    places and 0 elsewhere. That is a real-linear map T, and its own transpose, since the cosine is the same with the
    places (j, c) and (p, q) exchanged. So

        ΔW = s T(F),  T(F)_jc = 1/(o i) Σ_pq F_pq cos(2π (p j/o + q c/i))     (1)
        dcₖ = s T(dW′) at (pₖ, qₖ)                                            (2)

    Forward is the seam's own, which has W′ and its gradient dW′ [o,i] for a moment: there is no cheaper order, since
    ΔW has a rank of up to 2 k. Products beside the base's: 0 forward, 1 backward; and three transforms of
    o i log(o i) steps each, (1) forward and again in backward, and (2). Kept is x, and of the adapter the places.

    It is good where files have to be small: k numbers a layer, whatever the layer's size. With the config's defaults,
    which are PEFT's, c starts as N(0, 1), so that a new adapter is *not* without effect, as it is with init_weights.

    Identity: (p, q) and (o − p, i − q) have the same cosine, so that where both were drawn their gradients are equal.

    The paper draws one set of places for all layers; PEFT draws the same for layers of one shape, from one seed. It
    transforms in float32 whatever the dtype; here it is done in the layer's own.
    """

    config_class = FourierFTConfig
    tensors: ClassVar[Mapping[str, Tensor]] = {"c": Tensor("fourierft_spectrum.{}")}
    samples: ClassVar[Mapping[str, Any]] = {"fourierft_linear": {"n_frequency": 5, "scaling": 11, "init_weights": True}}

    def __init__(self, base: Linear, config: FourierFTConfig, rng: Source, path: str, shared: Shared) -> None:
        o, i = base.out_features, base.in_features
        k, self.s = by_pattern(config.n_frequency_pattern, path, config.n_frequency), config.scaling
        if k > o * i:
            raise ValueError(f"{path} is {o} by {i}, and has fewer than n_frequency={k} coefficients: choose ≤ {o * i}")
        drawn = init.normal(rng, (k,), 1.0, base.dtype)
        self.c = Parameter(np.zeros_like(drawn) if config.init_weights else drawn)
        self._seed, self._shape = config.random_loc_seed, (o, i)

    @cached_property
    def places(self) -> tuple[Array, Array]:
        """(p, q), each [k]: the first k numbers of a random order of all o i."""
        return _places(self._seed, *self._shape, self.c.size)

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        (c,) = theta
        F = np.zeros(W.shape, c.dtype)  # [o,i]
        F[self.places] = c

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            return dW, db, self.s * cosines(dW)[self.places]  # (2) [k]

        return W + self.s * cosines(F), b, backward  # (1)

    def factors(self) -> dict[str, float]:
        return {"scaling": self.s}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        (p, q), (o, i), dc = self.places, self._shape, self.c.grad
        at = {place: k for k, place in enumerate(zip(p.tolist(), q.tolist(), strict=True))}
        pairs = [(k, at[-p % o, -q % i]) for (p, q), k in at.items() if at.get((-p % o, -q % i), k) > k]
        if dc is not None and pairs:
            one, other = np.transpose(pairs)
            yield "dc at (p, q) and (o − p, i − q)", np.stack([dc[one], -dc[other]], axis=-1)  # [k,2]


@lru_cache(8)  # layers of one shape have the same
def _places(seed: int, o: int, i: int, k: int) -> tuple[Array, Array]:
    p, q = np.divmod(TorchWords(seed).permutation(o * i, k), i)
    return p, q


def cosines(F: Array) -> Array:
    """Return T(F), of a complex F that of its parts: the map is linear over the reals.    F [o,i]  →  [o,i]"""
    if np.iscomplexobj(F):
        return cosines(F.real) + 1j * cosines(F.imag)
    return np.fft.ifft2(F).real.astype(F.dtype, copy=False)
