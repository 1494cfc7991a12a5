"""A model in a GGUF file as npora reads any other: the values of a config.json, and tensors by their paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npora.files.gguf import load_gguf
from npora.files.gguf_header import GGUFError, GGUFHeader
from npora.files.refusal import naming, shortened
from npora.models.gguf.architecture import Architecture, Values, general, in_pairs
from npora.models.gguf.table import ARCHITECTURES
from npora.nn.module import Array
from npora.stored import GGML, BFloat16, Float16

_HALF: Mapping[str, Callable[[Array], Any]] = {
    "F16": lambda raw: Float16(raw.view("<f2")), "BF16": lambda raw: BFloat16(raw.view("<u2")),
}  # fmt: skip
_TOKENS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
_ENDS = ("eos", "eot", "eom")  # of a text, of a turn, and of a message
_FACTORS = "rope_freqs.weight"  # which the config says in its words


def read_gguf_config(path: str | os.PathLike[str], model_type: str | None = None) -> Values:
    """What a config.json would say of the model.

    model_type : the family that asks; the architecture's first unless given

    Raises
    ------
    OSError, GGUFError: npora.files.gguf's.  GGUFError: an architecture that npora has not, a field that is missing, an
    adapter, or one file of several.
    """
    header, tensors = load_gguf(path, _raw())
    architecture = _architecture(path, header)
    prefix = f"{architecture.name}."
    metadata = {key.removeprefix(prefix): value for key, value in header.metadata.items() if key.startswith(prefix)}
    values: Values = {}
    for name, key in architecture.fields.items():
        if key in metadata:
            values[name] = metadata[key]
        elif name not in architecture.optional:
            raise GGUFError(f"{os.fspath(path)} has no field {prefix}{key}")
    for name in (name for name, value in values.items() if isinstance(value, np.ndarray | list | str)):
        raise GGUFError(f"{os.fspath(path)}: {prefix}{architecture.fields[name]} must be one number for all layers; "
                        f"got {shortened(values[name])}")  # fmt: skip
    if "token_embd.weight" not in tensors:
        raise GGUFError(f"{os.fspath(path)} has no tensor token_embd.weight")
    if model_type is None or model_type not in architecture.model_types:
        model_type = next(iter(architecture.model_types))
    values |= {
        "model_type": model_type,
        "architectures": [architecture.model_types[model_type]],
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in tensors,
        **_token_ids(header.metadata),
    }
    with naming(path):
        _check_numbers(values)
        architecture.read(values, metadata, tensors)
    return values


def read_gguf_tensors(path: str | os.PathLike[str], values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every tensor under the path that it has in a transformers checkpoint: matrices as they lie in the file, and what
    has one axis as float32. What no table names keeps its name."""
    values = read_gguf_config(path) if values is None else values
    header, tensors = load_gguf(path, _raw())
    architecture = _architecture(path, header)
    found = {}
    with naming(path):
        for name, raw in tensors.items():
            if name != _FACTORS:
                kind, shape = header.tensors[name].kind.name, header.tensors[name].shape
                found[architecture.path_of(name) or name] = _tensor(architecture, name, kind, raw, shape, values)
    return found


def _tensor(
    architecture: Architecture, name: str, kind: str, raw: Array, shape: tuple[int, ...], values: Mapping[str, Any]
) -> Any:
    named = general(name)
    if named in architecture.heads:
        heads = values.get(architecture.heads[named]) or values["num_attention_heads"]
        if len(raw) % (2 * heads):
            raise ValueError(f"tensor {name} has {len(raw)} rows, which are not those of {heads} heads")
        raw = in_pairs(raw, heads)
    if kind == "F32":
        tensor: Any = raw
    elif kind in _HALF:
        tensor = _HALF[kind](raw)
    elif len(shape) == 2:
        tensor = GGML[kind](raw, (shape[0], shape[1]))
    else:
        raise ValueError(f"tensor {name} of shape {shape} is {kind}, in which npora reads matrices alone")
    if tensor.ndim == 1:
        tensor = np.asarray(tensor)
    if named in architecture.one_less:
        tensor = tensor - np.float32(1)
    return tensor.T if named in architecture.turned and tensor.ndim == 2 else tensor


def _raw() -> Mapping[str, Callable[[Array], Array]]:
    return dict.fromkeys([*_HALF, *GGML], lambda raw: raw)


def _architecture(path: str | os.PathLike[str], header: GGUFHeader) -> Architecture:
    name, place = header.metadata.get("general.architecture"), os.fspath(path)
    if header.metadata.get("general.type", "model") != "model":
        raise GGUFError(f"{place} is of the type {shortened(header.metadata['general.type'])}; a model was expected")
    if header.metadata.get("split.count", 1) > 1:
        raise GGUFError(f"{place} is one of several files of a model: join them with llama-gguf-split --merge")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise GGUFError(
            f"{place}: general.architecture {shortened(name)} is not supported; npora has {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def _token_ids(metadata: Mapping[str, Any]) -> Values:
    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _TOKENS.items()}
    ends = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in _ENDS]
    several = list(dict.fromkeys(end for end in ends if end is not None))
    if len(several) > 1:
        ids["eos_token_id"] = several
    return {name: number for name, number in ids.items() if number is not None}


def _check_numbers(values: Mapping[str, Any]) -> None:
    """Raise ValueError for sizes that are none: the tables compute with them before a config checks them."""
    for name, value in values.items():
        if name.startswith(("num_", "n_head", "hidden_size", "head_dim")) and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive whole number; got {shortened(value)}")
        if name == "rope_theta" and not (isinstance(value, float) and 0 < value < float("inf")):
            raise ValueError(f"{name} must be a positive number; got {shortened(value)}")
