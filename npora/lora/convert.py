"""Any method's adapter as one of plain LoRA, which every program reads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.combine import Factors, Singular, singular, singular_of
from npora.lora.config import PeftConfig
from npora.lora.files import save_adapter
from npora.lora.folder import PREFIX
from npora.lora.match import bias_mode, target_paths
from npora.lora.methods import method_of
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.model import PeftModel
from npora.nn.embedding import Embedding
from npora.nn.linear import Linear
from npora.nn.module import Array, Parameter

logger = logging.getLogger("npora")


@dataclass(frozen=True)
class Conversion:
    """What `convert_to_lora` gives:  lora_config, state_dict = convert_to_lora(model, rank).

    errors : of each layer, ‖ΔW − B A‖ / ‖ΔW‖ (Frobenius): what the rank leaves out; 0 where ΔW is zero
    changed_biases : of each layer whose bias the method changes, ‖b′ − b‖ / ‖b‖: LoRA has no place for it
    """

    config: LoraConfig
    state_dict: dict[str, Array]
    errors: dict[str, float]
    changed_biases: dict[str, float]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.config, self.state_dict))


def convert_to_lora(model: PeftModel, rank: float, adapter_name: str = "default") -> Conversion:
    """Cut the singular value decomposition of each layer's ΔW to a rank:  ΔW = U diag(σ) V ≈ B A, with s = 1,

        B = U_r diag(σ_r) [o,r],  A = V_r [r,i],  ‖ΔW − B A‖² = Σ_{k>r} σ_k²    (Eckart and Young, 1936)

    and no matrix of that rank is nearer. Modules that the adapter trains whole, and biases of the base, go along.

    rank : a whole number; or a share of the energy in (0, 1], for which each layer gets the lowest rank r with
        Σ_{k≤r} σ_k² ≥ share · Σ σ_k²

    Raises
    ------
    ValueError: a rank of no meaning, or above a layer's sizes; no such adapter.  TypeError: no model with adapters.
    """
    if not isinstance(model, PeftModel):
        raise TypeError(f"convert_to_lora takes a PeftModel; got a {type(model).__name__}")
    model._refuse_unknown(adapter_name)
    is_share = isinstance(rank, float | np.floating)
    if isinstance(rank, bool) or not (0 < rank <= 1 if is_share else isinstance(rank, Integral) and rank > 0):
        raise ValueError(
            f"the rank is a whole number of at least 1, or a share of the energy in (0.0, 1.0]; got {rank!r}"
        )
    state, errors, biases, ranks = dict[str, Array](), dict[str, float](), dict[str, float](), dict[str, int]()
    for path, layer in model.lora_layers():
        if adapter_name in layer.adapters:
            found = decomposed(layer, adapter_name)
            r = rank_of_share(found.values, float(rank)) if is_share else int(rank)
            if r > min(layer.base_layer.matrix.shape):
                o, i = layer.base_layer.matrix.shape
                raise ValueError(f"{path} has a matrix of {o} × {i}, and no update of it has the rank {r}")
            cut, plain = found.cut(r), method_of(LoraConfig(), layer.base_layer)
            assert plain is not None
            for name, factor in (("A", cut.A), ("B", cut.B)):
                key = f"{PREFIX}{path}.{plain.tensors[name].file_name}"
                state[key] = np.ascontiguousarray(factor, layer.base_layer.dtype)
            errors[path], ranks[path] = _share_left(found.values, r), r
            if (change := layer.bias_change(adapter_name)) is not None:
                biases[path] = change
    with model._biases.on():
        for name, parameter in model.adapter_parameters(adapter_name).items():
            if not _is_of_an_adapter(name, errors):
                state[name] = parameter.data
    if biases:
        worst = max(biases, key=lambda path: biases[path])
        logger.warning(
            "adapter '%s' changes the biases of %d layers, by up to %.1f %% (%s): LoRA has no place for that, and the "
            "converted adapter leaves them as they are", adapter_name, len(biases), 100 * biases[worst], worst,
        )  # fmt: skip
    return Conversion(_config(model, adapter_name, ranks), state, errors, biases)


def save_as_lora(
    path: str | os.PathLike[str], model: PeftModel, rank: float, adapter_name: str = "default"
) -> Conversion:
    """Convert an adapter, as `convert_to_lora` does, and write it as save_pretrained would."""
    conversion = convert_to_lora(model, rank, adapter_name)
    parameters = {name: Parameter(array, requires_grad=False) for name, array in conversion.state_dict.items()}
    base = model._frozen_state(model._saved_paths(adapter_name))
    save_adapter(os.fspath(path), conversion.config, parameters, base, model._said(adapter_name))
    return conversion


def decomposed(layer: Adapted, adapter_name: str) -> Singular:
    """Return ΔW as U diag(σ) V; of a plain LoRA, from its A and B alone. Raises ValueError where W is no matrix."""
    if not isinstance(layer.base_layer, Linear | Embedding):
        raise ValueError(
            f"adapter '{adapter_name}' is on a {type(layer.base_layer).__name__}, whose weight is no matrix: it has no "
            "singular values, and LoRA does not go there"
        )
    factors = layer.adapters[adapter_name].factored()
    return singular(layer.get_delta_weight(adapter_name)) if factors is None else _whole(factors)


def _whole(factors: Factors) -> Singular:
    """The decomposition of B A, with as many singular values as the matrix has."""
    found = singular_of(factors)
    (o, k), i = found.U.shape, found.V.shape[1]
    more = min(o, i) - k
    return Singular(
        np.pad(found.U, ((0, 0), (0, more))), np.pad(found.values, (0, more)), np.pad(found.V, ((0, more), (0, 0)))
    )


def rank_of_share(values: Array, share: float) -> int:
    """The lowest rank that holds this share of Σ σ², and at least 1."""
    energy = np.cumsum(np.asarray(values, np.float64) ** 2)
    return int(np.searchsorted(energy, share * energy[-1])) + 1


def _share_left(values: Array, rank: int) -> float:
    energy = np.asarray(values, np.float64) ** 2
    return float(np.sqrt(energy[rank:].sum() / energy.sum())) if energy.any() else 0.0


def _is_of_an_adapter(name: str, paths: Mapping[str, float]) -> bool:
    """Say whether a tensor is of an adapter, of one layer or of all, and not of a module or bias of the base."""
    path = name.removeprefix(PREFIX)
    return path.startswith("base_model.") or (
        any(path.startswith(f"{layer}.") for layer in paths) and ".base_layer." not in path
    )


def _config(model: PeftModel, name: str, ranks: Mapping[str, int]) -> LoraConfig:
    """Return the config with the targets that the adapter has, and each layer's own rank where these differ."""
    old: PeftConfig = model.peft_config[name]
    r = max(ranks.values())
    longest_first = sorted(ranks, key=lambda path: (-path.count("."), path))  # since a pattern fits the end of a path
    pattern = {path: ranks[path] for path in longest_first} if len(set(ranks.values())) > 1 else {}
    mode = bias_mode(old)
    values: dict[str, Any] = {
        "r": r, "lora_alpha": r, "rank_pattern": pattern, "alpha_pattern": dict(pattern),
        "bias": "lora_only" if mode == "only" else mode, "inference_mode": old.inference_mode,
        "fan_in_fan_out": getattr(old, "fan_in_fan_out", False),
        **{key: getattr(old, key) for key in ("modules_to_save", "task_type", "base_model_name_or_path", "revision")},
    }  # fmt: skip
    config = LoraConfig(target_modules=old.target_modules, exclude_modules=old.exclude_modules, **values)
    if sorted(target_paths(model._view(), config, lenient=True)) != sorted(ranks):
        config = LoraConfig(target_modules=list(ranks), **values)
    return config
