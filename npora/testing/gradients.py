"""One line in a test: these gradients are right, or here is what is wrong and how to see it again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npora.check import Report, gradcheck
from npora.nn import Module

_SMALL = 60  # numbers of all inputs together, which can still be read in a line


def assert_gradients(
    layer: Any,
    *inputs: Any,
    shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    vjp: Callable[..., Any] | None = None,
    **options: Any,
) -> Report:
    """Assert that gradcheck passes, and return its report.

        def test_swiglu():
            assert_gradients(swiglu, shapes=[(3, 5), (3, 5)])

    Where it does not pass, the AssertionError's text is the report, and a line of Python that fails in the same way, as
    far as one can be written: where `layer` (and vjp) can be imported, and the inputs are drawn or are few.

    shapes : in place of inputs: normal numbers of these shapes, drawn by `seed`, which is gradcheck's seed, too
    options : gradcheck's other keywords, and those of layer

    Raises
    ------
    AssertionError: a row of the report is not PASS.  TypeError: both inputs and shapes were given.
    """
    if shapes is not None and inputs:
        raise TypeError(f"assert_gradients takes inputs or shapes; got {len(inputs)} inputs and the shapes {shapes}")
    if shapes is not None:
        rng = np.random.default_rng(seed)
        inputs = tuple(np.asarray(rng.standard_normal(shape)) for shape in shapes)
    report = gradcheck(layer, *inputs, vjp=vjp, seed=seed, **options)
    if not report:
        line = again(layer, inputs, shapes, {"seed": seed, "vjp": vjp, **options})
        raise AssertionError(f"the gradient check did not pass\n{report}\nreproduce: {line}")
    return report


def again(layer: Any, inputs: Any, shapes: Any, options: Mapping[str, Any]) -> str:
    """A line of Python that makes the check again."""
    imports, names = ["from npora.testing import assert_gradients"], {}
    for thing in (layer, *(value for value in options.values() if callable(value))):
        module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
        if name and not isinstance(thing, Module) and getattr(sys.modules.get(module), name, None) is thing:
            imports.append(f"from {module} import {name}")
            names[id(thing)] = name
        else:
            names[id(thing)] = getattr(thing, "__name__", type(thing).__name__)
    given = [names[id(layer)]]
    given += [f"shapes={[tuple(map(int, shape)) for shape in shapes]!r}"] if shapes is not None else _literals(inputs)
    for key, value in options.items():
        if value is not None:
            given.append(f"{key}={names[id(value)] if callable(value) else _literal(value)}")
    needs_numpy = any("np." in part for part in given)
    return "; ".join(
        [*(["import numpy as np"] if needs_numpy else []), *imports, f"assert_gradients({', '.join(given)})"]
    )


def _literals(inputs: Any) -> list[str]:
    few = sum(int(np.size(x)) for x in inputs if isinstance(x, np.ndarray)) <= _SMALL
    return [_literal(x) if few else f"<{type(x).__name__}>" for x in inputs]


def _literal(value: Any) -> str:
    """Code for a value: an array's numbers with all of their digits, so that it is the same one."""
    if isinstance(value, np.ndarray):
        shape = "" if value.size else f".reshape({value.shape})"
        return f"np.array({value.tolist()!r}, dtype=np.{value.dtype}){shape}"
    if isinstance(value, np.random.Generator):
        return "<Generator>"
    return repr(value)
