"""What is rough between points far apart: a staircase of single precision, which is noise, or a bend, which is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check.oracles.staircase import height_of_steps
from npora.nn.module import Array
from tests.corpus.judge import judge

U = 2.0**-53


def single(x: Array) -> Array:
    """Rounded where no one watches, and an error of complex numbers."""
    return np.asarray(x).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "height"),
    [
        (lambda t: float(np.float32(1.3 + t)), 2.0**-23),
        (lambda t: math.sin(t) - 1e-3 * float(np.float32(0.6 + t)), 1e-3 * 2.0**-24),
        (lambda t: round(t, 9), 1e-9),
        (lambda t: 1e-11 * round(1e11 * (t + 4.9e-12)), 1e-11),  # with a step beside 0
        (lambda t: 3 * t + t * t, 0.0),
        (lambda t: math.log(1e-9 + t), 0.0),
        (lambda t: math.hypot(1e-12, t), 0.0),
        (lambda t: math.sin(1e10 * t), 0.0),
        (lambda t: 1 / (t - 1e-6), 0.0),
        (lambda t: math.log(abs(t - 1e-6)), 0.0),
        (lambda t: t + (t > 3e-6), 0.0),  # one jump is no staircase
        (lambda t: math.sqrt(1e-9 - t) if t < 1e-9 else math.nan, 0.0),
    ],
)
def test_single_precision_makes_a_staircase_and_a_bend_does_not(
    function: Callable[[float], float], height: float
) -> None:
    found = height_of_steps(function, U)
    assert found == pytest.approx(height, rel=1e-3)
    assert not found or height_of_steps(function, found / 16) == 0  # no higher than the noise


def square(x: Array) -> Any:
    return (single(x) ** 2).astype(x.dtype), lambda dy: 2 * x * dy


def total(x: Array) -> Any:
    return np.float64((single(x) ** 2).sum()), lambda dy: 2 * x * dy


def log_sum_exp(x: Array) -> Any:
    y = single(x)
    e = np.exp(x - x.max())
    return np.float64(np.log(np.exp(y - y.max()).sum()) + y.max()), lambda dy: dy * e / e.sum()


def in_part(x: Array) -> Any:
    return np.abs(x) ** 3 + 1e-3 * single(x) ** 2, lambda dy: (3 * x * np.abs(x) + 2e-3 * x) * dy


def the_first_alone(x: Array) -> Any:
    y = np.abs(x) ** 2
    y[0] = single(x[0]) ** 2
    return y, lambda dy: 2 * x * dy


def beside_a_bend(A: Array, x: Array) -> Any:
    """The one input in double precision, and near a singular matrix; the other one in single precision."""
    return np.linalg.slogdet(A)[1] + (single(x) ** 2).sum(), lambda dy: (dy * np.linalg.inv(A).T, 2 * dy * x)


@pytest.mark.parametrize("function", [square, total, log_sum_exp, in_part])
@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("scale", [0.01, 1, 1000])
def test_single_precision_inside_a_right_forward_is_never_a_fail(
    function: Callable[[Array], Any], size: int, scale: float
) -> None:
    for seed in range(3):
        x = scale * np.random.default_rng(seed).standard_normal(size)
        assert gradcheck(function, x, seed=seed).verdict in ("PASS", "UNRESOLVED", "KINK")


def test_nor_is_it_in_an_element_that_a_direction_all_but_leaves_out() -> None:
    for seed in range(12):
        x = np.random.default_rng([seed, 8]).standard_normal(12)
        assert gradcheck(the_first_alone, x, seed=seed).verdict != "FAIL"


@pytest.mark.parametrize("seed", [4, 9, 20, 22])
def test_nor_is_it_beside_an_input_that_bends(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    spectrum = 10.0 ** -np.linspace(0, rng.uniform(2, 10), 4)
    U, V = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    assert gradcheck(beside_a_bend, (U * spectrum) @ V.T, rng.standard_normal(4), seed=seed).verdict != "FAIL"


@pytest.mark.parametrize(
    ("name", "seed", "note"),
    [
        ("solve_definite: not symmetrised", 1, "A: a missing or extra term of rank 2"),
        ("solve_definite: one triangular solve of two", 12, "b: a constant factor"),
        ("log_determinant: the determinant multiplied in", 16, "A: a constant factor"),
        ("cholesky: the diagonal not halved", 11, "A: no known error explains it"),
        ("gaussian_log_likelihood: the determinant's part lost", 14, "S: a constant factor 1.000001"),
        ("qr_factors: Q's gradient dropped", 8, "A: unlike the right gradient"),  # one of Q's signs turns over nearby
        ("singular_values: of the squares", 19, "times A, and no more"),
        ("nuclear_norm: the matrix over its norm", 5, "times A, and no more"),
    ],
)
def test_a_wrong_gradient_beside_a_singular_matrix_is_a_fail(name: str, seed: int, note: str) -> None:
    """What LAPACK loses of complex numbers, differences have to tell, and φ bends within 1e-12 at the nearest."""
    [found] = judge(name, [seed])
    assert found.verdict == "FAIL" and note in found.note, found.said
