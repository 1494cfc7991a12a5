"""Wrong gradients that are hard to see never pass, and right ones that are hard to compute never fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check import taylor_test
from npora.nn.module import Array

Function = Callable[..., Any]


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# A term of the forward that complex steps do not see.


def with_norm(complete: bool) -> Function:
    def function(x: Array) -> Any:
        n = np.linalg.norm(x)

        def backward(dy: Array) -> Array:
            missing = x * float(np.sum(dy * x)) / n**3 if complete else 0.0
            return dy + 1e-4 * (dy / n - missing)

        return x + 1e-4 * x / n, backward

    return function


@pytest.mark.parametrize("seed", [0, 1])
def test_inputs_that_the_same_seed_draws_are_not_dy(seed: int) -> None:
    def cubed(x: Array) -> Any:
        length = (x * x).sum(axis=-1, keepdims=True)
        return x * length, lambda dy: 3 * dy * length  # right where dy is a multiple of x, and nowhere else

    x = drawn(seed, 3, 5)
    assert gradcheck(cubed, x, seed=seed)["x"].verdict == "FAIL"
    assert taylor_test(cubed, x, seed=seed).verdict == "FAIL"


@pytest.mark.parametrize(("shape", "seeds"), [((5,), 40), ((3, 7), 10)])
def test_a_forgotten_term_that_is_not_complex_safe_never_passes(shape: tuple[int, ...], seeds: int) -> None:
    for seed in range(seeds):
        assert gradcheck(with_norm(False), drawn(seed, *shape), seed=seed).verdict == "FAIL", seed
    for seed in range(5):
        assert gradcheck(with_norm(True), drawn(seed, *shape), seed=seed).ok, seed


def test_a_forgotten_term_of_one_small_input_is_seen_beside_large_ones() -> None:
    def function(x: Array, z: Array) -> Any:
        y = 1e6 * np.sin(x) + 1e-3 * np.cos(z) + 1e-7 * np.abs(z)
        return y, lambda dy: (1e6 * np.cos(x) * dy, -1e-3 * np.sin(z) * dy)

    for seed in range(10):
        assert gradcheck(function, drawn(seed, 6), 1 + drawn(seed + 50, 6) / 9, seed=seed).verdict != "PASS", seed


KINKED: dict[str, tuple[Function, Array]] = {
    "relu": (lambda x: (np.maximum(x, 0), lambda dy: dy * (x > 0)), np.array([0.0, 1.0, -1.0])),
    "absolute": (lambda x: (np.abs(x), lambda dy: dy * np.sign(x)), np.array([0.0, 0.4, -1.0])),
    "clip": (lambda x: (np.clip(x, -1, 1), lambda dy: dy * (np.abs(x) < 1)), np.array([1.0, 0.3, -1.0])),
    "max": (lambda x: (x.max(), lambda dy: dy * (np.arange(x.size) == x.argmax())), np.array([1.0, 0.2, 1.0])),
}


@pytest.mark.parametrize("name", KINKED)
def test_a_right_gradient_at_a_kink_does_not_fail_and_a_wrong_one_does(name: str) -> None:
    function, x = KINKED[name]
    assert all(gradcheck(function, x, seed=seed).verdict == "KINK" for seed in range(5))

    def wrong(x: Array) -> Any:
        y, backward = function(x)
        return y, lambda dy: backward(dy) + 3 * np.sum(dy)

    assert gradcheck(wrong, x).verdict == "FAIL"


# Linear in dy: at every size.


@pytest.mark.parametrize(
    "change",
    [
        lambda dy: np.clip(dy, -10, 10),
        lambda dy: np.where(np.abs(dy) < 1e-6, 0, dy),
        lambda dy: dy / np.maximum(1, np.linalg.norm(dy) / 1e3),
        lambda dy: np.where(np.abs(dy) > 1e30, np.sign(dy) * 1e30, dy),
    ],
    ids=["clipped", "small ones dropped", "norm clipped", "huge ones clipped"],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_pullback_that_is_linear_near_one_alone_fails(change: Callable[[Array], Array], dtype: str) -> None:
    for seed in range(3):
        report = gradcheck(lambda x: (x * x, lambda dy: change(dy) * 2 * x), drawn(seed, 5), seed=seed, dtype=dtype)
        assert report["backward(2ᵏ dy) = 2ᵏ backward(dy)"].verdict == "FAIL", str(report)


@pytest.mark.parametrize(
    "factors", [(1e-33, 1e-10, 1e30), (1e150, 1e150, 1e-290), (1e-150, 1e-140, 1e290), (1e-300, 1e300)]
)
def test_a_pullback_whose_numbers_leave_the_range_is_linear_still(factors: tuple[float, ...]) -> None:
    def function(x: Array) -> Any:
        y = x
        for factor in factors:
            y = y * factor

        def backward(dy: Array) -> Array:
            for factor in factors:
                dy = dy * factor
            return dy

        return y, backward

    for dtype in ("float64", "float32") if factors[0] == 1e-33 else ("float64",):
        report = gradcheck(function, drawn(1, 4), dtype=dtype)
        assert report["backward(2ᵏ dy) = 2ᵏ backward(dy)"].verdict == "PASS", str(report)


# One of millions.


def one_off(size: int, error: float, where: int) -> Function:
    def function(x: Array) -> Any:
        def backward(dy: Array) -> Array:
            dx = np.cos(x) * dy
            dx[where] += error * np.abs(dx).max()
            return dx

        return np.sin(x), backward

    return function


def test_one_element_of_millions_that_is_a_little_off_fails_and_the_report_says_from_which_size_on() -> None:
    x = drawn(3, 1_010_000)
    right = gradcheck(one_off(x.size, 0.0, 0), x)
    assert right.ok and 0 < right.rows[0].alone < 1e-6
    assert f"an error in one element alone from {right.rows[0].alone:.1e} of its" in right.notes[-1]
    assert gradcheck(one_off(x.size, 1e-4, 777_777), x).verdict == "FAIL"


def test_what_the_report_says_of_one_element_alone_is_so() -> None:
    x, seen, tries, method = drawn(4, 2100), 0, 10, "dot-product"
    for seed in range(tries):
        report = gradcheck(one_off(x.size, 0.0, 0), x, seed=seed, method=method)
        limits = [row.alone for row in report.rows if row.worst is not None]
        error = max(limits)
        assert f"; one by one: {', '.join(f'{limit:.1e}' for limit in limits)}" in report.notes[-1] and len(limits) == 3
        wrong = one_off(x.size, 1.01 * error, 200 * seed)
        seen += gradcheck(wrong, x, seed=seed, method=method).verdict == "FAIL"
    assert seen >= tries - 1


def test_a_sample_of_elements_claims_no_more_than_the_directions_beside_it_saw() -> None:
    x = drawn(5, 30, 40)
    whole, part = gradcheck(np.tanh, x, vjp=d_tanh), gradcheck(np.tanh, x, vjp=d_tanh, max_elements=9)
    assert whole.ok and part.ok and whole["x"].caught < part["x"].caught < 1e-6


def d_tanh(dy: Array, x: Array) -> Array:
    slope: Array = dy * (1 - np.tanh(x) ** 2)
    return slope


def test_a_block_of_small_gradients_is_heard_beside_large_ones() -> None:
    """A tensor whose last gradients are 1e-4 of the others'."""
    scale = np.ones(150_000)
    scale[-65_536:] = 1e-4

    def function(x: Array) -> Any:
        def backward(dy: Array) -> Array:
            dx = scale * dy
            dx[-7] *= 1.001
            return dx

        return scale * x, backward

    assert gradcheck(function, drawn(0, 150_000)).verdict == "FAIL"


# Rounding is no error.


def hilbert(n: int) -> Array:
    return 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)


def positive(condition: float, seed: int, n: int = 5) -> Array:
    Q, _ = np.linalg.qr(drawn(seed, n, n))
    A: Array = (Q * np.logspace(0, -np.log10(condition), n)) @ Q.T
    return A


def solve(A: Array, b: Array) -> Any:
    y = np.linalg.solve(A, b)

    def backward(dy: Array) -> Any:
        db = np.linalg.solve(A.T, dy)
        return -np.outer(db, y), db

    return y, backward


def solve_by(A: Array) -> Function:
    """The matrix is a constant in float64, whatever is asked for."""
    return lambda b: (np.linalg.solve(A, b), lambda dy: np.linalg.solve(A.T, dy))


def seventh(x: Array) -> Any:
    y = x**7 - 7 * x**6 + 21 * x**5 - 35 * x**4 + 35 * x**3 - 21 * x**2 + 7 * x - 1
    return y, lambda dy: dy * 7 * (x - 1) ** 6


ILL: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "a Hilbert matrix of 6": lambda seed: (solve_by(hilbert(6)), drawn(seed, 6)),
    "a Hilbert matrix of 8": lambda seed: (solve_by(hilbert(8)), drawn(seed, 8)),
    "a Hilbert matrix of 8 as input": lambda seed: (solve, hilbert(8), drawn(seed, 8)),
    "condition 1e8": lambda seed: (solve_by(positive(1e8, seed)), drawn(seed, 5)),
    "condition 1e10 as input": lambda seed: (solve, positive(1e10, seed), drawn(seed, 5)),
    "condition 1e12": lambda seed: (solve_by(positive(1e12, seed)), drawn(seed, 5)),
    "condition 1e12 as input": lambda seed: (solve, positive(1e12, seed), drawn(seed, 5)),
    "(x − 1)⁷ by its terms": lambda seed: (seventh, 1 + 1e-2 * drawn(seed, 6)),
    "(x − 1)⁷ by its terms, nearer": lambda seed: (seventh, 1 + 1e-4 * drawn(seed, 6)),
}


@pytest.mark.parametrize("name", ILL)
def test_a_right_function_that_is_ill_conditioned_never_fails(name: str) -> None:
    for seed in range(20):
        report = gradcheck(*ILL[name](seed), seed=seed)
        assert report.verdict in ("PASS", "UNRESOLVED"), f"seed {seed}:\n{report}"


@pytest.mark.parametrize("name", list(ILL)[:3])
def test_an_error_larger_than_the_rounding_fails_in_the_same_places(name: str) -> None:
    for seed in range(10):
        function, *inputs = ILL[name](seed)

        def wrong(*inputs: Array, function: Function = function) -> Any:
            y, backward = function(*inputs)

            def off(dy: Array) -> Any:
                found = backward(dy)
                return 1.01 * found if not isinstance(found, tuple) else (found[0], 1.01 * found[1])

            return y, off

        assert gradcheck(wrong, *inputs, seed=seed).verdict == "FAIL", seed


@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e30, 1e120])
def test_functions_are_checked_at_the_size_of_their_inputs(size: float) -> None:
    def ratio(error: float) -> Function:
        def function(x: Array, z: Array) -> Any:
            return x / z, lambda dy: (dy / z, -(1 + error) * dy * x / (z * z))

        return function

    x, z = size * drawn(1, 6), size * (2 + np.abs(drawn(2, 6)))
    assert gradcheck(ratio(0.0), x, z).verdict in ("PASS", "UNRESOLVED")
    assert gradcheck(ratio(1e-5), x, z).verdict != "PASS"


def test_a_forward_that_fails_beside_the_point_is_no_error() -> None:
    def looked_up(x: Array) -> Any:
        k = np.floor(np.real(x)).astype(int)
        table = np.array([1.0, 3.0, 4.0, 9.0])
        left, right = table[k], table[k + 1]
        return left + (x - k) * (right - left), lambda dy: dy * (right - left)

    assert gradcheck(looked_up, np.array([0.3, 2.98, 1.4])).verdict != "FAIL"
