"""A layer with each method's adapter on it: the rows follow from the methods' own, in `tests/lora/cases.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npora.lora.methods import method_of
from npora.nn import Conv1D, Linear
from tests.cases.case import Case, draw, module
from tests.lora.cases import METHODS, Method, adapted, goes_on


def rows_of(method: Method) -> Iterator[Case]:
    yield Case(
        f"{method.name} adapter", module(lambda: adapted(method, 5, 3, dtype=np.float32)), (draw(4, 5),), row_wise=True
    )
    if goes_on(method, Conv1D):
        conv = module(lambda: adapted(method, 5, 3, conv=True, bias=False, dtype=np.float32))
        yield Case(f"{method.name} adapter on a Conv1D", conv, (draw(2, 4, 5),))


# Other configs of a method go through tests/lora/test_methods.py alone.
FIRST = {method_of(case.config, Linear(2, 3)): case for case in reversed(METHODS)}
CASES = [row for case in FIRST.values() for row in rows_of(case)]
