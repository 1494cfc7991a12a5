"""What a subject is called with: arrays to differentiate by, however nested, and nothing that hides numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npora.check.trees import leaves, written
from npora.nn import Module

_OWN = 0x6E706F7261  # what nobody else adds to a seed
Call = tuple[tuple[Any, ...], dict[str, Any]]


class WrittenTo(ValueError):
    """A function of another framework has written to what it was given; this names it. NumPy's error names a line."""


def read_call(layer: Callable[..., Any], name: str, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Call:
    """Inputs and keywords. Python floats are constants beside an array, and alone they are arrays without axes.

    One Mapping in place of the inputs is a batch, which is passed as keywords, unless it names none of them.

    Raises
    ------
    TypeError: an input holds arrays that are not NumPy's, or complex ones; or the subject cannot be called so.
    """
    signature = signature_of(layer)
    batch = inputs[0] if len(inputs) == 1 else None
    if isinstance(batch, Mapping) and _names_arguments(batch, signature):  # model(**batch)
        inputs, keywords = (), {**batch, **keywords}
    for path, value in leaves(inputs):
        _refuse_hidden(f"input {path[0].key}{written(path[1:])}", value)
    if not any(is_floating(value) for _, value in leaves(inputs)):
        inputs = tuple(np.asarray(value) if type(value) is float else value for value in inputs)
    if signature is None:
        return inputs, dict(keywords)
    try:
        signature.bind(*inputs, **keywords)
    except TypeError as error:
        given = ", ".join([f"{len(inputs)} inputs", *map(str, keywords)])
        apart = isinstance(inputs[0], tuple | list) if len(inputs) == 1 else False
        hint = ". Pass each array as an input of its own, gradcheck(f, x, y)" if apart else ""
        raise TypeError(
            f"{name}{signature} cannot be called with {given}: {error}{hint}. Keywords that are not gradcheck's own "
            f"(see its help) are handed on; it takes no step and no tolerance, which follow from the precision"
        ) from None
    return inputs, dict(keywords)


def signature_of(layer: Any) -> inspect.Signature | None:
    """How it is called, where that can be known."""
    try:
        return inspect.signature(layer.forward if isinstance(layer, Module) else layer)
    except (TypeError, ValueError):  # some callables have none
        return None


def positional_names(layer: Any) -> list[str]:
    """The names of the arguments that can be given by position."""
    signature = signature_of(layer)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.kind in positional] if signature else []


def and_dy(signature: inspect.Signature) -> inspect.Signature:
    """That of (*inputs, dy), which takes what is given by place; none of it has a default."""
    by_place = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    inputs = [p.replace(default=p.empty) for p in signature.parameters.values() if p.kind in by_place]
    return signature.replace(parameters=[*inputs, inspect.Parameter("dy", by_place[1])])


def is_floating(value: Any) -> bool:
    """Is it an array, or one of NumPy's numbers, by which one can differentiate?"""
    return isinstance(value, np.ndarray | np.generic) and is_real(value.dtype)


def is_real(dtype: np.dtype[Any]) -> bool:
    """Does it hold floating-point numbers? To NumPy ml_dtypes' bfloat16 is of no kind that it knows."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def generator(seed: int) -> np.random.Generator:
    """Return a Generator for dy and directions: not default_rng(seed), by which the inputs may have been drawn, for dy
    would be one of them, and a term in which the two are swapped would not show."""
    return np.random.default_rng([seed, _OWN])


def _names_arguments(batch: Mapping[Any, Any], signature: inspect.Signature | None) -> bool:
    if signature is None:
        return True
    kinds = {p.kind for p in signature.parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds or not batch or any(key in signature.parameters for key in batch)


def _refuse_hidden(place: str, value: Any) -> None:
    if isinstance(value, complex) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "c"):
        raise TypeError(f"{place} is complex; gradients are checked at real points: pass real and imaginary part apart")
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__array__"):
        raise TypeError(
            f"{place} is a {type(value).__module__.partition('.')[0]} {type(value).__name__}: gradcheck takes NumPy's "
            f"arrays; pass np.asarray(x)"
        )


def nothing_given(name: str, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    """Why there is nothing to differentiate by, and what to do."""
    given = ", ".join(
        f"{value.dtype}[{','.join(map(str, value.shape))}]" if isinstance(value, np.ndarray) else type(value).__name__
        for value in inputs
    )
    held = [str(key) for key, value in keywords.items() if is_floating(value)]
    constant = f"; keywords are held constant: give {', '.join(held)} by position" if held else ""
    return (
        f"there is nothing to differentiate by: {name} was given no floating-point array ({given or 'no input'}) and "
        f"has no trainable parameter (integers have no derivative: pass x.astype(float), 3.0 for 3, or "
        f"np.array(x, float) for a list){constant}"
    )
