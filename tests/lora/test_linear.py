"""LoRALinear: which order of products it takes, how it starts, and what it leaves behind when it is merged for good."""

from __future__ import annotations

import numpy as np
import pytest

from npora.lora import LoRALinear
from npora.lora.linear import _forming_is_cheaper
from npora.nn import Linear, cross_entropy, projected_cross_entropy


def test_the_order_with_fewer_products_is_chosen() -> None:
    # W + s B A takes (r + 1) i o products, in forward and in backward; the two thin ones n r (i + o).
    A, B = np.ones((1, 2)), np.ones((3, 1))  # 24 against 5 n
    assert [_forming_is_cheaper(np.ones((n, 2)), A, B) for n in (4, 5)] == [False, True]
    A, B = np.ones((2, 3)), np.ones((6, 2))  # 108 against 18 n: at 6 rows they tie
    assert [_forming_is_cheaper(np.ones((n, 3)), A, B) for n in (6, 7)] == [False, True]
    A, B = np.ones((4, 5)), np.ones((100, 4))  # 5,000 against 420 n
    assert [_forming_is_cheaper(np.ones((n, 5)), A, B) for n in (11, 12)] == [False, True]
    assert _forming_is_cheaper(np.ones((3, 4, 5)), A, B) and not _forming_is_cheaper(np.ones((0, 5)), A, B)
    A, B = np.ones((2, 50)), np.ones((50, 2))  # 15,000 against 200 n
    assert [_forming_is_cheaper(np.ones((n, 50)), A, B) for n in (75, 76)] == [False, True]


@pytest.mark.parametrize("n", [2, 300])  # W + s B A is formed, or not
@pytest.mark.parametrize("merged", [False, True])
def test_where_nobody_reads_dx_the_other_gradients_are_as_ever(n: int, merged: bool) -> None:
    layer = LoRALinear(Linear(4, 3, rng=1), r=2, init_lora_weights=False, rng=2)
    if merged:
        layer.merge()
        layer.requires_grad_(False)
    rng, gradients = np.random.default_rng(0), []
    x, dy = (rng.standard_normal((n, width), dtype=np.float32) for width in (4, 3))
    for dx_is_read in (True, False):
        layer.zero_grad()
        y, backward = layer(x, dx_is_read=dx_is_read)
        dx = backward(dy)
        gradients.append([y, *(p.grad for p in layer.parameters() if p.grad is not None)])
        assert dx.shape == (x.shape if dx_is_read else ()) and dx.dtype == np.float32 and dx.any() == dx_is_read
    assert len(gradients[0]) == (1 if merged else 3)
    for found, expected in zip(*gradients, strict=True):
        assert found.tobytes() == expected.tobytes()


def test_initial_values_are_pefts() -> None:
    uniform = LoRALinear(Linear(400, 30), r=5, rng=1)
    A, B = uniform.lora_A["default"].weight.data, uniform.lora_B["default"].weight.data
    assert not B.any() and np.abs(A).max() <= 1 / 20 and np.std(A) == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
    gaussian = LoRALinear(Linear(400, 30), r=5, init_lora_weights="gaussian", rng=1)
    A, B = gaussian.lora_A["default"].weight.data, gaussian.lora_B["default"].weight.data
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
    with pytest.raises(ValueError, match="the rank of an adapter must be at least 1; got r=0"):
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
