"""What an adapter does to a layer, in numbers: the measures of section 7 of the LoRA paper (Hu et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npora.lora.combine import Factors, Singular, singular, singular_of
from npora.lora.config import PeftConfig
from npora.lora.convert import decomposed
from npora.lora.fit import read_tensors
from npora.lora.folder import PREFIX
from npora.lora.methods.lora import LoRA
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.methods.lora_embedding import LoRAEmbedding
from npora.lora.model import PeftModel
from npora.nn.module import Array
from npora.nn.norm import LayerNorm, RMSNorm


def effective_rank(values: Array) -> float:
    """exp H(p) with p_k = σ_k / Σσ and H its entropy (Roy and Vetterli, 2007): r where r of σ are equal, 0 of no ΔW."""
    p = values[values > 0] / values.sum() if values.any() else values[:0]
    return float(np.exp(-(p * np.log(p)).sum())) if len(p) else 0.0


def similarity(V: Array, U: Array) -> float:
    """φ = ‖V Uᵀ‖² / min(r, r′), between 0 and 1: how much of the smaller of two subspaces lies in the other.

    V [r,i] and U, of r′ rows, have orthonormal rows. (The paper's section 7.2; two that are drawn have max(r, r′) / i.)
    """
    return float(((V @ U.T) ** 2).sum() / min(len(V), len(U)))


def directions(found: Singular) -> Array:
    """V_r [r,i], the directions of the inputs that ΔW sees: those whose σ is no rounding of zero."""
    least = found.values.max(initial=0) * max(found.U.shape[0], found.V.shape[1]) * np.finfo(found.values.dtype).eps
    return found.V[found.values > least]


@dataclass(frozen=True)
class Measures:
    """What one adapter does to one layer.

    values : the singular values σ of ΔW, from the largest on, without those that are zero to rounding
    directions : V_r [r,i]
    relative : ‖ΔW‖ / ‖W‖ (Frobenius); None without W, and so the rest
    overlap : the similarity of V_r with as many of W's top directions; what chance gives is r / i
    amplification : ‖ΔW‖ / ‖U_rᵀ W V_rᵀ‖: by how much what W does along ΔW's directions is made stronger (section 7.3)
    bias : ‖b′ − b‖ / ‖b‖; None where the bias is left alone, or W is not at hand
    """

    values: Array
    directions: Array
    relative: float | None = None
    overlap: float | None = None
    amplification: float | None = None
    bias: float | None = None

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.values))

    @property
    def effective_rank(self) -> float:
        return effective_rank(self.values)

    @property
    def chance(self) -> float:
        return self.directions.shape[0] / self.directions.shape[1]


def measured(found: Singular, W: Array | None = None) -> Measures:
    """Measure an update, beside the layer's W [o,i] where that is at hand."""
    V = directions(found)
    r = len(V)
    values = found.values[:r]
    if W is None or not r:
        return Measures(values, V, None if W is None else 0.0)
    size, norm = float(np.linalg.norm(W)), float(np.linalg.norm(values))
    along = float(np.linalg.norm(found.U[:, :r].T @ W @ V.T))
    top = singular(W).V[:r]
    return Measures(values, V, norm / size if size else None, similarity(V, top), norm / along if along else None)


def of_model(model: PeftModel, adapter_name: str | None = None) -> Iterator[tuple[str, Measures]]:
    """Yield what an adapter (the active one, unless named) does to each layer that it is on, by its path. A norm is the
    matrix diag(γ)."""
    name = model.active_adapter if adapter_name is None else adapter_name
    for path, layer in model.lora_layers():
        if name in layer.adapters:
            base: Any = layer.base_layer
            if isinstance(base, LayerNorm | RMSNorm):
                gamma = base.gamma() if isinstance(base, RMSNorm) else base.matrix
                found, W = singular(np.diag(layer.get_delta_weight(name))), np.diag(gamma)
            else:
                found, W = decomposed(layer, name), np.asarray(base.matrix)
            yield path, replace(measured(found, W), bias=layer.bias_change(name))


def of_file(directory: str, config: PeftConfig) -> Iterator[tuple[str, Measures]]:
    """Yield the same of an adapter's files alone, without W. Raises ValueError where ΔW depends on W."""
    if not isinstance(config, LoraConfig) or config.use_dora:
        raise ValueError(f"what the adapter in {directory} does depends on the base's weights: pass --base")
    tensors = read_tensors(directory)
    ends = [[f".{method.tensors[name].file_name}" for name in "AB"] for method in (LoRA, LoRAEmbedding)]
    for name, A in tensors.items():
        for a, b in ends:
            if name.endswith(a) and (B := tensors.get(name.removesuffix(a) + b)) is not None:
                path = name.removeprefix(PREFIX).removesuffix(a)
                _, s = config.rank_and_scaling(path)
                wide = [np.asarray(part, np.result_type(part, np.float32)) for part in (B, A)]
                yield path, measured(singular_of(Factors(s, *wide)))
