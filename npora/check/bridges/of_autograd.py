"""Functions written with autograd.numpy, HIPS autograd's, with the gradients that its vjps make."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.check.bridges.need import need
from npora.check.inputs import is_floating


def autograd_function(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return f, a function of arrays with one output, as a function whose backward is HIPS autograd's.

        gradcheck(autograd_function(my_function), x)

    Raises
    ------
    ImportError: autograd is not installed.
    """
    need("autograd", "pip install autograd")
    from autograd import make_vjp

    def function(*inputs: Any, **keywords: Any) -> Any:
        places = [k for k, x in enumerate(inputs) if is_floating(x)]
        if not places:  # complex steps, which ask for no gradient
            return f(*inputs, **keywords), lambda dy: None
        pull, y = make_vjp(f, argnum=places)(*inputs, **keywords)

        def backward(dy: Any) -> Any:
            found = dict(zip(places, pull(dy), strict=True))
            return tuple(None if k not in found else np.asarray(found[k]) for k in range(len(inputs)))

        return y, backward

    function.__name__ = str(getattr(f, "__name__", type(f).__name__))
    vars(function)["__signature__"] = inspect.signature(f)
    return function
