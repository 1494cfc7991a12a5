"""A difference is told by what has a name: shares of the gradient, likely mistakes, and what is given by keyword."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check import diagnose
from npora.nn.module import Array

rng = np.random.default_rng(3)
X = rng.standard_normal((4, 6))


def sum_of_three(x: Array) -> Array:
    return np.sin(x) + x**3 + np.exp(x)


def shares(dy: Array, x: Array) -> dict[str, Any]:
    return {
        "the sine's share": dy * np.cos(x), "the cube's share": dy * 3 * x**2, "the gradient of x² for x³": (
            dy * (np.cos(x) + 2 * x + np.exp(x))
        ), "another shape": np.ones(7), "nothing": 0 * x,
    }  # fmt: skip


def said(sine: float, cube: float, square: float = 0.0) -> str:
    def vjp(dy: Array, x: Array) -> Array:
        return dy * (sine * np.cos(x) + cube * 3 * x**2 + square * 2 * x + np.exp(x))

    return gradcheck(sum_of_three, X, vjp=vjp, named=shares)["x"].note


def test_a_share_is_missing_or_there_too_often_or_with_the_wrong_sign() -> None:
    assert said(1, 0) == "the cube's share is missing"
    assert said(2, 1) == "the sine's share is there once too often"
    assert said(-1, 1) == "the sine's share is there with the wrong sign"
    assert said(0, 2) == "the sine's share is missing, and the cube's share is there once too often"
    assert said(1, 0, 1) == "this is the gradient of x² for x³"
    assert said(1, 1) == ""
    assert said(1.5, 1).startswith("off by 0.5 times the sine's share: ")


def test_without_names_none_is_told() -> None:
    report = gradcheck(sum_of_three, X, vjp=lambda dy, x: dy * (np.cos(x) + np.exp(x)))
    assert "share" not in report["x"].note
    with pytest.raises(TypeError, match="named must be a function"):
        gradcheck(sum_of_three, X, vjp=shares, named={})  # type: ignore[arg-type]


def test_a_number_by_name_is_a_factor_and_so_is_one_that_is_given_by_keyword() -> None:
    def scaled(x: Array, *, c: float, w: Array) -> Array:
        return c * w * np.sin(x)

    def note(vjp: Any, **options: Any) -> str:
        return gradcheck(scaled, X, vjp=vjp, c=1.75, w=W, **options)["x"].note

    W = rng.standard_normal(6)
    assert note(lambda dy, x, *, c, w: w * np.cos(x) * dy).endswith("(1/(c))")
    assert note(lambda dy, x, *, c, w: c * np.cos(x) * dy) == "a factor w is missing"
    assert note(lambda dy, x, *, c, w: 0.3 * c * w * np.cos(x) * dy, named=lambda dy, x, **_: {"k": 0.3}).endswith(
        "(k)"
    )


def test_half_a_size_and_a_product_with_dy_and_slices_that_are_zero_are_named() -> None:
    n = rng.standard_normal((14, 6))
    assert diagnose(7 * n, n).endswith("(half the size of axis 0)")
    assert diagnose(n / 7, n).endswith("(twice 1 over the size of axis 0)")
    report = gradcheck(lambda x, y: np.sin(x * y), X, X + 2, vjp=lambda dy, x, y: (dy * y, dy * x * np.cos(x * y)))
    assert report["x"].note == "dy times y, and no more"
    assert diagnose(n * (np.arange(14) < 5)[:, None], n) == "zero in some slices along axis 1, and right in the others"
