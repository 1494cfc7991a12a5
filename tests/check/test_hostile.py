"""Functions made to fool a gradient check: right ones that make others cry wolf, and wrong ones that they let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.catalogue import CATALOGUE, draw
from npora.check.oracles.complex_safe import unsafe_operation
from npora.check.subject import Subject
from npora.nn import Linear, Module
from npora.nn.module import Array

rng = np.random.default_rng(0)
X = rng.standard_normal((3, 4))
AT_ZERO = np.array([0.0, 1.0, -1.0])
UNSAFE: dict[str, Any] = {
    "absolute": lambda x: (np.abs(x), lambda dy: dy * np.sign(x)),
    "np.var": lambda x: (x.var(axis=-1), lambda dy: dy[:, None] * (x - x.mean(-1, keepdims=True)) / 2),
    "np.norm": lambda x: (np.linalg.norm(x), lambda dy: dy * x / np.linalg.norm(x)),
    "np.real": lambda x: (np.real(x) ** 2, lambda dy: 2 * x * dy),
    "conjugate": lambda x: (x * np.conj(x), lambda dy: 2 * x * dy),
    "np.vdot": lambda x: (np.vdot(x, x), lambda dy: 2 * x * dy),
    "sign": lambda x: (np.sign(x) * x, lambda dy: dy * np.sign(x)),
    "astype(float64)": lambda x: (x.astype(float) ** 2, lambda dy: 2 * x * dy),
    "TypeError": lambda x: (np.hypot(x, 1), lambda dy: dy * x / np.hypot(x, 1)),
    "ComplexWarning": lambda x: (np.asarray(x, dtype=float) ** 2, lambda dy: 2 * x * dy),
}


@pytest.mark.parametrize("operation", UNSAFE)
@pytest.mark.parametrize("method", ["auto", "dot-product"])
def test_an_operation_that_is_not_complex_safe_is_named_and_differences_judge(operation: str, method: str) -> None:
    report = gradcheck(UNSAFE[operation], X, method=method)
    assert report.verdict in ("PASS", "UNRESOLVED" if method == "dot-product" else "PASS"), str(report)
    assert f"not complex-safe ({operation} in <lambda>, line " in report.notes[0]

    def twice(x: Array) -> Any:
        y, backward = UNSAFE[operation](x)
        return y, lambda dy: 1.001 * backward(dy)

    assert gradcheck(twice, X, method=method).verdict == "FAIL"


def test_an_unsafe_operation_of_little_effect_is_no_error_of_the_gradient() -> None:
    def faint(x: Array, z: Array) -> Any:
        y = 1e3 * np.sin(x) + 1e-9 * np.abs(z)
        return y, lambda dy: (1e3 * np.cos(x) * dy, 1e-9 * np.sign(z) * dy)

    report = gradcheck(faint, X, X + 1)
    assert report.verdict in ("PASS", "UNRESOLVED"), str(report)


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_layer_has_an_unsafe_operation(name: str) -> None:
    for seed in range(3):
        layer, inputs, keywords = draw(name, seed, 0.01**seed)
        subject = Subject(layer, inputs, keywords, None, np.float64, np.random.default_rng(seed))
        assert unsafe_operation(subject) == ""


def scaled(c: float, error: float = 0.0) -> Callable[[Array], Any]:
    return lambda x: (c * np.sin(x), lambda dy: (1 + error) * c * np.cos(x) * dy)


def relu(half: float = 0.0) -> Callable[[Array], Any]:
    return lambda x: (np.maximum(x, 0), lambda dy: dy * ((x > 0) + half * (x == 0)))


def fast(w: float, error: float = 0.0) -> Callable[[Array], Any]:
    return lambda x: (np.sin(w * x), lambda dy: (1 + error) * w * np.cos(w * x) * dy)


def folded(w: float) -> Callable[[Array], Any]:
    return lambda x: (np.abs(np.sin(w * x)), lambda dy: w * np.cos(w * x) * np.sign(np.sin(w * x)) * dy)


def first_of_ties(x: Array) -> Any:
    return x.max(), lambda dy: dy * (np.arange(x.size) == x.argmax())


def power(x: Array) -> Any:
    with np.errstate(invalid="ignore"):
        return x**1.5, lambda dy: 1.5 * x**0.5 * dy


def noisy(x: Array) -> Any:
    return x * x + 1e-3 * np.random.default_rng().standard_normal(x.shape), lambda dy: 2 * x * dy


def single_inside(x: Array) -> Any:
    return (x.astype(np.float32) ** 2).astype(x.dtype), lambda dy: 2 * x * dy


def uneven(error: float) -> Callable[[Array, Array], Any]:
    """Two inputs, the second with gradients 1e-14 of the first's."""
    return lambda x, z: (
        np.sin(x) + 1e-14 * np.sin(z),
        lambda dy: (np.cos(x) * dy, (1 + error) * 1e-14 * np.cos(z) * dy),
    )


@pytest.mark.parametrize(
    ("function", "inputs", "options", "verdict"),
    [
        (scaled(1e-30), (X,), {}, "PASS"),
        (scaled(1e-30, -2), (X,), {}, "FAIL"),
        (scaled(1e-200, -2), (X,), {}, "FAIL"),
        (scaled(1e-310), (X,), {}, "PASS"),  # complex steps vanish: by differences
        (scaled(1e306), (X,), {}, "PASS"),
        (lambda x: (np.sin(x) + 1e8, lambda dy: np.cos(x) * dy), (X,), {"method": "central"}, "UNRESOLVED"),
        (fast(1e4), (X,), {}, "PASS"),
        (fast(1e4, 1e-3), (X,), {}, "FAIL"),
        (fast(1e8), (1e-8 * X,), {}, "PASS"),
        (folded(1e2), (X,), {}, "PASS"),
        (folded(1e6), (X,), {}, "PASS"),
        (relu(), (AT_ZERO,), {}, "KINK"),
        (relu(0.5), (AT_ZERO,), {}, "KINK"),
        (relu(2), (AT_ZERO,), {}, "FAIL"),
        (relu(), (AT_ZERO,), {"method": "dot-product"}, "KINK"),
        (relu(), (np.array([1e-7, 1, -1e-7]),), {"method": "central"}, "PASS"),
        (first_of_ties, (np.array([1.0, 1.0, 0.0]),), {}, "KINK"),
        (lambda x: (np.clip(x, -1, 1), lambda dy: dy * (abs(x) < 1)), (AT_ZERO,), {}, "KINK"),
        (lambda x: ((x > 0) + x, lambda dy: dy), (AT_ZERO,), {}, "KINK"),  # a jump
        (lambda x: (np.maximum(x, 0) ** 2, lambda dy: 2 * np.maximum(x, 0) * dy), (AT_ZERO,), {}, "PASS"),
        (power, (np.abs(AT_ZERO),), {}, "UNRESOLVED"),  # at 0 there is nothing to the left
        (power, (np.abs(AT_ZERO),), {"method": "central"}, "UNRESOLVED"),
        (power, (np.abs(X),), {"method": "central"}, "PASS"),
        (single_inside, (X,), {}, "UNRESOLVED"),
        (noisy, (X,), {}, "FAIL"),
        (lambda x: (0 * x, lambda dy: 0 * dy), (X,), {}, "VACUOUS"),
        (lambda x: (0 * x, lambda dy: 0 * dy), (X,), {"method": "dot-product"}, "VACUOUS"),
        (uneven(0), (X, X + 1), {}, "PASS"),
        (uneven(-2), (X, X + 1), {}, "FAIL"),
        (uneven(-2), (X, X + 1), {"method": "dot-product"}, "FAIL"),
    ],
)
def test_a_function_that_fools_others(function: Any, inputs: Any, options: Any, verdict: str) -> None:
    report = gradcheck(function, *inputs, **options)
    assert report.verdict == verdict, str(report)


def test_randomness_in_the_forward_alone_is_seen() -> None:
    assert gradcheck(noisy, X)["two forwards give the same bits"].note.startswith("the output differs")


def test_a_wrong_element_that_was_not_sampled_is_felt_in_a_direction() -> None:
    def one_off(x: Array) -> Any:
        return x * x, lambda dy: 2 * x * dy * (1 + 1e-3 * (np.arange(x.size) == 7777))

    report = gradcheck(one_off, rng.standard_normal(10_000), max_elements=10)
    assert report["x"].verdict == "FAIL" and "An element that was not looked at is wrong" in report["x"].note
    assert ", in one element alone: [7777]. An" in report["x"].note  # by blocks, halved time after time
    assert gradcheck(lambda x: (x * x, lambda dy: 2 * x * dy), rng.standard_normal(10_000), max_elements=10).ok


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([(2, 1, 6)], "in one element alone: [2, 1, 6]"),
        ([(0, 0, 0)], "in one element alone: [0, 0, 0]"),
        ([(1, 2, 5), (1, 2, 6)], "between [1, 2, 4] and [2, 0, 0] alone"),
        ([(0, 0, 1), (2, 2, 6)], "differ"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sparse_error_is_placed_by_blocks(wrong: Any, said: str, dtype: str) -> None:
    def off(x: Array, z: Array) -> Any:
        def backward(dy: Array) -> Any:
            dx = 2 * x * dy
            for index in wrong:
                dx[index] += 1
            return dx, dy

        return x * x + z, backward

    x = np.random.default_rng(3).standard_normal((3, 3, 7)).astype(dtype)
    report = gradcheck(off, x, x, method="dot-product", dtype=dtype)
    assert report["x"].note.endswith(said) and "z" not in {row.name for row in report.rows}


@pytest.mark.parametrize("method", ["complex", "dot-product"])
def test_a_tensor_too_small_beside_the_others_is_judged_by_its_own_rounding(method: str) -> None:
    def far(sign: int) -> Any:
        return lambda x, z: (
            np.sin(x) + 1e-20 * np.sin(z),
            lambda dy: (np.cos(x) * dy, sign * 1e-20 * np.cos(z) * dy),
        )

    assert gradcheck(far(1), X, X + 1, method=method).ok
    report = gradcheck(far(-1), X, X + 1, method=method)
    assert report["z"].verdict == "FAIL" and all(row.verdict == "PASS" for row in report.rows if row.name == "x")


class Tied(Module):
    """One weight, used twice: its gradient is a sum of two already."""

    def __init__(self) -> None:
        self.inner = Linear(4, 4, bias=False, rng=0)

    def forward(self, x: Array) -> Any:
        a, back_first = self.inner(x)
        y, back_second = self.inner(np.tanh(a))
        return y, lambda dy: back_first(back_second(dy) * (1 - np.tanh(a) ** 2))


@pytest.mark.parametrize("seed", range(5))
def test_a_parameter_used_twice_is_no_false_alarm(seed: int) -> None:
    gradcheck(Tied(), X, seed=seed).raise_if_failed()


def test_a_pullback_that_can_be_called_but_once_is_told_so() -> None:
    def once(x: Array) -> Any:
        kept = [x]
        return x * x, lambda dy: 2 * kept.pop() * dy

    report = gradcheck(once, X)
    assert report["x"].verdict == "PASS" and report.verdict == "FAIL"
    assert (
        report["backward twice gives the same bits"].note == "the second time it raised IndexError: pop from empty list"
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vjp": 3}, TypeError, "vjp must be a function, called as vjp"),
        ({"seed": None}, ValueError, "seed must be a whole number, 0 or more; got None"),
        ({"max_elements": 0}, ValueError, "max_elements must be a whole number, 1 or more; got 0"),
        ({"steps": -1}, ValueError, "steps must be a whole number, 0 or more; got -1"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        gradcheck(lambda x: (x, lambda dy: dy), X, **options)


@pytest.mark.parametrize("seed", range(4))
def test_a_pullback_that_is_right_for_one_sign_of_dy_alone_fails(seed: int) -> None:
    for sign in (1, -1):
        half = lambda x, sign=sign: ((x * x).sum(), lambda dy: 2 * x * np.maximum(sign * dy, 0) * sign)  # noqa: E731
        assert gradcheck(half, X, seed=seed).verdict == "FAIL"


def test_a_gradient_for_integers_is_an_error_that_says_so() -> None:
    class Table(Linear):
        def forward(self, rows: Array, rng: Any = None) -> Any:
            return self.weight.data[rows], lambda dy: dy

    with pytest.raises(ValueError, match=r"expected 0: .* for integers return None"):
        gradcheck(Table(4, 4), np.array([0, 2]))
