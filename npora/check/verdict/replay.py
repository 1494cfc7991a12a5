"""The line that runs a check again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.check.subject import _name_of

DEFAULTS = {
    "method": "auto", "dtype": "float64", "seed": 0, "max_elements": 2000, "randomize": True, "steps": 0,
    "reference": None, "order": 1,
}  # fmt: skip


def replay_line(layer: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """A call of gradcheck with every option that is not at its default, and the versions that rounding hangs on."""
    given = [_name_of(layer), *(_short(value) for value in inputs), *(f"{k}={_short(v)}" for k, v in keywords.items())]
    given += [
        f"{key}={_name_of(value) if callable(value) else repr(value)}"
        for key, value in options.items()
        if value != DEFAULTS[key] or key == "seed"
    ]
    return f"npora.gradcheck({', '.join(given)})  # NumPy {np.__version__}"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{key!r}: {_short(item)}' for key, item in value.items())}}}"
        return text if len(text) <= 80 else "batch"
    text = f"({', '.join(map(_short, value))},)" if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 30 else f"<{type(value).__name__}>"
