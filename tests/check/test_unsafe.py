"""What is no oracle is not believed, and what is said of a tensor goes by that tensor's own rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.nn.module import Array


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def faint_determinant(missing: float) -> Any:
    """log det A, of which complex steps see nothing, beside a term larger by far."""

    def function(A: Array) -> Any:
        y = np.array([np.linalg.slogdet(A)[1], 1e9 * np.sum(np.sin(A))])
        return y, lambda dy: (1 - missing) * dy[0] * np.linalg.inv(A).T + 1e9 * dy[1] * np.cos(A)

    return function


def test_an_operation_that_loses_imaginary_parts_is_no_oracle_though_no_difference_contradicts_it() -> None:
    for seed in range(5):
        A = 3 * np.eye(3) + 0.3 * drawn(seed, 3, 3)
        report = gradcheck(faint_determinant(0), A, seed=seed)
        assert report["A"].verdict in ("PASS", "UNRESOLVED") and report["A"].method == "central", str(report)
        assert "not complex-safe (np.slogdet in function" in report.notes[0]


def test_an_operation_whose_loss_is_of_no_effect_leaves_the_oracle_exact() -> None:
    def unit(x: Array) -> Any:
        """The largest is for scale alone."""
        s = np.abs(x).max()
        n = s * np.sqrt(np.sum((x / s) ** 2))
        return x / n, lambda dy: (dy - x / n * np.sum(dy * x / n)) / n

    report = gradcheck(unit, 1e120 * drawn(1, 5))
    assert report.ok and report["x"].method == "complex", str(report)


SCALES = [(1e-70, 1e50), (1e40, 1e-90), (1.0, 1e-30)]


@pytest.mark.parametrize("method", ["complex", "dot-product"])
@pytest.mark.parametrize("scales", SCALES)
def test_a_gradient_that_is_tiny_beside_another_is_judged(scales: tuple[float, float], method: str) -> None:
    def times(c: float) -> Any:
        return lambda x, z: (x * z, lambda dy: (c * dy * z, dy * x))

    x, z = scales[0] * drawn(1, 3, 4), scales[1] * drawn(2, 3, 4)
    for one, other in ((x, z), (z, x)):
        assert gradcheck(times(1), one, other, method=method).ok
        report = gradcheck(times(1.001), one, other, method=method)
        assert report["x"].verdict == "FAIL" and report["x" if method == "dot-product" else "z"].verdict != "VACUOUS"


@pytest.mark.parametrize("method", ["complex", "dot-product"])
def test_gradients_whose_squares_leave_the_range_are_judged(method: str) -> None:
    def times(swapped: bool) -> Any:
        return lambda x, z: (x * z, lambda dy: (dy * x, dy * z) if swapped else (dy * z, dy * x))

    for sizes in ((1e32, 1e119), (1e-90, 1e-120)):
        x, z = sizes[0] * drawn(1, 3, 4), sizes[1] * drawn(2, 3, 4)
        assert gradcheck(times(False), x, z, method=method).ok
        assert gradcheck(times(True), x, z, method=method).verdict == "FAIL"


@pytest.mark.parametrize("method", ["complex", "central", "dot-product"])
def test_a_singular_value_near_zero_is_smooth(method: str) -> None:
    def smallest(A: Array) -> Any:
        U, s, V = np.linalg.svd(A, full_matrices=False)
        return s[-1], lambda dy: dy * np.outer(U[:, -1], V[-1])

    for seed, least in enumerate((1e-5, 1e-7, 1e-9, 1e-12)):
        U, s, V = np.linalg.svd(drawn(seed, 4, 3), full_matrices=False)
        s[-1] = least
        assert gradcheck(smallest, (U * s) @ V, seed=seed, method=method).verdict in ("PASS", "UNRESOLVED"), least


@pytest.mark.parametrize("unit", [1e-100, 1e100])
def test_directions_are_as_long_as_what_they_move(unit: float) -> None:
    def logarithm(c: float) -> Any:
        def function(x: Array) -> Any:
            s = np.abs(x).max()
            square = np.sum((x / s) ** 2)
            return np.log(s) + np.log(square) / 2, lambda dy: c * dy * x / s / s / square

        return function

    assert gradcheck(logarithm(1.0), unit * drawn(3, 6), method="dot-product").ok
    assert gradcheck(logarithm(1.0001), unit * drawn(3, 6), method="dot-product").verdict == "FAIL"


def test_rounding_that_cannot_be_measured_is_said() -> None:
    def strict(x: Array) -> Any:
        if type(x) is not np.ndarray:
            raise TypeError("arrays alone")
        return np.sin(x), lambda dy: 1.001 * np.cos(x) * dy

    report = gradcheck(strict, drawn(4, 5))
    assert report.verdict == "FAIL"
    assert "rounding could not be measured: TypeError: arrays alone" in " ".join(report.notes)
