"""What tells the examples of a training from others, in a form that JSON can hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FEW = 20_000  # examples that may each be work to make, and are all made for it
SPREAD = 256  # of more than these
_BLOCK = 256


def fingerprint(data: Any) -> dict[str, Any]:
    """What the data's own method `fingerprint` says; without one {"sha256": of all examples}.

    A list or a tuple, and what gives many examples at once (`__getitems__`, as Hugging Face's datasets), is gone
    through, as is any other sequence of up to FEW examples. Of a longer one, each of whose examples may be work to
    make, SPREAD are looked at, which are spread over all, and {"looked at": SPREAD} says so. sha256 is None where an
    example is another when it is asked for again.
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
    return {"sha256": sha256_of(data[i] for i in spread(number)), "looked at": SPREAD}


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
