"""LoRALinear: which order of products it takes, how it starts, and what it leaves behind when it is merged for good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.lora import LoRALinear
from npora.nn import Linear


def test_what_the_low_rank_path_read_is_let_go_of_where_A_is_frozen() -> None:
    """With A frozen no gradient reads the dropped x, and with the base frozen none reads x."""
    layer = LoRALinear(Linear(5, 3, rng=1), r=2, lora_dropout=0.5, init_lora_weights=False, rng=2)
    x = np.random.default_rng(0).standard_normal((4, 5), dtype=np.float32)
    for trained in (True, False):
        layer.get_parameter("lora_A.default.weight").requires_grad = trained
        _, backward = layer(x, np.random.default_rng(3))
        assert (np.size(x) in sizes_of_arrays_below(backward)) == trained


def sizes_of_arrays_below(function: Any) -> list[int]:
    """Of the arrays of floating point that a pullback's closure holds, directly or through another function's; not of
    masks, and not of parameters."""
    sizes, seen, left = [], set(), [function]
    while left:
        value = left.pop()
        if id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                sizes.append(value.size)
            left += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    return sizes


def test_initial_values_are_pefts() -> None:
    uniform = LoRALinear(Linear(400, 30), r=5, rng=1)
    A, B = uniform.get_parameter("lora_A.default.weight").data, uniform.get_parameter("lora_B.default.weight").data
    assert not B.any() and np.abs(A).max() <= 1 / 20 and np.std(A) == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
    gaussian = LoRALinear(Linear(400, 30), r=5, init_lora_weights="gaussian", rng=1)
    A, B = gaussian.get_parameter("lora_A.default.weight").data, gaussian.get_parameter("lora_B.default.weight").data
    assert not B.any() and np.std(A) == pytest.approx(1 / 5, rel=0.05) and np.abs(A).max() > 0.5
    assert LoRALinear(Linear(4, 3), r=2, init_lora_weights=False).lora_B["default"].weight.data.any()


def test_what_is_merged_for_good_is_a_linear_with_the_merged_weight() -> None:
    for merged_before in (False, True):
        layer = LoRALinear(Linear(4, 3, rng=1, dtype=np.float64), r=2, init_lora_weights=False, rng=2)
        x = np.random.default_rng(0).standard_normal((5, 4))
        before, weight = layer(x)[0], layer.base_layer.weight.data.copy()
        if merged_before:
            layer.merge()
        plain = layer.merged_linear()
        assert isinstance(plain, Linear)
        np.testing.assert_allclose(plain(x)[0], before, rtol=0, atol=1e-14)
        assert not (plain.weight.data == weight).any()


def test_rank_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="the rank must be a whole number of at least 1; got 0"):
        LoRALinear(Linear(4, 3), r=0)
