"""A layer with each method's adapter on it: the rows follow from the methods' own, in `tests/lora/cases.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.nn import Conv1D
from tests.cases.case import Case, draw
from tests.lora.cases import METHODS, Method, adapted, adapter_of_layer, drops, goes_on


def build(method: Method, dropout: float = 0.0, **base: Any) -> Callable[[], Adapted]:
    def made() -> Adapted:
        layer = adapted(method, 5, 3, dtype=np.float32, **base)
        adapter_of_layer(layer).dropout_p = dropout
        return layer

    return made


def rows_of(method: Method) -> Iterator[Case]:
    name = f"an adapter, {method.name}"
    yield Case(name, build(method), (draw(4, 5),), row_wise=True)
    if goes_on(method, Conv1D):
        yield Case(f"{name}, on a Conv1D", build(method, conv=True, bias=False), (draw(2, 4, 5),))
    if drops(method):
        yield Case(f"{name}, dropout", build(method, 0.3), (draw(2, 4, 5),), {"rng": np.random.default_rng(6)})


CASES = [row for method in METHODS for row in rows_of(method)]
