"""What tells the examples of a training from others, in a form that JSON can hold."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from mmap import mmap
from typing import Any

import numpy as np

from npora.nn.module import Array

FEW = 20_000  # examples that may each be work to make, and are all made for it
SPREAD = 256  # of more than these
_BLOCK = 256
_AT_ONCE = 1 << 20  # numbers


def fingerprint(data: Any) -> dict[str, Any]:
    """What the data's own method `fingerprint` says; without one {"sha256": of all examples}.

    A list or a tuple, and what gives many examples at once (`__getitems__`, as Hugging Face's datasets), is gone
    through, as is any other sequence of up to FEW examples. Of a longer one, each of whose examples may be work to
    make, SPREAD are looked at, which are spread over all, and {"looked at": SPREAD} says so; with "holds", the SHA-256
    of what the examples are made from, where it is in the sequence's attributes. sha256 is None where an example is
    another when it is asked for again.
    """
    if callable(getattr(data, "fingerprint", None)):
        return dict(data.fingerprint())
    number = len(data)
    if number and not isinstance(data, list | tuple) and text_of(data[0]) != text_of(data[0]):
        return {"sha256": None}
    if isinstance(data, list | tuple):
        return {"sha256": sha256_of(data)}
    if hasattr(data, "__getitems__"):
        blocks = (range(start, min(start + _BLOCK, number)) for start in range(0, number, _BLOCK))
        return {"sha256": sha256_of(example for block in blocks for example in data.__getitems__(list(block)))}
    if number <= FEW:
        return {"sha256": sha256_of(data[i] for i in range(number))}
    sha, is_any = hashlib.sha256(), False
    for piece in _held(getattr(data, "__dict__", {}), number, {id(data)}):
        sha.update(piece)
        is_any = True
    holds = {"holds": sha.hexdigest()} if is_any else {}
    return {"sha256": sha256_of(data[i] for i in spread(number)), "looked at": SPREAD, **holds}


def _held(value: Any, number: int, seen: set[int]) -> Iterator[Any]:
    """What a value holds that so many examples are made from, in bytes: lists, texts and arrays of as many items or
    more, and data sets. What is shorter may be a cache, or else what changes as it is used."""
    if id(value) in seen or isinstance(value, type):
        return
    seen.add(id(value))
    if callable(getattr(value, "fingerprint", None)) or hasattr(value, "__getitems__"):
        yield text_of(fingerprint(value))
    elif isinstance(value, Mapping):
        for item in list(value.values()):
            yield from _held(item, number, seen)
    elif isinstance(value, str | bytes | bytearray | mmap):
        if len(value) >= number:
            yield value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    elif isinstance(value, array) or hasattr(value, "__array__"):
        yield from _numbers(np.asarray(value).reshape(-1), number)
    elif isinstance(value, list | tuple):
        if len(value) >= number:
            yield from map(text_of, value)
        else:
            yield from chain.from_iterable(_held(item, number, seen) for item in value)
    elif hasattr(value, "__getitem__") and hasattr(value, "__len__") and hasattr(value, "__dict__"):
        yield from _held(vars(value), min(number, len(value)), seen)


def _numbers(flat: Array, number: int) -> Iterator[bytes]:
    if len(flat) >= number:
        yield flat.dtype.str.encode()
        for start in range(0, len(flat), _AT_ONCE):
            block = flat[start : start + _AT_ONCE]
            yield text_of(block) if block.dtype.hasobject else block.tobytes()


def spread(number: int) -> Sequence[int]:
    """The numbers of up to SPREAD examples, spread over so many."""
    return [i * number // SPREAD for i in range(SPREAD)] if number > SPREAD else range(number)


def sha256_of(examples: Iterable[Any]) -> str:
    sha = hashlib.sha256()
    for example in examples:
        sha.update(text_of(example))
    return sha.hexdigest()


def text_of(example: Any) -> bytes:
    """An example in bytes; a collator may take examples of any kind."""
    value = dict(example) if isinstance(example, Mapping) else example
    try:
        return _ENCODER.encode(value).encode() + b"\n"
    except (TypeError, ValueError):  # keys that cannot be sorted, or a thing that holds itself
        return type(example).__qualname__.encode() + b"\n"


def _said(value: Any) -> Any:
    """Of what JSON lacks: an array's numbers; of a thing without numbers its type, since its name may be an address."""
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else type(value).__qualname__


_ENCODER = json.JSONEncoder(sort_keys=True, default=_said)
