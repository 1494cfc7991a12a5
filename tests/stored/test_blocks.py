"""What is quantised is within half a step of what it was, and any part of it is that part of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npora.machine.product import product
from npora.nn import Linear, Parameter, projected_cross_entropy
from npora.stored import FORMS, Q8_0, BFloat16, Blocked

QUANTIZED = [form for form in FORMS if not FORMS[form](np.zeros((1, 1), np.float32)).is_exact]
quantized = pytest.mark.parametrize("form", QUANTIZED)
finite = st.floats(-8e6, 8e6, width=32)


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def blocks_of(x: Any, length: int) -> Any:
    blocks = -(-x.shape[1] // length)
    whole = np.zeros((len(x), blocks * length))
    whole[:, : x.shape[1]] = x
    return whole.reshape(len(x), blocks, length)


@given(x=arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 70)), elements=finite))
@example(x=np.float32([[1.13e-5, -3e-6, 1e-9], [7e-9, 0, -3e-9]]))  # steps between float16's least numbers
@example(x=np.float32([[127.5 * 2**-24, -127.5 * 2**-24]]))  # 128 steps, where 127 are the most
def test_int8_is_within_half_a_step_of_each_block(x: Any) -> None:
    W = Q8_0.quantized(x)
    d = W.bits.reshape(*x.shape[:1], -(-x.shape[1] // 32), 34)[..., :2].copy().view(np.float16).astype(np.float64)
    assert W.shape == x.shape and (np.abs(blocks_of(np.asarray(W), 32) - blocks_of(x, 32)) <= d / 2).all()
    # d is the largest number over 127 to float16's rounding, of which the least is 2⁻²⁴
    assert (d <= np.abs(blocks_of(x, 32)).max(axis=2, keepdims=True) / 127 * (1 + 2**-10) + 2**-24).all()


@quantized
def test_what_is_quantised_again_stays(form: str) -> None:
    W: Any = FORMS[form](drawn(3, 150))
    np.testing.assert_allclose(np.asarray(FORMS[form](W)), W, rtol=1e-6, atol=0)


@quantized
def test_a_part_is_that_part_of_the_whole(form: str) -> None:
    W = FORMS[form](drawn(5, 300))
    floats = np.asarray(W)
    ids = np.array([[4, 0, 0], [1, -1, 2]])
    for index in [
        np.s_[1:3, 70:200], np.s_[:, 64:128], np.s_[-2:, -1:], np.s_[2], np.s_[3, 5:7], np.s_[5:2, 9:9], np.s_[:0],
        np.s_[:, 7], np.s_[::2, ::3], np.s_[1, 2], np.s_[:2, 290:900], ids, (ids, slice(250, 290)),
    ]:  # fmt: skip
        np.testing.assert_array_equal(W[index], floats[index])


@quantized
def test_bfloat16_is_quantised_as_its_floats(form: str) -> None:
    narrow: Any = BFloat16.rounded(drawn(3, 50))
    np.testing.assert_array_equal(FORMS[form](narrow).bits, FORMS[form](narrow[:]).bits)


@quantized
def test_many_rows_are_quantised_as_few_are(form: str) -> None:
    x = np.tile(drawn(4, 64), (1100, 2))  # in several pieces
    found, few = FORMS[form](x).bits, FORMS[form](x[:4]).bits
    np.testing.assert_array_equal(found, np.tile(few, (1100, 1)))


@quantized
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused(form: str, value: float) -> None:
    x = np.ones((2, 3))
    x[1, 1] = value
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="holds finite numbers"):
        FORMS[form](x)


@quantized
def test_what_is_no_matrix_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=rf"two axes can be in {form}; got the shape \(3,\)"):
        FORMS[form](drawn(3))


def test_a_number_that_int8_has_none_near_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no number near 9e\+06: its largest is 8\.32e\+06"):
        Q8_0.quantized(np.float32([[9e6]]))


@quantized
def test_bits_that_are_not_the_matrixs_are_refused(form: str) -> None:
    W: Any = FORMS[form](drawn(2, 40))
    with pytest.raises(TypeError, match="an array of uint8; got int8"):
        type(W)(W.bits.view(np.int8), (2, 40))
    with pytest.raises(ValueError, match=r"a matrix \(3, 40\) in .* takes bytes of shape \(3, "):
        type(W)(W.bits, (3, 40))


class Counted(Q8_0):
    blocks = 0

    @classmethod
    def terms(cls, blocks: Any) -> Any:
        cls.blocks += blocks[..., 0].size
        return super().terms(blocks)


def test_a_loss_over_a_large_vocabulary_unpacks_it_twice_for_256_rows() -> None:
    head = Linear(32, 2, bias=False, rng=0)
    head.weight = Parameter(Counted.quantized(drawn(40_000, 32)), requires_grad=False)
    Counted.blocks = 0
    projected_cross_entropy(drawn(256, 32), np.arange(256), head)
    assert Counted.blocks == (2 + 1) * 40_000  # and once to see how many words it has


def test_a_product_unpacks_each_block_once() -> None:
    W: Any = Counted.quantized(drawn(300, 1216))  # 38 blocks in a row, which in even parts would be cut amidst some
    for b in (W, W.T):
        Counted.blocks = 0
        product(drawn(2, b.shape[0]), b)
        assert Counted.blocks == 300 * 38


def test_a_format_that_is_only_read_says_so() -> None:
    class OnlyRead(Blocked):
        form, block, block_bytes = "q9", 2, 1

    with pytest.raises(NotImplementedError, match="in q9 can be read here, and none can be quantised to it"):
        OnlyRead.quantized(drawn(2, 4))
    with pytest.raises(NotImplementedError, match="does not say how its blocks are unpacked"):
        np.asarray(OnlyRead(np.zeros((2, 2), np.uint8), (2, 4)))
