"""Every row of npora's catalogue as a case of the contracts in `test_contracts.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora import PeftModel
from npora.catalogue import TABLE, Row
from npora.models.pretrained import PretrainedModel
from npora.nn import Module
from npora.nn.module import Array


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([len(shape), *shape, seed]).standard_normal(shape)


class Outputs(Module):
    """A whole model as a function of its parameters: its loss, or else all that it returns, as one vector."""

    def __init__(self, model: Module) -> None:
        self.model = model

    def forward(self, *inputs: Array, **keywords: Any) -> tuple[Array, Callable[[Array], None]]:
        output, backward = self.model(*inputs, **keywords)
        if getattr(output, "loss", None) is not None:
            return np.asarray(output.loss), backward
        names = ("logits", "last_hidden_state", "pooler_output")
        parts = [getattr(output, name) for name in names if hasattr(output, name)]
        ends = np.cumsum([part.size for part in parts])[:-1]

        def back_parts(dy: Array) -> None:
            backward(*(d.reshape(part.shape) for d, part in zip(np.split(dy, ends), parts, strict=True)))

        return np.concatenate([part.ravel() for part in parts]), back_parts


class Case:
    """A row at one seed. build() makes its layer or function anew, which is called with the inputs and keywords."""

    def __init__(self, row: Row) -> None:
        self.row, self.name = row, row.name
        self.row_wise, self.frozen_rounds = row.row_wise, row.frozen_rounds
        layer, self.inputs, self.keywords = row.draw()
        self.whole_model = isinstance(layer, PretrainedModel | PeftModel)  # too many parameters for differences of each

    def build(self) -> Any:
        layer, _, _ = self.row.draw()
        return Outputs(layer) if self.whole_model else layer


CASES: list[Case] = [Case(row) for row in TABLE]

__all__ = ["CASES", "Case", "draw"]
