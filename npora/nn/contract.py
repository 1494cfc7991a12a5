"""What layers are given and return is held to the contract `y, backward = layer(x)`, and errors say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.stored import Stored, form_of

Array = npt.NDArray[Any]
_ARRAYS = np.ndarray, np.generic  # a NumPy scalar is what arithmetic makes of an array without axes


def checked_input(layer: object, x: Any, parameter: Array) -> Array:
    """Return x itself, which must be an array [...,i] in the dtype of the layer's parameter [...,i].

    Either may be complex beside the other: so derivatives are taken by complex steps.

    Raises
    ------
    TypeError: it is no array, or of another dtype; says what to do.
    ValueError: its last axis is of another size.
    """
    name, dtype = type(layer).__name__, parameter.dtype
    if not isinstance(x, np.ndarray):
        raise TypeError(f"a {name} takes an array; got {_kind(x)}: pass np.asarray(x, np.{dtype})")
    if x.dtype.char.lower() != dtype.char.lower():  # f, F: 32 bits; d, D: 64
        its, remedy = f"its parameters' dtype, {dtype}", "make the layer"
        if isinstance(parameter, Stored):
            its, remedy = f"{dtype}, as its matrix in {form_of(parameter)} does", "load the model"
        wider = f", or {remedy} with dtype=np.{x.dtype}" if x.dtype.kind in "fc" and x.dtype.itemsize > 2 else ""
        raise TypeError(f"a {name} computes in {its}, and was given {x.dtype}: pass x.astype(np.{dtype}){wider}")
    if x.shape[-1:] != parameter.shape[-1:]:
        raise ValueError(f"a {name} of {parameter.shape[-1]} inputs was given an array of shape {x.shape}")
    return x


def checked_pullback(layer: object, y: Array, backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the pullback of y so that it takes a gradient of y's own shape and dtype, and refuses any other."""
    name, shape, dtype = type(layer).__name__, y.shape, y.dtype

    def checked(*dy: Any) -> Any:
        if len(dy) == 1 and isinstance(dy[0], _ARRAYS) and dy[0].shape == shape and dy[0].dtype == dtype:
            return backward(*dy)
        expected = f"the backward of this {name} takes dy of shape {shape}, {dtype}, as its value has"
        if len(dy) != 1:
            raise TypeError(f"{expected}; it was called with {len(dy)} arguments")
        if not isinstance(dy[0], _ARRAYS):
            raise TypeError(f"{expected}; got {_kind(dy[0])}: pass np.asarray(dy, np.{dtype})")
        if dy[0].shape != shape:
            raise ValueError(f"{expected}; got one of shape {dy[0].shape}")
        raise TypeError(f"{expected}; got {dy[0].dtype}: pass dy.astype(np.{dtype})")

    return checked


def no_pullback(layer: object, result: object) -> TypeError:
    """Make the error that is raised where a forward did not return (y, backward)."""
    parts = f"a tuple of {len(result)}: {', '.join(map(_kind, result))}" if isinstance(result, tuple) else _kind(result)
    return TypeError(
        f"{type(layer).__name__}.forward returned {parts}, expected (y, backward): return the value and its pullback, "
        f"the function that takes dy, adds to its parameters' grad, and returns dx"
    )


def unfit_gradient(gradient: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ValueError:
    """Make the error that is raised where a gradient comes in another shape or dtype than its parameter's."""
    message = (
        f"a gradient of shape {gradient.shape}, {gradient.dtype} came for a parameter of shape {shape}, {dtype}: the "
        "two must agree"
    )
    if gradient.shape == shape:
        message += (
            f". A layer computes in its parameters' dtype: pass x.astype(np.{dtype}) to forward and dy alike to "
            f"backward, or make the layer with dtype=np.{gradient.dtype}"
        )
    return ValueError(message)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
