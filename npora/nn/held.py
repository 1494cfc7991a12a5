"""Values that forward computes and the gradient treats as constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy.typing as npt

from npora.nn.grad_mode import this_thread, within
from npora.nn.module import Array

Values = dict[tuple[str, int], Array]


def held(name: str, f: Callable[..., Array], *args: Any) -> Array:
    """Return f(*args), which the pullback treats as a constant: what f depends on gets no gradient through it.

    Such a pullback is the derivative of forward with this value held where it is, and of nothing else. A check, which
    evaluates forward around a point, therefore does so within `holding`: what it tests is then what is claimed.

    f draws no random numbers: where the value is replayed it is not called.
    """
    return f(*args) if this_thread.replay is None else this_thread.replay(name, partial(f, *args))


@contextmanager
def holding(values: Values, dtype: npt.DTypeLike) -> Iterator[None]:
    """Within this block (in this thread), which holds one forward, held values are those in `values`, in this dtype.

    Each stands there under its name and its number among those of that name. The first forward, at the point itself,
    puts it there; after a clear() of `values` the next forward does. A block within another one asks that one first.
    """
    asked: Counter[str] = Counter()
    outer = this_thread.replay

    def replay(name: str, f: Callable[[], Array]) -> Array:
        key = name, asked[name]
        asked[name] += 1
        if key not in values:
            values[key] = f() if outer is None else outer(name, f)
        return values[key].astype(dtype, copy=False)

    with within(replay=replay):
        yield
