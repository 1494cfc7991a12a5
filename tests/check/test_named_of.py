"""What a wrong gradient may be told by, of one input alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.check import gradcheck
from npora.nn.module import Array

A, B = np.random.default_rng(0).standard_normal((2, 3, 4))


def plus(a: Array, b: Array) -> Array:
    return a * a + a * b


def named(dy: Array, a: Array, b: Array) -> dict[str, Any]:
    return {
        "the share of the square (da)": 2 * dy * a,
        "the share of the square (db)": dy * b,
        "the half (of c)": dy / 2,
    }


def test_a_share_of_one_input_is_told_of_it_alone() -> None:
    def vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return dy * b, dy * (a - 2 * a * a * a)

    notes = {row.name: row.note for row in gradcheck(plus, A, B, vjp=vjp, named=named).rows}
    assert notes["a"] == "the share of the square is missing" and "share" not in notes["b"]


def test_a_number_of_one_input_is_a_factor_of_it_alone() -> None:
    def vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return 7.3 * dy * (2 * a + b), 7.3 * dy * a

    report = gradcheck(plus, A, B, vjp=vjp, named=lambda dy, a, b: {"the rate (da)": 7.3})
    notes = {row.name: row.note for row in report.rows}
    assert notes["a"] == "a constant factor 7.3 (the rate)" and "rate" not in notes["b"]


def test_a_name_that_is_of_no_input_is_for_all() -> None:
    def vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return dy * (2 * a + b), dy * a - dy / 2

    notes = {row.name: row.note for row in gradcheck(plus, A, B, vjp=vjp, named=named).rows}
    assert notes["b"] == "the half (of c) is missing"


def test_the_right_numbers_in_another_order_are_told_so() -> None:
    def vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        right: Array = dy * a
        return dy * (2 * a + b), right.reshape(-1)[[3, 0, 7, 1, 2, 9, 4, 5, 6, 8, 11, 10]].reshape(3, 4)

    notes = {row.name: row.note for row in gradcheck(plus, A, B, vjp=vjp).rows}
    assert notes["b"] == "the right numbers in another order"
