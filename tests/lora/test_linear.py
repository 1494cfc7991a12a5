"""LoRALinear: which order of products it takes, how it starts, and what it leaves behind when it is merged for good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.lora import LoRALinear
from npora.nn import Linear, cross_entropy, projected_cross_entropy


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


@pytest.mark.parametrize("rows_at_once", [7, 2])
def test_an_adapter_on_a_vocabulary_drops_out_the_same_in_backward_as_in_forward(rows_at_once: int) -> None:
    rng = np.random.default_rng(3)
    h, targets, found = rng.standard_normal((6, 4)), np.array([2, -100, 0, 4, 1, 1]), []
    for trained in (True, False):  # computed again in backward, or differentiated in forward
        head = LoRALinear(Linear(4, 5, rng=1, dtype=np.float64), 2, 3, 0.5, init_lora_weights=False, rng=2)
        head.requires_grad_(trained).train()
        draw = np.random.default_rng(8)
        loss, backward, _ = projected_cross_entropy(h, targets, head, rows_at_once=rows_at_once, rng=draw)
        found.append([np.asarray(loss), backward(0.7), np.asarray(draw.random())])
        if trained:
            dB = head.lora_B["default"].weight.grad
            assert dB is not None and dB.any() and backward(0.7).tobytes() == found[0][1].tobytes()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)  # the factor comes earlier or later
    if rows_at_once == 7:
        z, back_head = head(h[targets >= 0], np.random.default_rng(8))
        plain, back_loss = cross_entropy(z, targets[targets >= 0])
        np.testing.assert_allclose(found[0][0], plain, rtol=1e-14)
        np.testing.assert_allclose(found[0][1][targets >= 0], back_head(back_loss(0.7)), rtol=1e-13, atol=1e-15)
