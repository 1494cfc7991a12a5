"""The plain LoRA of rank 2r that an adapter with a kept start is, which is what its file holds.

    s (B A − B₀ A₀) = s B′ A′,  A′ = [A; A₀] [2r,i],  B′ = [B, −B₀] [o,2r]

Any program that knows LoRA reads it, on the base as it is. The scale stays: α/r = 2α/2r, and with `use_rslora`
α/√r = √2 α/√(2r). The file's record says which start it was, and its r and α, so that npora reads back what it wrote.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.lora.starts import start_of
from npora.lora.values import check_values
from npora.nn.module import Array

_SCALE = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")


def doubled(config: Any, tensors: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
    """Return the config and the tensors of the plain LoRA; where no start is kept, these themselves. LoftQ's is plain
    LoRA, on a base that PEFT would quantise anew were it told of the start."""
    if kept_start(config) is None:
        return _untold(config), dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".lora_")
        if leaf == "A.weight":
            found[name] = np.concatenate([tensor, tensors[f"{path}.lora_A0.weight"]])  # [r,i] → [2r,i]
        elif leaf == "B.weight":
            found[name] = np.concatenate([tensor, -tensors[f"{path}.lora_B0.weight"]], axis=1)  # [o,r] → [o,2r]
        elif leaf not in ("A0.weight", "B0.weight"):
            found[name] = tensor
    return _twice(config), found


def halved(
    config: Any, tensors: Mapping[str, Array], record: Mapping[str, Any], path: str
) -> tuple[Any, dict[str, Array]]:
    """Return the config and the tensors that were doubled into this file, by its record; of any other file, its own.

    Raises
    ------
    ValueError: the config beside the file, or its tensors, are not those of what the record says.
    """
    if "start" not in record:
        return config, dict(tensors)
    own, missing = copy.copy(config), [name for name in _SCALE if name not in record]
    if missing or not hasattr(config, "init_lora_weights") or start_of(record["start"]) is None:
        raise ValueError(f"{path}: its record says start={record['start']!r}, and not of which rank and scale")
    for name in _SCALE:
        setattr(own, name, record[name])
    own.init_lora_weights = record["start"]
    check_values(own)
    written = _twice(own)
    if any(getattr(written, name) != getattr(config, name) for name in (*_SCALE, "init_lora_weights")):
        raise ValueError(
            f"adapter_config.json and the record in {path} differ in the rank or the scale: the two files do not "
            "belong together"
        )
    found = {}
    for name, tensor in tensors.items():
        start, _, leaf = name.rpartition(".lora_")
        if leaf in ("A.weight", "B.weight"):
            axis = "AB".index(leaf[0])
            if tensor.ndim != 2 or tensor.shape[axis] % 2:
                raise ValueError(f"{path}: {name} has shape {tensor.shape}, of which no two halves are A and A₀")
            half, rest = np.split(tensor, 2, axis=axis)
            found[name], found[f"{start}.lora_{leaf[0]}0.weight"] = half, -rest if axis else rest
        else:
            found[name] = tensor
    return own, found


def kept_start(config: Any) -> str | None:
    """Return the name of the start that a config's adapter takes away again, where it has one."""
    name = getattr(config, "init_lora_weights", True)
    start = start_of(name)
    return str(name) if start is not None and start.is_kept else None


def _untold(config: Any) -> Any:
    if getattr(config, "init_lora_weights", True) != "loftq":
        return config
    plain = copy.copy(config)
    plain.init_lora_weights, plain.loftq_config = True, {}
    return plain


def _twice(config: Any) -> Any:
    twice = copy.copy(config)
    factor = math.sqrt(2) if config.use_rslora else 2
    twice.r, twice.lora_alpha, twice.init_lora_weights = 2 * config.r, factor * config.lora_alpha, True
    twice.corda_config = twice.lora_ga_config = None
    twice.rank_pattern = {pattern: 2 * r for pattern, r in config.rank_pattern.items()}
    twice.alpha_pattern = {pattern: factor * alpha for pattern, alpha in config.alpha_pattern.items()}
    return twice
