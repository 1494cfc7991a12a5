"""What an architecture of GGUF is in transformers' words: a table of fields, and a table of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora.nn.module import Array

Values = dict[str, Any]
_LAYER = re.compile(r"(?<=[.])\d+(?=[.])")


def _unchanged(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    return None


@dataclass(frozen=True)
class Architecture:
    """An architecture of llama.cpp's, as one of npora's families has it.

    name : `general.architecture`
    model_types : those of config.json that it may be, with the class that a file holds; the first one unless a class of
        another asks
    fields : the fields of a config, by their keys behind "NAME."
    optional : those of them that a file may leave out, where the family's default is llama.cpp's too
    layers : the path of the layers, "model.layers"; tensors : the paths of modules by their names in GGUF, "blk.{}.…"
        below that of their layer
    heads : the names of those whose rows are two halves of each head there, and pairs that are turned together here,
        with the field that counts the heads
    biases : the names of those that may have a bias
    turned : the names of those that are the other way round here (Conv1D)
    one_less : the names of norms of which GGUF has 1 + w, and the family w
    left_out : beginnings of the paths of what llama.cpp knows nothing of and computes without
    read : what the table cannot say, from the metadata (keys without "NAME.") and the tensors into the config's values
    write : the same the other way, from a config; Raises ValueError for what GGUF cannot say of it
    """

    name: str
    model_types: Mapping[str, str]
    fields: Mapping[str, str]
    layers: str
    tensors: Mapping[str, str]
    optional: tuple[str, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)
    biases: tuple[str, ...] = ()
    turned: tuple[str, ...] = ()
    one_less: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    read: Callable[[Values, Mapping[str, Any], Mapping[str, Any]], None] = _unchanged
    write: Callable[[Any], Values] = lambda config: {}

    def path_of(self, name: str) -> str | None:
        """The parameter that a tensor is: "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight"; None for a
        name that is not in the table."""
        general, layer = _LAYER.subn("{}", name, count=1)
        numbers = _LAYER.findall(name)[:1] if layer else []
        module, _, ending = general.rpartition(".")
        path = self.tensors.get(module)
        if path is None or ending not in ("weight", "bias"):
            return None
        return f"{self.layers}.{numbers[0]}.{path}.{ending}" if numbers else f"{path}.{ending}"

    def name_of(self, path: str) -> str | None:
        """The other way; None for a parameter that llama.cpp reads none of."""
        inner, layer = path, None
        if path.startswith(self.layers + "."):
            layer, _, inner = path[len(self.layers) + 1 :].partition(".")
        module, _, ending = inner.rpartition(".")
        for name, known in self.tensors.items():
            is_read = ending == "weight" or (ending == "bias" and name in self.biases)
            if known == module and ("{}" in name) == (layer is not None) and is_read:
                return f"{name.replace('{}', layer or '')}.{ending}"
        return None


def general(name: str) -> str:
    """A tensor's name as the tables have it: "blk.3.attn_q.weight" → "blk.{}.attn_q"."""
    return _LAYER.sub("{}", name.rpartition(".")[0], count=1)


def in_pairs(rows: Array, heads: int) -> Array:
    """The rows of W_q or W_k as transformers has them, from llama.cpp's.    rows [h·d,…]  →  [h·d,…]

    A rotation turns two features together: of each head's d the numbers j and j + d/2 here, 2j and 2j + 1 there.
    """
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def in_halves(rows: Array, heads: int) -> Array:
    """The other way: as llama.cpp has them, from transformers'.    rows [h·d,…]  →  [h·d,…]"""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
