"""What a model's numbers are: those that it computes in, and the form in which its matrices lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.files import load_weights
from npora.files.gguf_header import is_gguf
from npora.machine.stored import Stored, form_of
from npora.models.gguf.reading import read_gguf_tensors
from npora.nn.module import Array
from npora.stored import BFloat16

NUMBERS = ("float32", "float64", "bfloat16")
AS_IT_LIES = "as it lies"  # in a GGUF file, whose matrices may be in several forms
_FORMS = {"BF16": BFloat16}


def are_stored(numbers: str) -> bool:
    """Whether a model's matrices stay as they lie in the file."""
    return numbers in ("bfloat16", AS_IT_LIES)


def dtype_of(numbers: str) -> np.dtype[Any]:
    """What a model computes in."""
    return np.dtype(np.float32 if are_stored(numbers) else numbers)


def numbers_of(folder: str) -> str:
    """What a folder's weights are: bfloat16 where all are, float64 where one is, and float32 otherwise."""
    return AS_IT_LIES if is_gguf(folder) else widest(load_weights(folder, forms=_FORMS))


def read_numbers(folder: str, numbers: str) -> dict[str, Any]:
    """A folder's tensors by name. Where they are to be stored, those of two axes are, as they lie in the file, or
    rounded where they are others there; vectors, which are small, are rounded alike and are float32."""
    if is_gguf(folder):
        tensors = read_gguf_tensors(folder)
        if not are_stored(numbers):
            return {name: np.asarray(tensor) for name, tensor in tensors.items()}
    elif not are_stored(numbers):
        return load_weights(folder)
    else:
        tensors = load_weights(folder, forms=_FORMS)
    return tensors if numbers == AS_IT_LIES else {name: _stored(tensor) for name, tensor in tensors.items()}


def _stored(tensor: Any) -> Any:
    if tensor.dtype.kind != "f":
        return tensor  # to be refused by its name
    narrow = tensor if isinstance(tensor, BFloat16) else BFloat16.rounded(tensor)
    return narrow if narrow.ndim == 2 else np.asarray(narrow)


def narrowed(state: Mapping[str, Array]) -> dict[str, Any]:
    """What is written of a state: where some of it is stored in bfloat16, all is whose numbers bfloat16 has."""
    result: dict[str, Any] = dict(state)
    if any(isinstance(value, BFloat16) for value in state.values()):
        for name, value in state.items():
            narrow = value if isinstance(value, Stored) else BFloat16.exactly(value)
            result[name] = value if narrow is None else narrow
    return result


def widest(tensors: Mapping[str, Any]) -> str:
    """What floating-point tensors are together: bfloat16 where all are, float64 where one is, and float32 otherwise."""
    found = {form_of(tensor) for tensor in tensors.values() if tensor.dtype.kind == "f"}
    return "bfloat16" if found == {"bfloat16"} else "float64" if "float64" in found else "float32"
