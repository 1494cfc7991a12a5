"""What is said of a wrong gradient is so: it is said only where it fits and nothing plainer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check import diagnose
from npora.nn.module import Array

rng = np.random.default_rng(1)
N = rng.standard_normal((4, 6))
WIDE = rng.standard_normal((23, 17))
F32 = np.float32
V = rng.standard_normal((4, 6))
SQUARE = rng.standard_normal((5, 5))


def softmax(back: Callable[[Array, Array], Array]) -> Callable[[Array], Any]:
    def function(x: Array) -> Any:
        p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
        return p, lambda dy: back(p, dy)

    return function


# name → (function, inputs, which gradient is wrong, how its note begins)
PLANTED: dict[str, tuple[Any, tuple[Any, ...], str, str]] = {
    "a factor in float32": (
        lambda x: (0.1 * x, lambda dy: F32(0.1) * dy),
        (N,),
        "x",
        "a constant factor 1.000000015 (off by 1.49e-08, as a constant is that was rounded to float32)",
    ),
    "a sum's factor in float32": (
        lambda x: (0.1 * x.sum(0), lambda dy: F32(0.1) * dy + 0 * x),
        (N,),
        "x",
        "a constant factor 1.000000015 (off by 1.49e-08, as a constant is that was rounded to float32)",
    ),
    "a derivative in float32": (
        lambda x: (np.sin(x), lambda dy: np.cos(x.astype(F32)) * dy),
        (N,),
        "x",
        "as far off as rounding to float32 makes it (a relative error of ",
    ),
    "dy in float32": (
        lambda x: (np.sin(x), lambda dy: np.cos(x) * dy.astype(F32)),
        (N,),
        "x",
        "as far off as rounding to float32 makes it",
    ),
    "a term in float32": (
        lambda x: (np.sin(x) + 0.1 * x, lambda dy: np.cos(x) * dy + F32(0.1) * dy),
        (N,),
        "x",
        "as far off as rounding to float32 makes it",
    ),
    "a product in float32": (
        lambda x: (x @ SQUARE, lambda dy: (dy.astype(F32) @ SQUARE.T.astype(F32)).astype(float)),
        (SQUARE,),
        "x",
        "rounded to float32: ",
    ),
    "one of two factors in float32": (
        lambda x, y: (0.1 * x + y, lambda dy: (F32(0.1) * dy, dy)),
        (N, V),
        "x",
        "a constant factor 1.000000015 (off by",
    ),
    "a spurious dy": (lambda x: (np.sin(x), lambda dy: np.cos(x) * dy + 0.5 * dy), (N,), "x", "off by 0.5 times dy: "),
    "a spurious dy, another's gradient being dy": (
        lambda x, y: (np.sin(x) + y, lambda dy: (np.cos(x) * dy + dy, dy)),
        (N, V),
        "x",
        "off by 1 times dy: ",
    ),
    "a spurious dy, both gradients being dy": (
        lambda x, y: (x + y, lambda dy: (1.5 * dy, dy)),
        (N, V),
        "x",
        "a constant factor 1.5",
    ),
    "a spurious term, both gradients being dy": (
        lambda x, y: (x + y, lambda dy: (dy + 0.3 * dy * x, dy)),
        (N, V),
        "x",
        "off by 0.3 times x ⊙ dy: ",
    ),
    "noise, both gradients being dy": (
        lambda x, y: (x + y, lambda dy: (dy + 0.3 * dy * np.sin(9 * x), dy)),
        (N, V),
        "x",
        "no known error explains it",
    ),
    "dy alone": (lambda x: (np.sin(x), lambda dy: dy), (N,), "x", "dy itself: the layer's own derivative is missing"),
    "dy alone, another's gradient being dy": (
        lambda x, y: (x + np.sin(y), lambda dy: (dy, dy)),
        (N, V),
        "y",
        "dy itself: ",
    ),
    "a mean not taken off": (
        lambda x: (x - x.mean(1, keepdims=True), lambda dy: dy),
        (N,),
        "x",
        "dy itself: the layer's own derivative",
    ),
    "swapped": (
        lambda x, y: (x * np.sin(y), lambda dy: (x * np.cos(y) * dy, np.sin(y) * dy)),
        (N, V),
        "x",
        "this is the gradient of y: two returns are swapped",
    ),
    "returned twice": (
        lambda x, y: (x * np.sin(y), lambda dy: (np.sin(y) * dy, np.sin(y) * dy)),
        (N, V),
        "y",
        "this is the gradient of x: returned in two places",
    ),
    "a factor missing": (
        lambda x, y: (x * y * x, lambda dy: (2 * x * y * dy, x * dy)),
        (N, V),
        "y",
        "a factor x is missing",
    ),
    "a factor too many": (lambda x, y: (x * y, lambda dy: (y * dy, x * x * dy)), (N, V), "y", "a factor x too many"),
    "a term of the product rule": (
        lambda x: (x * np.exp(x), lambda dy: np.exp(x) * dy),
        (N,),
        "x",
        "off by -1 times output ⊙ dy",
    ),
    "a half": (lambda x: (x * x, lambda dy: x * dy), (N,), "x", "a constant factor 0.5 (1/2"),
    "shifted by two": (
        lambda x: (np.roll(x, 1, 1), lambda dy: np.roll(dy, 1, 1)),
        (N,),
        "x",
        "shifted by 2 along axis 1: an index off by 2",
    ),
    "shifted with zeros": (
        lambda x: (np.sin(x), lambda dy: np.vstack([0 * dy[:1], (np.cos(x) * dy)[:-1]])),
        (N,),
        "x",
        "shifted by 1 along axis 0, with zeros at its end",
    ),
    "a sum of the other direction": (
        lambda x: (np.cumsum(x, 0), lambda dy: np.cumsum(dy, 0)),
        (N,),
        "x",
        "unlike the right gradient",
    ),
    "a softmax's sum": (
        softmax(lambda p, dy: p * dy),
        (N,),
        "x",
        "off by a multiple of the output of its own for each slice along axis 1",
    ),
    "a softmax's sum along the wrong axis": (
        softmax(lambda p, dy: p * (dy - (p * dy).sum(0))),
        (N,),
        "x",
        "no known error explains it",
    ),
    "a constant": (lambda x: (np.sin(x), lambda dy: np.cos(x) * dy + 1e-3), (N,), "x", "off by 0.001 times a constant"),
    "too few digits": (
        lambda x: (np.pi * x, lambda dy: 3.14 * dy),
        (N,),
        "x",
        "a constant factor 0.9994930426 (off by -0.000507: a constant with too few digits?)",
    ),
    "no transpose": (
        lambda x: (x @ SQUARE, lambda dy: dy @ SQUARE),
        (SQUARE + 1,),
        "x",
        "unlike the right gradient (cosine -0.135): no known error explains it",
    ),
    "the wrong side": (
        lambda x: (np.maximum(x, 0) * x, lambda dy: 2 * x * (x < 0) * dy),
        (N,),
        "x",
        "unlike the right gradient (cosine 0)",
    ),
    "most are zero": (lambda x: (np.where(x > 0.5, x, 0.01 * x), lambda dy: dy * (x > 0.5)), (N,), "x", "wrong at "),
    "a number": (
        lambda x: (np.sin(x), lambda dy: 1.3 * dy),
        (0.7,),
        "x",
        "no known error explains it: 1.699697038 times the right one",
    ),
    "a number's sign": (
        lambda x: (np.sin(x), lambda dy: -np.cos(x) * dy),
        (0.7,),
        "x",
        "a constant factor -1 (the sign)",
    ),
    "a norm not divided by": (
        lambda x: (np.sqrt((x * x).sum()), lambda dy: dy * x),
        (N,),
        "x",
        "a constant factor 3.07484544 (the output)",
    ),
    "one element off by little": (
        lambda x: (np.sin(x), lambda dy: np.cos(x) * dy * np.where(x == N[1, 2], 1 + 1e-7, 1)),
        (N,),
        "x",
        "wrong at one element, [1, 2]: there 1.0000001 times what is right",
    ),
    "epsilon left out": (
        lambda x: (1 / np.sqrt(x * x + 1e-5), lambda dy: -dy * np.sign(x) / x**2),
        (N,),
        "x",
        "no known error explains it",
    ),
    "the gradient of another, added": (
        lambda x, y: (np.sin(x) * y, lambda dy: (np.cos(x) * y * dy + 2 * np.sin(x) * dy, np.sin(x) * dy)),
        (N, V),
        "x",
        "off by 2 times the gradient of y",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_said_of_an_error_is_so(name: str) -> None:
    function, inputs, wrong, said = PLANTED[name]
    report = gradcheck(function, *inputs)
    assert report[wrong].verdict == "FAIL" and report[wrong].note.startswith(said), report[wrong].note
    assert all(row.verdict == "PASS" for row in report.rows if row.worst and row.name != wrong) or name == "swapped"


@pytest.mark.parametrize("seed", range(4))
def test_errors_within_what_is_known_of_the_gradient_have_no_cause(seed: int) -> None:
    n = np.random.default_rng(seed).standard_normal((4, 6))
    a = n * (1 + 2e-9 * np.random.default_rng(seed + 9).standard_normal(n.shape))
    assert not diagnose(a, n, tolerance=1e-6).startswith(("a constant", "shifted", "off", "a factor", "a missing"))


def test_what_is_not_known_of_the_right_gradient_is_left_out() -> None:
    n = N.copy()
    n[1:3] = np.nan
    assert diagnose(-N, n).startswith("a constant factor -1 (the sign)")
    assert diagnose(np.where(N == N[0, 2], 9.0, N), n).startswith(
        "wrong at one of 12 elements that were looked at, [0, 2]"
    )


def test_elements_are_told_to_be_right_only_where_that_is_known() -> None:
    noise = F32(3e-4)
    report = gradcheck(
        lambda x: (np.sin(x), lambda dy: np.cos(x) * dy * (1 + noise * np.sin(50 * x))), WIDE, dtype="float32"
    )
    assert report["x"].note.startswith("no known error explains it")
