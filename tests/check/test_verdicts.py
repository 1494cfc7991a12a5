"""The rule from differences to verdicts, by hand, and what a whole check says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check.verdict.comparison import compare, is_rounding
from npora.lora import LoRALinear
from npora.nn import Linear, Module, Parameter
from npora.nn import functional as F
from npora.nn.module import Array

U = 2.0**-53
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("a", "n", "everywhere", "verdict"),
    [
        ([1.0, 0.5], [1.0, 0.5], 1.0, "PASS"),
        ([1.0, 0.5 + 2**12 * U], [1.0, 0.5], 1.0, "PASS"),  # below 2¹³ u
        ([1.0, 0.5 + 2**14 * U], [1.0, 0.5], 1.0, "FAIL"),
        ([1.0, 0.5 + 2**14 * U], [1.0, 0.5], 4.0, "UNRESOLVED"),  # a larger tensor's rounding; 3.6e-12 of 0.5 agrees
        ([1.0, 0.0], [1.0, 0.0], 1.0, "PASS"),  # an element that the formula leaves out
        ([1.0, 1e-17], [1.0, 0.0], 1.0, "PASS"),  # and one that it does not, of a rounding alone
        ([1.0, 0.0], [1.0, 1e-17], 1.0, "PASS"),
        ([1.0, -1e-13], [1.0, 1e-13], 1.0, "UNRESOLVED"),  # a sign that cannot be seen
        ([1.0, -1e-11], [1.0, 1e-11], 1.0, "FAIL"),  # and one that can
        ([0.0, 0.0], [0.0, 0.0], 1.0, "VACUOUS"),
        ([0.0, 1e-3], [0.0, 0.0], 1.0, "FAIL"),
        ([1.0, np.nan], [1.0, 0.5], 1.0, "FAIL"),
        ([2e-20, -1e-20], [1e-20, 1e-20], 1.0, "VACUOUS"),  # lost in the rounding of the other tensors
    ],
)
def test_an_element_is_judged_by_its_tensors_scale(a: Any, n: Any, everywhere: float, verdict: str) -> None:
    found = compare(np.array(a), np.array(n), 0.0, everywhere, np.float64)
    # Where a difference above the tensor's own tolerance agrees to 1e-6, it is still too large to be called right.
    assert found.verdict == verdict


def test_an_error_bar_widens_the_tolerance_and_what_is_inside_it_is_not_called_right() -> None:
    a, n = np.array([1.0, 1e-6]), np.array([1.0 + 1e-9, 1.5e-6])
    assert compare(a, n, np.array([1e-8, 1e-6]), 1.0, np.float64).verdict == "UNRESOLVED"
    assert compare(a, n, np.array([1e-8, 1e-13]), 1.0, np.float64).verdict == "FAIL"


def test_what_is_not_finite_fails_also_where_nothing_is_known() -> None:
    for a in (np.inf, -np.inf, np.nan):
        assert compare(np.array([a, 1.0]), np.ones(2), np.array([np.inf, 0.0]), 1.0, np.float64).verdict == "FAIL"


def test_rounding_shrinks_with_the_unit_roundoff_and_a_wrong_formula_does_not() -> None:
    assert is_rounding(np.float64, 1e-16, 1e-7) and is_rounding(np.float32, 1e-7, 1e-16)
    assert not is_rounding(np.float64, 1e-8, 1e-7)
    assert not is_rounding(np.float64, 1e-16, np.inf) and not is_rounding(np.float64, np.nan, 1e-7)


def test_rounding_that_cancels_along_a_direction_in_single_precision_is_rounding_still() -> None:
    """A row of two near equals, of which LayerNorm keeps the order alone."""
    x = 2 * np.random.default_rng(0).standard_normal((5, 8, 2))
    x[0, 1] = 2.9, 2.88

    def wrong(x: Array, eps: float) -> Any:
        y, backward = F.normalize(x, eps)
        return y, lambda dy: backward(dy) * (1 + 1e-6)

    for seed in range(10):
        report = gradcheck(F.normalize, x, eps=1e-5, method="dot-product", seed=seed)
        assert report.verdict in ("PASS", "UNRESOLVED"), str(report)
        assert gradcheck(wrong, x, eps=1e-5, method="dot-product", seed=seed).verdict == "FAIL"


def test_a_forward_that_is_rounded_to_a_plateau_does_not_say_what_its_gradient_is() -> None:
    """log(1 + e⁻⁴⁰) is 0 in float64, there and all around; its slope, −e⁻⁴⁰, is not."""
    z = np.array([[40.0]])

    def softplus(z: Array) -> Any:
        e = np.exp(-z)
        return np.log(1 + e), lambda dy: -dy * e / (1 + e)

    for method in ("complex", "central", "dot-product"):
        assert gradcheck(softplus, z, method=method).verdict in ("PASS", "UNRESOLVED", "VACUOUS")

    def constant(z: Array) -> Any:
        return np.zeros(1), lambda dy: np.full(z.shape, 3.0 * dy[0])

    for method in ("complex", "central", "dot-product"):
        assert gradcheck(constant, z, method=method).verdict == "FAIL"


def fresh_lora() -> LoRALinear:
    return LoRALinear(Linear(5, 3, rng=1), r=2, lora_alpha=3, rng=2)


def test_at_zero_b_the_gradient_of_a_is_vacuous_unless_b_is_moved_first() -> None:
    x = rng.standard_normal((4, 5))
    report = gradcheck(fresh_lora(), x, randomize=False)
    assert report["lora_A.default.weight"].verdict == "VACUOUS" and not report
    layer = fresh_lora()
    report = gradcheck(layer, x)
    assert report.ok and "lora_B.default.weight" in report.notes[0]
    assert not layer.get_parameter("lora_B.default.weight").data.any()  # the layer itself is as it was


def test_steps_of_an_optimiser_move_off_zero_too() -> None:
    assert gradcheck(fresh_lora(), rng.standard_normal((4, 5)), randomize=False, steps=2).ok


def test_a_tiny_gradient_with_the_wrong_sign_fails() -> None:
    def mean_loss(x: Array) -> tuple[Any, Any]:
        return 1e-6 * np.mean(x * x), lambda dy: -2e-6 * x / x.size * dy

    report = gradcheck(mean_loss, rng.standard_normal(50))
    assert report.verdict == "FAIL" and "the sign" in report["x"].note


def test_at_a_kink_the_slopes_of_both_sides_are_shown() -> None:
    x = np.array([0.7, 0.0, -0.3])
    report = gradcheck(F.relu, x)
    assert report["x"].verdict == "KINK" and "at [1] the slopes are 0 and" in report["x"].note
    near = np.array([0.7, 1e-7, -1e-7])
    assert gradcheck(F.relu, near).ok  # the complex step sees no kink that far
    assert gradcheck(F.relu, near, method="central").verdict in ("KINK", "PASS")

    def wrong(x: Array) -> tuple[Array, Any]:
        return np.maximum(x, 0), lambda dy: dy * np.where(x == 0, 3.0, x > 0)

    assert gradcheck(wrong, x).verdict == "FAIL"  # 3 is no slope of either side


def test_a_forward_that_is_not_complex_safe_is_named_and_says_nothing_against_the_gradient() -> None:
    def centred(x: Array) -> tuple[Array, Any]:
        sigma = x.std(axis=-1, keepdims=True)
        xhat = (x - x.mean(axis=-1, keepdims=True)) / sigma

        def backward(dy: Array) -> Array:
            dx = dy - dy.mean(axis=-1, keepdims=True)
            return (dx - xhat * (dy * xhat).mean(axis=-1, keepdims=True)) / sigma

        return xhat, backward

    report = gradcheck(centred, rng.standard_normal((3, 5)))
    assert report.ok and report["x"].method == "central"
    assert "np.std in centred, line" in report.notes[0]

    def absolute(x: Array) -> tuple[Array, Any]:
        return np.abs(x), lambda dy: dy * np.sign(x)

    report = gradcheck(absolute, rng.standard_normal(4))
    assert report.ok and "absolute in absolute, line" in report.notes[0]

    def cast(x: Array) -> tuple[Array, Any]:
        y = np.empty(x.shape)
        y[...] = x * x
        return y, lambda dy: 2 * x * dy

    report = gradcheck(cast, rng.standard_normal(4))
    assert report.ok and "not complex-safe" in report.notes[0]


def test_a_pair_of_plain_functions_can_be_checked() -> None:
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    assert gradcheck(np.matmul, a, b, vjp=lambda dy, a, b: (dy @ b.T, a.T @ dy)).ok
    report = gradcheck(lambda a, b: a @ b, a, b, vjp=lambda dy, a, b: (dy @ b.T, 2 * a.T @ dy))
    assert report["a"].verdict == "PASS" and report["b"].verdict == "FAIL"


def test_a_function_of_several_outputs_gets_an_upstream_gradient_for_each() -> None:
    def both(x: Array, y: Array) -> tuple[tuple[Array, Array], Any]:
        return (x * y, x + y), lambda d, e: (d * y + e, d * x + e)

    assert gradcheck(both, rng.standard_normal(3), rng.standard_normal(3)).ok


def test_a_float32_backward_is_compared_with_the_derivative_in_float64() -> None:
    def coarse(x: Array) -> tuple[Array, Any]:
        return x * x, lambda dy: (1 + 1e-3) * 2 * x * dy

    x = rng.standard_normal((3, 4))
    assert gradcheck(F.tanh, x, dtype="float32").ok
    assert gradcheck(coarse, x, dtype="float32").verdict == "FAIL"


def test_an_underflow_in_float32_is_no_lack_of_linearity() -> None:
    def thin(x: Array) -> tuple[Array, Any]:
        a, b, c = (np.array([1, value], np.float32).astype(x.dtype) for value in (1e-33, 1e-10, 1e9))
        return x * a * b * c, lambda dy: dy * a * b * c

    report = gradcheck(thin, np.array([0.3, 0.7]), dtype="float32", seed=6)
    assert report["backward(−2 dy) = −2 backward(dy)"].verdict == "PASS" and report.verdict == "UNRESOLVED"


def test_where_no_difference_is_to_be_had_there_is_no_verdict() -> None:
    def half(x: Array) -> tuple[Array, Any]:
        with np.errstate(invalid="ignore"):
            return x**1.5, lambda dy: 1.5 * x**0.5 * dy

    x = np.array([0.7, 0.0, 0.3])  # at 0 there is nothing to the left
    assert gradcheck(half, x, method="central").verdict == "UNRESOLVED"
    assert gradcheck(half, x[::2], method="central").ok


def test_one_wrong_element_of_many_is_found_with_its_index_and_both_values() -> None:
    def one_off(x: Array) -> tuple[Array, Any]:
        def backward(dy: Array) -> Array:
            dx = np.cos(x) * dy
            dx[7, 11] *= 1.01
            return dx

        return np.sin(x), backward

    report = gradcheck(one_off, rng.standard_normal((40, 40)))
    worst = report["x"].worst
    assert report.verdict == "FAIL" and worst is not None and worst.index == (7, 11)
    assert worst.analytic / worst.numeric == pytest.approx(1.01)
    assert report["x"].note == "wrong at one element, [7, 11]: there 1.01 times what is right"


def test_more_elements_than_asked_for_are_sampled() -> None:
    report = gradcheck(F.tanh, rng.standard_normal((30, 30)), max_elements=50)
    assert report.ok and report["x"].checked == 50 and report["x"].shape == (30, 30)


def test_a_report_is_true_only_where_everything_passes_and_says_how_to_run_it_again(tmp_path: Path) -> None:
    x = rng.standard_normal((2, 3))
    report = gradcheck(F.tanh, x, seed=5)
    assert report and report.verdict == "PASS" and 0 < report["x"].caught < 1e-11
    assert "npora.gradcheck(tanh, float64[2,3], seed=5)" in str(report)
    report.raise_if_failed()
    content = json.loads(report.to_json(tmp_path / "report.json"))
    assert content == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["ok"] is True and content["rows"][0]["name"] == "x" and content["rows"][0]["worst"]["name"] == "x"
    with pytest.raises(KeyError, match="there is no row 'z'; there are x,"):
        report["z"]
    bad = gradcheck(lambda x: (x * x, lambda dy: dy * x), x)
    assert not bad and len(bad.elements) == 6
    with pytest.raises(AssertionError, match=r"a constant factor 0\.5"):
        bad.raise_if_failed()


def test_a_report_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    gradcheck(F.tanh, rng.standard_normal((2, 3))).plot(tmp_path / "map.svg")
    assert (tmp_path / "map.svg").stat().st_size > 1000


class Scaled(Module):
    def __init__(self, forward: Any) -> None:
        self.weight = Parameter(np.array([2.0, 3.0]))
        self._forward = forward

    def forward(self, x: Array) -> Any:
        return self._forward(self, x)


BAD = {
    "no pullback": (
        lambda x: x * x, (np.ones(3),), TypeError,
        r"returned an array of float64, shape \(3,\), expected \(y, backward\)",
    ),
    "too few gradients": (
        lambda x, y: (x * y, lambda dy: dy * y), (np.ones(3), np.ones(3)), ValueError,
        r"backward returned 1 gradients, expected 2: one for each floating-point input \(x, y\)",
    ),
    "wrong shape": (
        lambda x: (x.sum(axis=0), lambda dy: dy[:, None]), (np.ones((2, 3)),), ValueError,
        r"the gradient of x has shape \(3, 1\), expected \(2, 3\)",
    ),
    "transposed shape": (lambda x: (x, lambda dy: dy.T), (np.ones((2, 3)),), ValueError, "the shape of the transpose"),
    "nan in the forward": (
        lambda x: (np.log(x), lambda dy: dy / x), (np.array([1.0, -1.0]),), ValueError,
        r"gave nan in output 0 at \(1,\)",
    ),
    "nan in the input": (lambda x: (x, lambda dy: dy), (np.array([1.0, np.nan]),), ValueError, "x holds nan or inf"),
    "empty": (lambda x: (x, lambda dy: dy), (np.ones((0, 3)),), ValueError, r"x is empty, of shape \(0, 3\)"),
    "integers": (lambda x: (x, lambda dy: dy), (np.arange(3),), TypeError, "given no floating-point array"),
    "complex": (lambda x: (x, lambda dy: dy), (np.ones(2) * 1j,), TypeError, "input 0 is complex"),
    "no function": (3, (np.ones(2),), TypeError, "expected a Module or a function"),
    "integer output": (
        lambda x: (np.argmax(x), lambda dy: dy), (np.ones(2),), TypeError, "expected floating-point arrays",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input_is_an_error_that_says_which_and_what_was_expected(name: str) -> None:
    function, inputs, error, message = BAD[name]
    with pytest.raises(error, match=message):
        gradcheck(function, *inputs)
    with pytest.raises(ValueError, match="method must be one of auto, complex"):
        gradcheck(F.tanh, np.ones(2), method="guess")
    with pytest.raises(ValueError, match="dtype must be one of float64, float32, float16, bfloat16; got int32"):
        gradcheck(F.tanh, np.ones(2), dtype="int32")
