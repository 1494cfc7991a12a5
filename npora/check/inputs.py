"""What a subject is called with: arrays to differentiate by, and nothing that hides numbers from the check."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npora.nn import Module

Call = tuple[tuple[Any, ...], dict[str, Any]]


def read_call(layer: Callable[..., Any], name: str, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call:
    """Inputs and keywords. Python floats are constants beside an array, and alone they are arrays without axes.

    One Mapping in place of the inputs is a batch, which is passed as keywords.

    Raises
    ------
    TypeError: an input holds arrays, but is none; or the subject cannot be called so.
    """
    batch = inputs[0] if len(inputs) == 1 else None
    if isinstance(batch, Mapping):  # model(**batch)
        inputs, keywords = (), {**batch, **keywords}
    for place, value in enumerate(inputs):
        _refuse_hidden(place, value)
    if not any(isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f" for value in inputs):
        inputs = tuple(np.asarray(value) if type(value) is float else value for value in inputs)
    try:
        signature = inspect.signature(layer.forward if isinstance(layer, Module) else layer)
    except (TypeError, ValueError):  # some callables have none
        return inputs, dict(keywords)
    try:
        signature.bind(*inputs, **keywords)
    except TypeError as error:
        given = ", ".join([f"{len(inputs)} inputs", *keywords])
        raise TypeError(
            f"{name}{signature} cannot be called with {given}: {error}. Keywords that are not gradcheck's own (see its "
            f"help) are handed on; it takes no step and no tolerance, which follow from the precision"
        ) from None
    return inputs, dict(keywords)


def _refuse_hidden(place: int, value: Any) -> None:
    if isinstance(value, complex) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "c"):
        raise TypeError(
            f"input {place} is complex; gradients are checked at real points: pass real and imaginary part apart"
        )
    if isinstance(value, list | tuple | Mapping) and _holds_arrays(value):
        raise TypeError(
            f"input {place} is a {type(value).__name__} with arrays in it, which gradcheck would not look at: pass "
            f"each as an input of its own, gradcheck(f, x, y), and constants as keywords"
        )
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__array__"):
        raise TypeError(
            f"input {place} is a {type(value).__module__.partition('.')[0]} {type(value).__name__}: gradcheck takes "
            f"NumPy's arrays; pass np.asarray(x)"
        )


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, list | tuple | Mapping):
        return any(map(_holds_arrays, value.values() if isinstance(value, Mapping) else value))
    return getattr(getattr(value, "dtype", None), "kind", "") in ("f", "c") or hasattr(value, "__dlpack__")


def nothing_given(name: str, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    """Why there is nothing to differentiate by, and what to do."""
    given = ", ".join(
        f"{value.dtype}[{','.join(map(str, value.shape))}]" if isinstance(value, np.ndarray) else type(value).__name__
        for value in inputs
    )
    held = [key for key, value in keywords.items() if getattr(getattr(value, "dtype", None), "kind", "") == "f"]
    constant = f"; keywords are held constant: give {', '.join(held)} by position" if held else ""
    return (
        f"there is nothing to differentiate by: {name} was given no floating-point array ({given or 'no input'}) and "
        f"has no trainable parameter (integers have no derivative: pass x.astype(float), 3.0 for 3, or "
        f"np.array(x, float) for a list){constant}"
    )
