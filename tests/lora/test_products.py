"""How many products a method takes beside those of its layer: what its page says, counted."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from npora.nn.linear import product
from tests.lora.cases import METHODS, adapted

# Of those that have an order of their own: beside the layer's one forward and one backward.
PRODUCTS = {
    "lora_linear": (2, 4), "pissa_linear": (4, 6), "olora_linear": (4, 6), "dora_linear": (2, 4),
    "vera_linear": (2, 2), "ia3": (0, 0), "ia3_feedforward": (0, 0), "hra_linear": (2, 4),
    "road_linear": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize(("name", "counts"), PRODUCTS.items(), ids=PRODUCTS)
def test_a_method_takes_the_products_that_its_page_says(
    name: str, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = adapted(next(case for case in METHODS if case.name == name), 6, 8)
    counted: list[tuple[int, ...]] = []

    def counting(x: Any, W: Any) -> Any:
        counted.append((*x.shape, *W.shape))
        return product(x, W)

    for module in [module for path, module in sys.modules.items() if path.startswith("npora.")]:
        if getattr(module, "product", None) is product:
            monkeypatch.setattr(module, "product", counting)
    x = np.random.default_rng(0).standard_normal((5, 6))
    y, backward = layer(x)
    forward, _ = len(counted), counted.clear()
    backward(y)
    assert (forward - 1, len(counted) - 1) == counts
