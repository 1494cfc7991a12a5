"""AdaLoRA: a low-rank update as a singular value decomposition, whose ranks go to the layers where they matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.methods.adalora_config import AdaLoraConfig
from npora.lora.methods.adalora_ranks import Importance, cut, orthogonality
from npora.machine.product import product
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback

_TINY = 1e-5  # PEFT's, beside the rank


class AdaLoRA(Adapter):
    """y = (W + s B diag(E) A) x + b.    x [...,i]  W [o,i]  A [r,i]  E [r,1]  B [o,r]  →  y [...,o]

    (Zhang et al., 2023, arXiv:2303.10512.) s = α/(R + 1e-5), where R is the rank that the layer began with. With
    u = A x, dropout m on its input, u = A (m ⊙ x), and v = E ⊙ u:

        dv = s Bᵀ dy                  (1)
        dB = s Σₙ dyₙ vₙᵀ             (2)
        dE = Σₙ dvₙ ⊙ uₙ              (3)
        du = E ⊙ dv                   (4)
        dA = Σₙ duₙ (m ⊙ x)ₙᵀ         (5)
        dx = Wᵀ dy + m ⊙ (Aᵀ du)      (6)

    Once a step a penalty draws A's rows and B's columns towards orthonormal ones, so that E is like singular values;
    after it the least important of all layers' ranks have their E set to 0, ever more of them (`adalora_ranks.py`).
    A file holds the ranks that are left, and its config's rank_pattern which they are.

    Products beside the base's: 2 forward, 4 backward. Kept are u, and m ⊙ x where A is trained. E starts at zero, so
    that a fresh adapter leaves its layer as it is, A and B as N(0, 0.02²).

    It is good where one does not know which layers need the rank. Identities: the loss cannot see a column of B grow
    as that number of E, or that row of A, shrinks: Σ B ⊙ dB of each column is E ⊙ dE, and is Σ A ⊙ dA of each row.
    The penalty sees that, and is asked for apart.

    The paper's penalty is ‖AAᵀ − I‖² + ‖BᵀB − I‖²; PEFT's, and this one, is the mean of these norms themselves. The
    paper scales by α/r as LoRA does; PEFT by the rank at the beginning, so that a cut changes nothing but what is cut.
    PEFT 0.21.2 trains R as well, which no file has; here it is a constant.
    """

    config_class = AdaLoraConfig
    tensors: ClassVar[Mapping[str, Tensor]] = {
        "A": Tensor("lora_A.{}"), "E": Tensor("lora_E.{}"), "B": Tensor("lora_B.{}"),
        "R": Tensor("ranknum.{}", None, trained=False, counted=True),
    }  # fmt: skip
    samples: ClassVar[Mapping[str, Any]] = {
        "adalora_linear": {"init_r": 3, "target_r": 2, "lora_alpha": 7, "lora_dropout": 0.2, "total_step": 9}
    }

    def __init__(self, base: Linear, config: AdaLoraConfig, rng: Source, path: str, shared: Shared) -> None:
        self.alpha, self.dropout_p = config.lora_alpha, config.lora_dropout
        self._pattern = pattern_of(config, path)  # of the ranks at the beginning, those that are here
        self._left: Array | None = None  # of those here, the ones that are left
        self._importance: dict[str, Importance] = {}
        r, dtype, plain = sum(self._pattern), base.dtype, config.init_lora_weights
        self.A = Parameter(init.normal(rng, (r, base.in_features), 0.02 if plain else 1.0, dtype))
        self.B = Parameter(init.normal(rng, (base.out_features, r), 0.02 if plain else 1.0, dtype))
        E = init.normal(rng, (r, 1), 1.0, dtype)
        self.E = Parameter(np.zeros_like(E) if plain else E)
        self.R = Parameter(np.full(1, config.init_r, dtype), requires_grad=False)

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        A, E, B, R = self.theta
        e, s = E[:, 0], self.alpha / (R + _TINY)  # [r], [1]
        y, back_base = base(x)
        dropped, back_dropout = self.drop(x, rng)  # m ⊙ x
        u = matmul(dropped, A.T)  # [...,r]
        kept = dropped if self.A.requires_grad else None

        def backward(dy: Array) -> Array:
            dv = s * matmul(dy, B)  # (1) [...,r]
            du = e * dv  # (4)
            dB = s * product(rows(dy).T, rows(e * u)) if self.B.requires_grad else None  # (2) [o,r]
            dE = rows(dv * u).sum(axis=0)[:, None] if self.E.requires_grad else None  # (3) [r,1]
            dA = None if kept is None else product(rows(du).T, rows(kept))  # (5) [r,i]
            self.accumulate(dA, dE, dB, None)
            return back_base(dy) + back_dropout(matmul(du, A))  # (6) [...,i]

        return y + matmul(s * e * u, B.T), backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W + s B P,  P = E ⊙ A:  dB = s dW′ Pᵀ,  dP = s Bᵀ dW′,  dA = E ⊙ dP,  dE = Σᵢ dP ⊙ A,  dR by s."""
        A, E, B, R = theta
        s, P = self.alpha / (R + _TINY), E * A  # [r,i]
        change = s * product(B, P)  # [o,i]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dP = s * product(B.T, dW)
            dR = -(dW * change).sum() / (R + _TINY)
            return dW, db, E * dP, (dP * A).sum(axis=1, keepdims=True), s * product(dW, P.T), dR

        return W + change, b, backward

    @classmethod
    def penalty(cls, config: AdaLoraConfig, adapters: Mapping[str, AdaLoRA]) -> float:
        """λ times the mean of ‖AAᵀ − I‖ and ‖BᵀB − I‖ over all layers."""
        share, total = config.orth_reg_weight / (2 * len(adapters)), 0.0
        for adapter in adapters.values():
            for parameter, turned in ((adapter.A, False), (adapter.B, True)):
                norm, back_norm = orthogonality(parameter.data.T if turned else parameter.data)
                total += share * float(norm)
                if parameter.requires_grad:
                    gradient = back_norm(share)
                    parameter.accumulate(gradient.T if turned else gradient)
        return total

    @classmethod
    def after_step(cls, config: AdaLoraConfig, adapters: Mapping[str, AdaLoRA], step: int) -> None:
        """Follow how important each number is, and cut ranks where the config's schedule says so."""
        layers = list(adapters.values())
        last = config.last
        if step < last:
            for adapter in layers:
                for name, parameter in adapter.trained():
                    adapter._importance.setdefault(name, Importance(parameter.data)).follow(parameter, config)
        budget, is_due = config.budget(step, sum(len(adapter.E.data) for adapter in layers), len(layers))
        if step <= last and is_due:
            scores = [adapter.score() for adapter in layers]
            for adapter, left in zip(layers, cut(scores, budget), strict=True):
                adapter._left = left
        if step == last:
            for adapter in layers:
                adapter._importance.clear()
        for adapter in layers:
            if adapter._left is not None and is_due:
                adapter.E.data = adapter.E.data * adapter._left[:, None]

    def trained(self) -> Iterator[tuple[str, Parameter]]:
        yield from (("A", self.A), ("E", self.E), ("B", self.B))

    def score(self) -> Array:
        """Return how important each rank is: its number of E, with the means of its row of A and its column of B."""
        if not self._importance:
            return np.zeros(len(self.E.data), self.E.dtype)
        of_A, of_E, of_B = (self._importance[name].score() for name in "AEB")
        return of_E[:, 0] + (of_A.mean(axis=1) + of_B.mean(axis=0))  # [r]

    def state(self) -> dict[str, Array]:
        arrays = {} if self._left is None else {"left": self._left.astype(self.E.dtype)}
        for name, importance in self._importance.items():
            arrays |= {f"{name}.mean": importance.mean, f"{name}.uncertainty": importance.uncertainty}
        return arrays

    def load_state(self, state: Mapping[str, Array]) -> None:
        self._left = state["left"] != 0 if "left" in state else None
        self._importance = {}
        for name, parameter in self.trained():
            if f"{name}.mean" in state:
                importance = self._importance[name] = Importance(parameter.data)
                importance.mean, importance.uncertainty = state[f"{name}.mean"], state[f"{name}.uncertainty"]

    def remaining(self) -> Array:
        """Return which of the ranks here a file holds: what is left, and what has grown again since."""
        return np.ones(len(self.E.data), bool) if self._left is None else self._left | (self.E.data[:, 0] != 0)

    def saved(self, path: str, config: Any) -> Iterator[tuple[str, Parameter]]:
        remaining = self.remaining()
        for name, parameter in self.in_file(path, config):
            if not remaining.all():
                values = parameter.data[:, remaining] if parameter is self.B else parameter.data[remaining]
                parameter = Parameter(values, requires_grad=False)
            yield name, parameter

    def live(self, path: str, config: AdaLoraConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Put the ranks of a file in their places among those here, with an E of zero for the others."""
        kept, found = self._kept(path, config), dict[str, Array]()
        for name, parameter in self.in_file(path, config) if not kept.all() else ():
            whole = np.zeros_like(parameter.data) if parameter is self.E else parameter.data.copy()
            turned = whole.T if parameter is self.B else whole  # [r,…]
            value = tensors.get(name, whole)
            value = value.T if parameter is self.B else value
            if value.shape == turned[kept].shape:
                turned[kept] = value
                found[name] = whole
        return found

    def loaded(self, path: str, config: AdaLoraConfig) -> None:
        kept = self._kept(path, config)
        self._left = None if kept.all() else kept

    def _kept(self, path: str, config: AdaLoraConfig) -> Array:
        """Return which of the ranks here are in a file of this config."""
        theirs = pattern_of(config, path.removeprefix("base_model.model."))
        if any(it and not is_here for it, is_here in zip(theirs, self._pattern, strict=True)):
            raise ValueError(f"{path} has ranks that this adapter has not any more: load it under another name")
        return np.array([it for it, is_here in zip(theirs, self._pattern, strict=True) if is_here], bool)

    @classmethod
    def recorded(cls, config: AdaLoraConfig, adapters: Mapping[str, AdaLoRA]) -> AdaLoraConfig:
        patterns = {}
        for path, adapter in adapters.items():
            remaining = iter(adapter.remaining().tolist())
            patterns[f"{path}.lora_E"] = [is_here and next(remaining) for is_here in adapter._pattern]
        was_cut = config.rank_pattern is not None or any(a._left is not None for a in adapters.values())
        return replace(config, rank_pattern=patterns) if was_cut else config

    def factors(self) -> dict[str, float]:
        return {"α/R": self.alpha / (float(self.R.data[0].real) + _TINY), "R": float(self.R.data[0].real)}

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        A, E, B = (parameter.grad for _, parameter in self.trained())
        if A is not None and E is not None and B is not None:
            of_E = self.E.data * E  # [r,1]
            yield "E ⊙ dE = Σ B ⊙ dB", np.concatenate([of_E, -(self.B.data * B).T], axis=1)
            yield "E ⊙ dE = Σ A ⊙ dA", np.concatenate([of_E, -self.A.data * A], axis=1)


def pattern_of(config: AdaLoraConfig, path: str) -> list[bool]:
    """Return which of the ranks at the beginning the layer at a path has, as a trained adapter's file says."""
    pattern = (config.rank_pattern or {}).get(f"{path}.lora_E", [True] * config.init_r)
    if len(pattern) != config.init_r:
        raise ValueError(f"rank_pattern has {len(pattern)} ranks for {path}, and init_r is {config.init_r}")
    return pattern
