"""Where an error is planted: a gradient, all that is around it, and what is asked of it before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.check.verdict.diagnosis import Context
from npora.nn.module import Array


@dataclass
class Scene:
    """One backward in which an error is planted: whose gradient, and what is around it."""

    name: str
    gradients: dict[str, Array]
    arrays: dict[str, Array]  # the inputs' and parameters' values
    dy: tuple[Array, ...]
    context: Context
    state: dict[str, Any]  # outlives the call
    overwrite: bool = False

    @property
    def g(self) -> Array:
        return self.gradients[self.name]

    def factor(self, name: str) -> float:
        """The factor whose name begins so; 1 where there is none."""
        found = (value for key, value in self.context.factors.items() if key.startswith(name))
        return next((value for value in found if value != 1), 1.0)

    @property
    def twin(self) -> str:
        """Another gradient of the same shape, which is neither zero nor the same; "" where there is none."""
        for name, other in self.gradients.items():
            if name != self.name and other.shape == self.g.shape and other.any() and not np.array_equal(other, self.g):
                return name
        return ""

    @property
    def hidden(self) -> Any:
        """Where a mask hides positions of the gradient, some and fewer than half, with its axes; else False."""
        for hidden in self.context.hidden.values():
            if hidden.shape == self.g.shape[: hidden.ndim] and hidden.any() and 2 * hidden.sum() < hidden.size:
                return hidden.reshape(hidden.shape + (1,) * (self.g.ndim - hidden.ndim))
        return False


def _heads(s: Scene) -> bool:
    count, g = s.context.heads, s.g
    return count > 1 and g.ndim > 1 and g.shape[-1] % count == 0 and g.shape[-1] != count


WHERE: dict[str, Callable[[Scene], bool]] = {
    "anywhere": lambda s: True,
    "LoRA": lambda s: s.factor("α/r") != 1,
    "N rows": lambda s: s.factor("N") != 1,
    "heads": lambda s: s.factor("d, the width") != 1,
    "heads in a row": _heads,
    "a mask": lambda s: s.hidden is not False,
    "a twin": lambda s: s.twin != "",
    "a parameter": lambda s: s.name not in s.state["inputs"],
    "elements": lambda s: s.g.size > 2,
    "a first axis": lambda s: s.g.ndim > 0 and len(s.g) > 2,
    "a last axis": lambda s: s.g.ndim > 0 and s.g.shape[-1] > 2,
    "rows": lambda s: s.g.ndim > 1 and len(s.g) > 2 and s.g.shape[-1] > 1,
    "long rows": lambda s: s.g.ndim > 1 and len(s.g) > 2 and s.g.shape[-1] > 2,
    "a matrix": lambda s: s.g.ndim == 2 and len(s.g) > 2 and s.g.shape[-1] > 1,
    "a large matrix": lambda s: s.g.ndim == 2 and min(s.g.shape) > 2,
    "a square": lambda s: s.g.ndim > 1 and s.g.shape[-1] == s.g.shape[-2],
}
