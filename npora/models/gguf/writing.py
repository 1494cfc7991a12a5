"""A model written to a GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from npora.files.gguf_writer import Blocks, save_gguf
from npora.files.refusal import naming
from npora.models.checkpoint import tied_names
from npora.models.gguf.architecture import Architecture, Values, general, in_halves
from npora.models.gguf.table import ARCHITECTURES, architecture_of
from npora.models.pretrained import PretrainedModel
from npora.nn.module import Array
from npora.stored import Q8_0, BFloat16, Float16

_PIECE = 1 << 20  # numbers that are written at a time
_PACKED: Mapping[str, Callable[[Any], Array]] = {
    "F32": lambda rows: np.asarray(rows, np.float32), "F16": lambda rows: Float16.rounded(rows).bits,
    "BF16": lambda rows: BFloat16.rounded(rows).bits, "Q8_0": lambda rows: Q8_0.quantized(rows).bits,
}  # fmt: skip
# How the numbers may lie, and general.file_type's number for it.
NUMBERS: Mapping[str, int] = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_WHOLE = ("position_embd", "token_types")  # of which llama.cpp adds rows, and wants float32


def write_gguf(
    model: PretrainedModel, path: str | os.PathLike[str], numbers: str = "F16", more: Mapping[str, Any] | None = None
) -> list[str]:
    """Write a model's config and parameters; vectors in float32, matrices in F32, F16, BF16 or Q8_0, where their rows
    are too short for its blocks in F16.

    more : what else the file is to say, as its tokenizer

    Returns the names of the parameters that are left out, since llama.cpp knows none of them and computes without.

    Raises
    ------
    ValueError: a family, a parameter or a field of its config that GGUF has no place for; a number that the numbers
    asked for have none near.
    """
    architecture = architecture_for(model)
    if numbers not in NUMBERS:
        raise ValueError(f"numbers must be one of {', '.join(NUMBERS)}; got {numbers!r}")
    said = architecture.write(model.config)
    metadata: Values = {
        "general.architecture": architecture.name, "general.type": "model", "general.file_type": NUMBERS[numbers],
        "general.quantization_version": 2, **fields_of(architecture, model.config),
    }  # fmt: skip
    metadata |= {
        key if key.startswith("tokenizer.") else f"{architecture.name}.{key}": value
        for key, value in said.items()
        if not _is_tensor(value)
    }
    tensors = {key: _blocks(key, value, "F32", slice(None)) for key, value in said.items() if _is_tensor(value)}
    left_out, lost = list[str](), list[str]()
    for parameter, value in _state(model).items():
        name = architecture.name_of(parameter)
        if name is not None:
            tensors[name] = _tensor(architecture, name, value, numbers, model.config)
        else:
            (left_out if parameter.startswith(architecture.left_out) else lost).append(parameter)
    if lost:
        raise ValueError(
            f"GGUF has no place for {', '.join(lost[:5])}{' …' if len(lost) > 5 else ''} of a {type(model).__name__}: "
            "write a checkpoint of transformers instead"
        )
    save_gguf(path, metadata | dict(more or {}), tensors)
    return left_out


def architecture_for(model: PretrainedModel) -> Architecture:
    """Raises ValueError for a family that npora does not write to GGUF."""
    found = architecture_of(model.config.model_type)
    if found is None:
        known = ", ".join(name for each in ARCHITECTURES.values() for name in each.model_types)
        raise ValueError(f"npora writes no {model.config.model_type} to GGUF; it writes {known}")
    return found


def fields_of(architecture: Architecture, config: Any) -> Values:
    """The keys of a config's fields, with the kind of number that llama.cpp expects of them."""
    values: Values = {f"{architecture.name}.vocab_size": config.vocab_size}
    for name, key in architecture.fields.items():
        value = getattr(config, name)
        values[f"{architecture.name}.{key}"] = float(value) if key.endswith(("epsilon", "freq_base")) else value
    return values


def _state(model: PretrainedModel) -> dict[str, Any]:
    """The parameters; what is tied once, under its first name."""
    state: dict[str, Any] = dict(model.state_dict())
    ties = tied_names(model)
    output = f"{model.output_embeddings}."
    if model.output_embeddings and f"{output}weight" not in ties:  # untied by a merge, which may have given it a bias
        state |= {name: state[first] for name, first in ties.items() if name.startswith(output)}
    prefix = f"{model.base_model_prefix}."
    if not any(name.startswith(prefix) for name in state):  # the body alone
        state = {prefix + name: value for name, value in state.items()}
    return state


def _tensor(architecture: Architecture, name: str, value: Any, numbers: str, config: Any) -> Blocks:
    named = general(name)
    if named in architecture.turned and value.ndim == 2:
        value = value.T
    if named in architecture.one_less:
        value = np.asarray(value) + np.float32(1)
    rows: Any = slice(None)
    if named in architecture.heads:
        rows = in_halves(np.arange(len(value)), getattr(config, architecture.heads[named]))
    if value.ndim == 1 or named in _WHOLE:
        kind = "F32"
    else:
        kind = "F16" if numbers == "Q8_0" and value.shape[1] % Q8_0.block else numbers
    return _blocks(name, value, kind, rows)


def _blocks(name: str, value: Any, kind: str, rows: Any) -> Blocks:
    return Blocks(kind, value.shape, partial(_pieces, name, value, kind, rows))


def _pieces(name: str, value: Any, kind: str, rows: Any) -> Iterator[Array]:
    """The rows in this order, some at a time."""
    at_once = max(_PIECE // max(value.size // len(value), 1), 1)
    for start in range(0, len(value), at_once):
        part = slice(start, start + at_once)
        with naming(name):
            packed = _PACKED[kind](value[part] if isinstance(rows, slice) else value[rows[part]])
        yield packed


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray)
