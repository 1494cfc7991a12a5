"""JAX's functions, with the gradients that jax.vjp makes of their rules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.check.bridges.need import need
from npora.check.inputs import and_dy, is_floating
from npora.check.trees import leaves, replaced, with_leaves


def jax_vjp(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f as a function of NumPy's arrays whose backward is JAX's, a custom_vjp's own rule among others.

        gradcheck(jax_vjp(my_custom_vjp), x)

    It runs in double precision for float64, whatever JAX is set to. Integers, truth values and what is given by keyword
    are constants.

    Raises
    ------
    ImportError: JAX is not installed.
    """
    need("jax", "pip install jax")
    import jax

    def function(*inputs: Any, **keywords: Any) -> Any:
        paths = [path for path, x in leaves(inputs) if is_floating(x)]

        def of(*arrays: Any) -> Any:
            given: Any = inputs
            for path, array in zip(paths, arrays, strict=True):
                given = replaced(given, path, array)
            return f(*given, **keywords)

        with jax.enable_x64(True):
            if not paths:  # complex steps, which ask for no gradient
                return _arrays(f(*inputs, **keywords)), _none
            arrays = [x for _, x in leaves(inputs) if is_floating(x)]
            y, pull = jax.vjp(of, *arrays)

        def backward(*dy: Any) -> Any:
            upstream = iter(dy)

            def cotangent(x: Any) -> Any:
                if np.issubdtype(x.dtype, np.floating):
                    return jax.numpy.asarray(next(upstream), x.dtype)
                return np.zeros(x.shape, jax.dtypes.float0)

            with jax.enable_x64(True):
                found = pull(jax.tree_util.tree_map(cotangent, y))
            returned: Any = with_leaves(inputs, lambda _, x: None)
            for path, gradient in zip(paths, found, strict=True):
                returned = replaced(returned, path, np.asarray(gradient))
            return returned

        return _arrays(y), backward

    function.__name__ = str(getattr(f, "__name__", type(f).__name__))
    signature = inspect.signature(f)
    vars(function)["__signature__"] = signature
    vars(function)["second"] = lambda: jax_vjp(_gradient_of(f, signature))
    return function


def _gradient_of(f: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """(*inputs, dy) → the inputs' gradients, which JAX can differentiate again; dy is a tuple."""
    import jax

    def gradient(*given: Any, **keywords: Any) -> Any:
        inputs, upstream = given[:-1], given[-1]
        paths = [path for path, x in leaves(inputs) if _is_real(x)]

        def of(*arrays: Any) -> Any:
            moved: Any = inputs
            for path, array in zip(paths, arrays, strict=True):
                moved = replaced(moved, path, array)
            return [y for y in jax.tree_util.tree_leaves(f(*moved, **keywords)) if _is_real(y)]

        _, pull = jax.vjp(of, *(x for _, x in leaves(inputs) if _is_real(x)))
        return pull(list(upstream))

    vars(gradient)["__signature__"] = and_dy(signature)
    return gradient


def _is_real(x: Any) -> bool:
    import jax

    return hasattr(x, "dtype") and bool(jax.numpy.issubdtype(x.dtype, jax.numpy.inexact))


def _arrays(y: Any) -> Any:
    """The outputs as NumPy's arrays, in the order in which JAX flattens them."""
    import jax

    arrays = tuple(np.asarray(x) for x in jax.tree_util.tree_leaves(y))
    return arrays if len(arrays) != 1 else arrays[0]


def _none(*dy: Any) -> None:
    return None
