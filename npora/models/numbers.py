"""What a model's numbers are: those that it computes in, and the form in which its matrices lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.files import load_weights
from npora.files.gguf_header import is_gguf
from npora.files.refusal import naming
from npora.machine.stored import Stored, form_of, is_quantized
from npora.models.gguf.reading import read_gguf_tensors
from npora.nn.module import Array, Module
from npora.stored import HALF

_FORMS = {form.kind: form for form in HALF.values()}
NUMBERS = ("float32", "float64", *HALF)
AS_IT_LIES = "as it lies"  # in a GGUF file, whose matrices may be in several forms


def are_stored(numbers: str) -> bool:
    """Whether a model's matrices stay as they lie in the file."""
    return numbers in (*HALF, AS_IT_LIES)


def dtype_of(numbers: str) -> np.dtype[Any]:
    """What a model computes in."""
    return np.dtype(np.float32 if are_stored(numbers) else numbers)


def numbers_of(folder: str) -> str:
    """What a folder's weights are: one half precision where all are, float64 where one is, and float32 otherwise."""
    return AS_IT_LIES if is_gguf(folder) else widest(load_weights(folder, forms=_FORMS))


def read_numbers(folder: str, numbers: str, as_they_lie: bool = False) -> dict[str, Any]:
    """A folder's tensors by name. Where they are to be stored, those of two axes are, as they lie in the file, or
    rounded where they are others there; vectors, which are small, are rounded alike and are float32.

    as_they_lie : let matrices be as in the file, whatever they are to be: some will be quantised first
    """
    is_wide = not are_stored(numbers) and not as_they_lie
    if is_gguf(folder):
        tensors = read_gguf_tensors(folder)
    elif is_wide:
        return load_weights(folder)
    else:
        tensors = load_weights(folder, forms=_FORMS)
    if as_they_lie or numbers == AS_IT_LIES:
        return {name: tensor if tensor.ndim == 2 else np.asarray(tensor) for name, tensor in tensors.items()}
    found = {}
    for name, tensor in tensors.items():
        with naming(f"{folder}: {name}"):
            found[name] = _in_numbers(tensor, numbers)
    return found


def become(model: Module, numbers: str) -> None:
    """Let what was read as it lies, and is not quantised by now, be what was asked for."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and not is_quantized(parameter.data):
            with naming(name):
                parameter.data = _in_numbers(parameter.data, numbers)


def _in_numbers(tensor: Any, numbers: str) -> Any:
    if tensor.dtype.kind != "f":
        return tensor  # to be refused by its name
    if numbers not in HALF:
        return np.asarray(tensor)
    narrow = tensor if isinstance(tensor, HALF[numbers]) else HALF[numbers].rounded(tensor)
    return narrow if narrow.ndim == 2 else np.asarray(narrow)


def narrowed(state: Mapping[str, Array]) -> dict[str, Any]:
    """What is written of a state: where some of it is stored in half precision, all is whose numbers that has."""
    result: dict[str, Any] = dict(state)
    half = next((HALF[form] for value in state.values() if (form := form_of(value)) in HALF), None)
    if half is not None:
        for name, value in state.items():
            narrow = value if isinstance(value, Stored) else half.exactly(value)
            result[name] = value if narrow is None else narrow
    return result


def widest(tensors: Mapping[str, Any]) -> str:
    """What floating-point tensors are together: one half precision where all are, float64 where one is, and float32
    otherwise."""
    found = {form_of(tensor) for tensor in tensors.values() if tensor.dtype.kind == "f"}
    half = next((name for name in HALF if found == {name}), "float32")
    return "float64" if "float64" in found else half
