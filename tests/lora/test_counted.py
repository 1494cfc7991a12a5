"""A page says how many matrix products its method takes beside its layer's own two, and here they are counted."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from npora.lora.adapted import Adapted
from npora.lora.adapter import Adapter
from npora.lora.methods import METHODS
from npora.machine.product import product
from npora.nn import Linear
from tests.lora.cases import Method, adapted

SAID = re.compile(r"Products beside the base's: (\d+) forward, (\d+) backward")


def counted(layer: Adapted | Linear, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The products of a forward and of its backward."""
    calls = 0

    def counting(a: Any, b: Any) -> Any:
        nonlocal calls
        calls += 1
        return product(a, b)

    base = layer.base_layer if isinstance(layer, Adapted) else layer
    with monkeypatch.context() as patch:
        for module in [m for name, m in sys.modules.items() if name.startswith("npora.")]:
            if vars(module).get("product") is product:
                patch.setattr(module, "product", counting)
        y, backward = layer(np.ones((4, base.in_features)))
        forward, calls = calls, 0
        backward(y)
    return forward, calls


def beside_the_base(layer: Adapted, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    found, own = counted(layer, monkeypatch), counted(layer.base_layer, monkeypatch)
    return found[0] - own[0], found[1] - own[1]


def said(method: type[Adapter]) -> tuple[int, int] | None:
    found = SAID.search(" ".join((method.__doc__ or "").split()))
    return (int(found[1]), int(found[2])) if found else None


@pytest.mark.parametrize("method", [m for m in METHODS if Linear in m.adapts], ids=lambda method: method.__name__)
def test_a_method_takes_as_many_products_as_its_page_says(
    method: type[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, fields = next(iter(method.samples.items()))
    layer = adapted(Method(name, method.config_class(**fields)), 11, 7)
    assert beside_the_base(layer, monkeypatch) == said(method)


def test_of_the_constants_those_are_left_out_that_peft_counts() -> None:
    found = {}
    for method in METHODS:
        if method.__name__ in ("AdaLoRA", "LoRA", "VeRA"):
            name, fields = next(iter(method.samples.items()))
            layer = adapted(Method(name, method.config_class(**fields)), 11, 7)
            shapes = [[part.shape for part in layer.constants("default", counted)] for counted in (True, False)]
            found[method.__name__] = shapes
    shared = [(4, 11), (7, 4)]
    assert found == {"AdaLoRA": [[(1,)], []], "LoRA": [[], []], "VeRA": [shared, shared]}
