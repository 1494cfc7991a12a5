"""Models in one file: GGUF, of llama.cpp (Gerganov, 2023), read by memory map."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.files.gguf_header import GGUFError, GGUFHeader, GGUFTensor, parse_header
from npora.files.refusal import shortened
from npora.files.regular import open_regular

Array = npt.NDArray[Any]
Forms = Mapping[str, Callable[[Array], Any]]


def read_gguf_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """What a file says of its model, and where its tensors lie.

    Raises
    ------
    OSError: no such file, or no regular one.  GGUFError: a header that lies, a truncated file.
    """
    return parse_header(_mapped(path), os.fspath(path))


def load_gguf(path: str | os.PathLike[str], forms: Forms) -> tuple[GGUFHeader, dict[str, Any]]:
    """The header, and every tensor by name: read-only views of the memory-mapped file.

    forms : what is made of each kind of tensor, by its name: of the array [..., number of bytes in a row] of uint8 that
        it is; float32 is an array already

    Raises
    ------
    OSError, GGUFError: as read_gguf_header, and GGUFError for a kind that is not among the forms.
    """
    data = _mapped(path)
    header = parse_header(data, os.fspath(path))
    return header, {name: _tensor(path, name, tensor, data, forms) for name, tensor in header.tensors.items()}


def _mapped(path: str | os.PathLike[str]) -> Any:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""  # no map is empty


def _tensor(path: str | os.PathLike[str], name: str, tensor: GGUFTensor, data: Any, forms: Forms) -> Any:
    raw = np.frombuffer(data, np.uint8, tensor.end - tensor.begin, tensor.begin)
    raw = raw.reshape(*tensor.shape[:-1], tensor.shape[-1] // tensor.kind.length * tensor.kind.size)
    if tensor.kind.name == "F32":
        return _floats(raw)
    if (form := forms.get(tensor.kind.name)) is None:
        raise GGUFError(
            f"{os.fspath(path)}: tensor {shortened(name, 100)} is {tensor.kind.name}, which npora does not read; it "
            f"reads F32, {', '.join(forms)}"
        )
    return form(raw)


def _floats(raw: Array) -> Array:
    array = raw.view("<f4").astype(np.float32, copy=False)
    array.flags.writeable = False
    return array
