"""Every method on a base that lies in a form of its own is that method on the base's floats."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from npora.lora.adapted import Adapted
from npora.nn import Conv1D, Linear, Parameter
from npora.stored import FORMS, Stored
from tests.lora.cases import METHODS, Method, adapter_of, goes_on

# Each method on every form: on each kind of layer, with dropout and without, on another one.
_FORMS = (*FORMS, *FORMS)
cases = pytest.mark.parametrize(
    ("case", "form"), [(case, _FORMS[n % len(FORMS)]) for n, case in enumerate(METHODS)],
    ids=lambda part: part if isinstance(part, str) else part.name.replace(" ", "-"),
)  # fmt: skip
cases_on_kinds = pytest.mark.parametrize(
    ("case", "kind", "seed", "form"),
    [
        (case, kind, seed, _FORMS[n % len(FORMS) + m])
        for n, case in enumerate(METHODS)
        for kind, seed, m in ((Linear, None, 0), (Linear, 7, 2), (Conv1D, 7, 1), (Conv1D, None, 3))
        if goes_on(case, kind)
    ],
    ids=lambda part: getattr(part, "__name__", None) or str(getattr(part, "name", part)).replace(" ", "-"),
)


def drawn(seed: int, *shape: int) -> Any:
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    array.flags.writeable = False
    return array


def adapted(case: Method, kind: type[Linear], i: int, o: int, form: str, stored: bool) -> Adapted:
    base = kind(i, o, rng=1)
    matrix = FORMS[form](base.weight.data)
    base.weight = Parameter(matrix if stored else matrix[:], requires_grad=False)
    base.bias = Parameter(drawn(2, o))
    layer = Adapted(base)
    layer.adapters["default"] = adapter_of(case, base, np.random.default_rng(3))
    layer.active_adapter = "default"
    for number, parameter in enumerate(layer.adapters["default"].parameters()):
        if parameter.requires_grad:
            parameter.data = parameter.data + np.float32(0.5) * drawn(4 + number, *parameter.shape)
    return layer


@cases_on_kinds
def test_values_gradients_and_merged_weights_are_those_on_the_floats(
    case: Method, kind: type[Linear], seed: int | None, form: str
) -> None:
    layers = [adapted(case, kind, 15, 8, form, stored) for stored in (True, False)]
    x, dy, found = drawn(5, 2, 3, 15), drawn(6, 2, 3, 8), []
    for layer in layers:
        y, backward = layer(x, rng=None if seed is None else np.random.default_rng(seed))
        found.append([y, backward(dy), *(p.grad for p in layer.adapters["default"].parameters() if p.grad is not None)])
        layer.merge()
        found[-1] += [layer(x)[0], layer.get_delta_weight("default")]
    assert len(found[0]) == len(found[1]) > 4
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2**-18 * max(1, np.abs(other).max()), strict=True)
    assert isinstance(layers[0].base_layer.weight.data, Stored)


@cases
def test_no_pullback_keeps_a_matrix_of_floats(case: Method, form: str) -> None:
    i, o = 300, 400
    layer, x, dy = adapted(case, Linear, i, o, form, True), drawn(1, 2, i), drawn(2, 2, o)
    layer(x)[1](dy)
    tracemalloc.start()
    try:
        _, backward = layer(x)
        held = tracemalloc.get_traced_memory()[0]
        backward(dy)
    finally:
        tracemalloc.stop()
    assert held < i * o * 4 / 4  # bytes
