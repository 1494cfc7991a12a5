"""Each oracle on functions whose derivatives are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npora.check import taylor_test, v_curve
from npora.check.oracles.complex_step import complex_slope, complex_step
from npora.check.oracles.richardson import coordinate, direction, extrapolate, noise_level, noise_of
from npora.check.subject import Subject
from npora.check.verdict.kinks import kink
from npora.nn import functional as F
from npora.nn.module import Array


def cubic(x: Array) -> tuple[Array, Any]:
    """By hand: x³ at (1, −2) has the slopes 3 and 12; with dy = (2, 5) they count 6 and 60."""
    return x**3, lambda dy: 3 * x * x * dy


X, DY = np.array([1.0, -2.0]), (np.array([2.0, 5.0]),)


def test_the_complex_step_is_exact_to_rounding() -> None:
    bench = Subject(cubic, (X,), {}).at(np.complex128)
    np.testing.assert_allclose(complex_step(bench, DY, "x", [(0,), (1,)]), [6, 60], rtol=4e-16)
    assert complex_slope(bench, DY, {"x": np.array([1.0, 0.5])}) == pytest.approx(36, rel=4e-16)
    assert (bench.arrays["x"] == X).all()


def test_central_differences_are_within_their_error_bar_which_is_small() -> None:
    bench = Subject(cubic, (X,), {}).at(np.float64)
    noise = noise_of(bench, DY, {"x": np.ones(2)})
    v = {"x": np.array([1.0, 0.5])}
    lines = coordinate(bench, DY, "x", (0,)), coordinate(bench, DY, "x", (1,)), direction(bench, DY, v)
    for line, expected in zip(lines, (6, 60, 36), strict=True):
        slope, bar = extrapolate(line, noise)
        assert abs(slope - expected) <= bar < 1e-9
    assert (bench.arrays["x"] == X).all()


@pytest.mark.parametrize(
    ("function", "slope"),
    [(math.exp, 1.0), (math.sin, 1.0), (lambda t: math.log(0.02 + t) if t > -0.02 else math.nan, 50.0)],
)
def test_a_table_of_differences_knows_how_good_it_is(function: Any, slope: float) -> None:
    found, bar = extrapolate(function, 1e-16)
    assert abs(found - slope) <= bar <= 1e-6 * slope


def test_a_table_of_differences_is_not_taken_in_by_steps_wider_than_what_the_function_does() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        a, b, c = draw.standard_normal(3)
        width, size = 10 ** draw.uniform(-4, 0), 10 ** draw.uniform(-15, -2)

        def function(t: float, a: float = a, b: float = b, c: float = c, w: float = width, s: float = size) -> float:
            z = t / w
            return 0.1 + s * (a * math.tanh(z) + b * z / (1 + z * z) + c * math.sin(0.2 * z) * math.exp(-z * z / 81))

        found, bar = extrapolate(function, 4e-17)
        assert bar == math.inf or abs(found - size / width * (a + b + 0.2 * c)) <= bar


def test_a_function_that_is_nowhere_finite_has_an_infinite_bar() -> None:
    found, bar = extrapolate(lambda t: math.nan, 1e-16)
    assert math.isnan(found) and bar == math.inf


def test_noise_is_seen_through_a_smooth_trend() -> None:
    rng = np.random.default_rng(0)
    levels = [noise_level(list(3 + 0.1 * np.arange(7) + 1e-9 * rng.standard_normal(7)), 3.0) for _ in range(20)]
    assert 2e-10 < np.median(levels) < 5e-9
    assert noise_level([3.0] * 7, 3.0) == 4 * 2.0**-53 * 3


def test_a_kink_is_where_the_two_slopes_stay_apart() -> None:
    assert kink(abs, 1e-16) == (-1, 1)
    assert kink(lambda t: t * t, 1e-16) is None
    assert kink(lambda t: abs(t - 1e-3), 1e-16) is None  # too far away to matter


def test_the_taylor_test_has_slopes_two_and_three_and_one_for_a_wrong_gradient() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    right = taylor_test(F.silu, x)
    assert right.verdict == "PASS"
    assert right.one_sided_slope == pytest.approx(2, abs=0.1) and right.centred_slope == pytest.approx(3, abs=0.1)

    def wrong(x: Array) -> tuple[Array, Any]:
        y, backward = F.silu(x)
        return y, lambda dy: 1.0005 * backward(dy)

    result = taylor_test(wrong, x)
    assert result.verdict == "FAIL" and result.centred_slope == pytest.approx(1, abs=0.1)
    assert "slopes: one-sided" in str(result)


def test_the_taylor_test_of_a_linear_function_has_nothing_but_rounding_left() -> None:
    result = taylor_test(lambda x: (3 * x, lambda dy: 3 * dy), np.ones(3))
    assert result.verdict == "PASS" and math.isnan(result.centred_slope)


def test_the_taylor_test_sees_tiny_gradients_and_does_not_pass_what_is_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    for error, verdict in ((0.0, "PASS"), (1e-3, "FAIL"), (-2.0, "FAIL")):

        def tiny(x: Array, error: float = error) -> tuple[Array, Any]:
            return 1e-20 * np.sin(x), lambda dy: (1 + error) * 1e-20 * np.cos(x) * dy

        assert taylor_test(tiny, x).verdict == verdict
        line = lambda x, error=error: (3e-12 * x, lambda dy: (1 + error) * 3e-12 * dy)  # noqa: E731
        assert taylor_test(line, x).verdict == verdict
    assert taylor_test(lambda x: (0 * x, lambda dy: 0 * dy), x).verdict == "VACUOUS"


def test_the_v_curve_refuses_what_it_has_no_exact_derivative_of() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    with pytest.raises(ValueError, match="not complex-safe: absolute in"):
        v_curve(lambda x: (np.abs(x), lambda dy: dy * np.sign(x)), x)
    with pytest.raises(ValueError, match="the gradient is zero at every coordinate"):
        v_curve(lambda x: (0 * x, lambda dy: 0 * dy), x)


def test_the_v_curve_has_its_tips_where_theory_puts_them() -> None:
    curve = v_curve(F.gelu_tanh, np.random.default_rng(0).standard_normal((3, 5)))
    best = {name: min(values) for name, values in curve.errors.items()}
    assert best["complex float64"] < 1e-15 < best["Richardson float64"] < best["five-point float64"]
    assert best["five-point float64"] < best["central float64"] < best["forward float64"]
    assert best["central float64"] < 1e-9 and best["central float32"] > 1e-7
    assert curve.errors["complex float64"][-1] < 1e-15  # at h = 1e-16, where every difference is lost
    assert curve.errors["central float64"][-1] > 0.1
