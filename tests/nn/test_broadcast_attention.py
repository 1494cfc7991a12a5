"""What attention is given for several heads or sequences at once gathers the gradients of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from npora.nn import MultiHeadAttention, Packing
from npora.nn import functional as F
from npora.nn.module import Array

B, H, T, S, D, E = 2, 3, 4, 5, 6, 7
MASK = np.random.default_rng(0).random((B, 1, T, S)) < 0.7  # several keys each, and others in each sequence
MASK[..., :2] = True


def values(seed: int, *shape: int) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


SHAPES = [(S,), (T, 1), (1, S), (T, S), (H, 1, 1), (H, T, S), (1, T, S), (1, 1, T, S), (B, 1, 1, S), (B, H, T, 1),
          (1, H, 1, S), (1, 1, 1, 1)]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bias_that_is_broadcast_has_the_sum_of_the_gradients_of_its_places(shape: tuple[int, ...]) -> None:
    q, k, v, dy = values(1, B, H, T, D), values(2, B, H, S, D), values(3, B, H, S, E), values(4, B, H, T, E)
    bias = values(5, *shape)
    spread = np.broadcast_to(bias, (B, H, T, S)).copy()
    y, backward = F.attention(q, k, v, bias=bias, mask=MASK)
    expected, back_spread = F.attention(q, k, v, bias=spread, mask=MASK)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    *others, dbias = backward(dy)
    *others_of_spread, dspread = back_spread(dy)
    assert dspread is not None and dbias is not None and dbias.shape == shape
    assert (abs(dspread).max(axis=(2, 3)) > 0.01).all()  # every sequence and head has something to add
    summed = np.zeros(shape)
    padded = (1,) * (4 - len(shape)) + shape
    for place in np.ndindex(B, H, T, S):
        summed[tuple(0 if n == 1 else i for i, n in zip(place, padded, strict=True))[4 - len(shape) :]] += dspread[
            place
        ]
    np.testing.assert_allclose(dbias, summed, rtol=0, atol=1e-13)
    for found, gradient in zip(others, others_of_spread, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bias_of_fewer_axes_is_the_same_in_a_packed_batch(shape: tuple[int, ...]) -> None:
    q, k, v, dy = values(1, B * T, H * D), values(2, B * S, H * D), values(3, B * S, H * E), values(4, B * T, H * E)
    packing, keys, bias = Packing.dense(B, T), Packing.dense(B, S), values(5, *shape)
    y, backward = F.packed_attention(q, k, v, H, packing, keys, bias=bias)
    spread = np.broadcast_to(bias, (B, H, T, S)).copy()
    expected, back_spread = F.packed_attention(q, k, v, H, packing, keys, bias=spread)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    *gradients, dbias = backward(dy)
    *others, dspread = back_spread(dy)
    assert dbias is not None and dspread is not None and dbias.shape == shape
    axes = tuple(axis for axis, size in enumerate((1,) * (4 - len(shape)) + shape) if size == 1)
    np.testing.assert_allclose(dbias, dspread.sum(axis=axes).reshape(shape), rtol=0, atol=1e-12)
    for found, right in zip(gradients, others, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("lead", [(), (H,), (1, H), (B, 1), (1, 1)], ids=str)
def test_keys_and_values_that_are_shared_have_the_sum_of_the_gradients_of_their_uses(lead: tuple[int, ...]) -> None:
    q, dy = values(1, B, H, T, D), values(4, B, H, T, E)
    of_v = (B, *lead[1:]) if len(lead) == 2 else (1, H)  # the two need not be shared alike
    k, v = values(2, *lead, S, D), values(3, *of_v, S, E)
    K, V = (np.broadcast_to(x, (B, H, *x.shape[-2:])).copy() for x in (k, v))
    y, backward = F.attention(q, k, v, mask=MASK)
    expected, back_apart = F.attention(q, K, V, mask=MASK)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    dq, dk, dv, _ = backward(dy)
    apart_q, apart_k, apart_v, _ = back_apart(dy)
    np.testing.assert_allclose(dq, apart_q, rtol=0, atol=1e-13)
    for found, apart, shape in ((dk, apart_k, k.shape), (dv, apart_v, v.shape)):
        padded = (1,) * (4 - len(shape)) + shape
        axes = tuple(axis for axis in range(2) if padded[axis] == 1)
        assert found.shape == shape
        np.testing.assert_allclose(found, apart.sum(axis=axes).reshape(shape), rtol=0, atol=1e-13)


def test_a_layers_bias_and_its_hidden_keys_hold_together() -> None:
    layer = MultiHeadAttention(6, 3, rng=1, dtype=np.float64)
    x, bias, dy = values(1, 2, 4, 6), values(2, 2, 3, 4, 4), values(3, 2, 4, 6)
    key_mask = np.array([[True, True, False, True], [True, False, True, True]])
    y, backward = layer(x, bias=bias, key_mask=key_mask)
    expected, back_hidden = layer(x, bias=np.where(key_mask[:, None, None, :], bias, -np.inf))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)
    for found, right in zip(backward(dy), back_hidden(dy), strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-13)
