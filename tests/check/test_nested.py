"""Arrays in structures, and what has no gradient: empty arrays, integers, constants; None where one is due."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from npora import gradcheck
from npora.check import taylor_test, v_curve
from npora.nn import Linear, Module
from npora.nn.module import Array

X = np.random.default_rng(0).standard_normal((2, 3))


@dataclass(frozen=True)
class State:
    h: Any
    c: Any
    steps: int = 3


class Pair(NamedTuple):
    left: Any
    right: Any


def compared(report: Any) -> list[str]:
    return [row.name for row in report.rows if row.worst is not None]


def with_gradients(a: Array, b: Array, error: float, build: Any) -> Any:
    """y = sin(a) + b², and its gradients as `build` puts them together, the second of them off by a factor."""
    return np.sin(a) + b * b, lambda dy: build(np.cos(a) * dy, (1 + error) * 2 * b * dy)


NESTED: dict[str, Any] = {
    "tuple": ((X, X + 1), lambda p, e: with_gradients(*p, e, lambda a, b: (a, b)), ["p[0]", "p[1]"]),
    "tuple in a tuple": ((X, X + 1), lambda p, e: with_gradients(*p, e, lambda a, b: ((a, b),)), ["p[0]", "p[1]"]),
    "list": ([X, X + 1], lambda p, e: with_gradients(*p, e, lambda a, b: [a, b]), ["p[0]", "p[1]"]),
    "dict": (
        {"a": X, "b": X + 1, "lr": 0.1, "k": np.arange(3)},
        lambda p, e: with_gradients(p["a"], p["b"], e, lambda a, b: {"b": b, "a": a, "lr": None}),
        ["p['a']", "p['b']"],
    ),
    "ordered": (
        OrderedDict(a=X, b=X + 1),
        lambda p, e: with_gradients(p["a"], p["b"], e, lambda a, b: {"b": b, "a": a}),
        ["p['a']", "p['b']"],
    ),
    "deep": (
        {"layers": [{"w": X}, {"w": X + 1, "on": True}]},
        lambda p, e: with_gradients(
            p["layers"][0]["w"], p["layers"][1]["w"], e, lambda a, b: {"layers": [{"w": a}, {"w": b}]}
        ),
        ["p['layers'][0]['w']", "p['layers'][1]['w']"],
    ),
    "dataclass": (
        State(X, X + 1),
        lambda p, e: with_gradients(p.h, p.c, e, lambda a, b: State(a, b, 0)),
        ["p.h", "p.c"],
    ),
    "NamedTuple": (Pair(X, X + 1), lambda p, e: with_gradients(*p, e, Pair), ["p.left", "p.right"]),
    "integers keyed": (
        {0: X, 1: X + 1},
        lambda p, e: with_gradients(p[0], p[1], e, lambda a, b: {0: a, 1: b}),
        [
            "p[0]",
            "p[1]",
        ],
    ),
}


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("options", [{}, {"method": "central"}, {"method": "dot-product"}, {"dtype": "float32"}])
def test_arrays_may_be_nested(kind: str, options: dict[str, Any]) -> None:
    given, function, names = NESTED[kind]
    report = gradcheck(lambda p: function(p, 0.0), given, **options)
    assert report, str(report)
    wrong = gradcheck(lambda p: function(p, 1e-2), given, **options)
    assert wrong.verdict == "FAIL" and wrong[names[1]].verdict == "FAIL"
    if "method" not in options:
        assert compared(report) == names
        assert [name for name in names if wrong[name].verdict == "FAIL"] == names[1:]


def test_an_array_beside_a_nested_one_has_its_own_gradient() -> None:
    def cell(x: Array, state: Any, mask: Any = None) -> Any:
        h, c = state
        return x * h + c, lambda dy: (dy * h, (dy * x, dy), None)

    report = gradcheck(cell, X, (X + 1, X + 2), np.array([True]))
    assert report and compared(report) == ["x", "state[0]", "state[1]"]
    assert gradcheck(cell, X, (X + 1, X + 2))
    with pytest.raises(ValueError, match=r"returned a ndarray as the gradient of state, expected a tuple like it"):
        gradcheck(lambda x, state: (x * state[0], lambda dy: (dy * state[0], dy * x)), X, (X + 1, X))
    with pytest.raises(ValueError, match=r"2 gradients, expected 3: .* \(state\[0\], state\[1\], state\[2\]\)"):
        gradcheck(lambda x, state: (x * state[0], lambda dy: (dy, (dy, dy))), X, (X, X, X))


def test_what_is_given_is_left_as_it_was() -> None:
    given = {"a": X, "b": [X + 1], "k": np.arange(3)}
    held = dict(given)
    assert gradcheck(lambda p: (p["a"] * p["b"][0], lambda dy: {"a": dy * p["b"][0], "b": [dy * p["a"]]}), given)
    assert given == held and given["k"].flags.writeable

    def writes(x: Array, k: Array) -> Any:
        k += 1
        return x * x, lambda dy: 2 * x * dy

    assert "mutates an array" in gradcheck(writes, X, np.arange(3))["nothing given is changed"].note


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_an_empty_array_beside_a_good_one_is_no_matter(shape: tuple[int, ...]) -> None:
    def joined(x: Array, more: Array) -> Any:
        return np.concatenate([x.ravel(), more.ravel()]) ** 2, lambda dy: (2 * x * dy.reshape(x.shape), 0 * more)

    for options in ({}, {"method": "dot-product"}, {"dtype": "float32"}):
        report = gradcheck(joined, X, np.zeros(shape), **options)
        assert report, str(report)
    assert compared(gradcheck(joined, X, np.zeros(shape))) == ["x"]
    assert gradcheck(lambda x, more: joined(x, more)[0], X, np.zeros(shape), vjp=lambda dy, x, more: 2 * x * dy.reshape(
        x.shape
    )).verdict == "PASS"  # fmt: skip
    with pytest.raises(ValueError, match=r"more is empty, of shape .* nothing to differentiate by"):
        gradcheck(lambda k, more: (more, lambda dy: dy), 3, np.zeros(shape))


PLACES = np.array([2, 0, 0])


def gathered(build: Any) -> Any:
    def gather(x: Array, k: Array) -> Any:
        def backward(dy: Array) -> Any:
            dx = np.zeros_like(x)
            np.add.at(dx, (slice(None), k), dy)
            return build(dx)

        return x[:, k], backward

    return gather


@pytest.mark.parametrize("build", [lambda g: g, lambda g: (g,), lambda g: (g, None), lambda g: (g, 0 * PLACES)])
@pytest.mark.parametrize("k", [PLACES, np.array([True, False, True])])
def test_integers_and_truth_values_have_no_gradient(build: Any, k: Array) -> None:
    if k.dtype == bool:
        assert gradcheck(lambda x, k: (np.where(k, x, 0), lambda dy: build(np.where(k, dy, 0))), X + 1, k).verdict in (
            "PASS", "VACUOUS",
        )  # fmt: skip
    else:
        assert compared(gradcheck(gathered(build), X, k)) == ["x"] and gradcheck(gathered(build), X, k)
        twice = gradcheck(gathered(lambda g: build(2 * g)), X, k)
        assert twice["x"].verdict == "FAIL"


def test_a_gradient_where_there_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="returned a gradient for k, which has none: return None there"):
        gradcheck(gathered(lambda g: (g, np.ones(3))), X, PLACES)


@pytest.mark.parametrize("method", ["auto", "central", "dot-product"])
def test_integers_among_the_outputs_take_no_gradient(method: str) -> None:
    def largest(x: Array) -> Any:
        k = x.argmax(axis=1)
        chosen = np.arange(x.shape[1]) == k[:, None]
        return (x.max(axis=1), k, x > 0), lambda dy: dy[:, None] * chosen

    x = X[:, :2]
    report = gradcheck(largest, x, method=method)
    assert report.verdict != "FAIL" and all(row.verdict == "PASS" for row in report.rows if row.method == "structure")
    wrong = gradcheck(lambda x: (largest(x)[0], lambda dy: 1.01 * largest(x)[1](dy)), x, method=method)
    assert wrong.verdict == "FAIL"


@pytest.mark.parametrize("method", ["auto", "central", "dot-product"])
def test_none_for_a_gradient_that_is_not_zero_fails_and_says_so(method: str) -> None:
    report = gradcheck(lambda x, y: (x * y, lambda dy: (dy * y, None)), X, X + 1, method=method)
    assert report["y"].verdict == "DETACHED" and report.verdict == ("FAIL" if method == "dot-product" else "DETACHED")
    assert report["y"].note.startswith("no gradient was returned for y, though the right one is not zero: ")
    if method == "auto":
        assert report["x"].verdict == "PASS"
    forgot = gradcheck(lambda x: (x * x, lambda dy: None), X, method=method)["x"]
    assert forgot.verdict == "DETACHED" and forgot.note.startswith("no gradient was returned for x")
    nested = gradcheck(lambda p: (p["a"] * p["b"], lambda dy: {"a": dy * p["b"]}), {"a": X, "b": X + 1}, method=method)
    assert nested["p['b']"].note.startswith("no gradient was returned for p['b']")

    class Forgetful(Linear):
        def forward(self, x: Array, rng: Any = None) -> Any:
            W = self.weight.data
            return x @ W.T, lambda dy: dy @ W

    note = gradcheck(Forgetful(3, 2, bias=False, rng=0), X, method=method)["weight"].note
    assert note.startswith("no gradient was accumulated for weight, though the right one is not zero")
    zero = gradcheck(lambda x, y: (x * y, lambda dy: (dy * y, 0 * x)), X, X + 1, method=method, blame=True)["y"]
    assert zero.verdict == "DETACHED" and zero.note.startswith("all zero: detached")


@pytest.mark.parametrize("method", ["auto", "dot-product"])
def test_outputs_may_be_nested_and_dy_is_built_like_them(method: str) -> None:
    def named(x: Array, error: float = 0.0) -> Any:
        y = {"out": np.sin(x), "hidden": [x * x, {"rows": x[:1]}], "best": x.argmax(axis=1)}

        def backward(dy: Any) -> Array:
            assert list(dy) == list(y) and dy["best"] is None
            dx: Array = np.cos(x) * dy["out"] + (2 + error) * x * dy["hidden"][0]
            dx[:1] += dy["hidden"][1]["rows"]
            return dx

        return y, backward

    def paired(x: Array) -> Any:
        return (np.sin(x), (x * x, x.argmax()), x > 0), lambda da, db: np.cos(x) * da + 2 * x * db[0]

    for function in (named, paired):
        report = gradcheck(function, X, method=method)
        assert report, str(report)
    assert gradcheck(lambda x: named(x, 1e-3), X, method=method).verdict == "FAIL"
    back = lambda dy, x: named(x)[1](dy)  # noqa: E731
    assert gradcheck(lambda x: named(x)[0], X, vjp=back, method=method)


def test_what_needs_no_gradient_is_given_by_keyword() -> None:
    for back in (lambda dx, dw: (dx, None), lambda dx, dw: dx, lambda dx, dw: (dx, dw)):
        report = gradcheck(lambda x, w, back=back: (x * w, lambda dy: back(dy * w, dy * x)), X, w=X + 1)
        assert report and compared(report) == ["x"]


def test_constants_in_structures_take_part_in_the_precision() -> None:
    def scaled(x: Array, *, by: Any) -> Any:
        return x * by["s"][0], lambda dy: dy * by["s"][0]

    assert gradcheck(scaled, X, by={"s": [X + 1]}, dtype="float32")


@pytest.mark.parametrize("given", [(X, X + 1), {"a": X, "b": X + 1}])
def test_a_check_of_nested_inputs_can_be_read_and_run_again(given: Any) -> None:
    first, second = given.values() if isinstance(given, dict) else given

    def f(p: Any) -> Any:
        a, b = p.values() if isinstance(p, dict) else p
        return a * b, lambda dy: {"a": dy * b, "b": dy} if isinstance(p, dict) else (dy * b, dy)

    shown = str(gradcheck(f, given))
    assert "float64[2,3]" in shown.rsplit("again:", 1)[1] and ("p['b']" in shown or "p[1]" in shown)
    assert first is not second


def test_a_generator_in_a_structure_draws_the_same_each_time() -> None:
    def noisy(x: Array, with_rng: Any) -> Any:
        mask = with_rng["rng"].random(x.shape) < 0.5
        return x * x * mask, lambda dy: 2 * x * mask * dy

    report = gradcheck(noisy, X, {"rng": np.random.default_rng(0)})
    assert report["x"].verdict == "PASS" and report.verdict == "PASS"


class Taking(Module):
    """A module that takes a pair, inside one that takes an array."""

    def __init__(self, error: float) -> None:
        self.inner = Inner(error)

    def forward(self, x: Array) -> Any:
        y, backward = self.inner((x, x + 1))
        return y, lambda dy: sum(backward(dy))


class Inner(Module):
    def __init__(self, error: float) -> None:
        self.error = error

    def forward(self, pair: Any) -> Any:
        a, b = pair
        return a * np.sin(b), lambda dy: (np.sin(b) * dy, (1 + self.error) * a * np.cos(b) * dy)


def test_blame_falls_on_a_module_that_takes_a_structure() -> None:
    assert gradcheck(Taking(0.0), X)
    note = gradcheck(Taking(0.5), X, blame=True).notes[-1]
    assert note.startswith("blame: inner (Inner) fails on its own inputs") and "pair[1]: a constant factor 1.5" in note


def test_too_few_gradients_of_a_function_of_any_number_of_arrays_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"1 gradients, expected 2: .* \(input 0, input 1\)"):
        gradcheck(lambda *x: (x[0] * x[1], lambda dy: (dy * x[1],)), X, X)
    assert gradcheck(lambda *x: (x[0] * x[1], lambda dy: (dy * x[1], dy * x[0])), X, X + 1)


def test_experiments_take_nested_inputs_too() -> None:
    given, function, _ = NESTED["deep"]
    assert taylor_test(lambda p: function(p, 0.0), given).verdict == "PASS"
    assert taylor_test(lambda p: function(p, 1e-2), given).verdict == "FAIL"
    assert min(v_curve(lambda p: function(p, 0.0), given).errors["complex float64"]) < 1e-14


def test_a_pair_of_functions_takes_nested_inputs_too() -> None:
    def f(p: Any) -> Array:
        return p[0] * np.sin(p[1])

    assert gradcheck(f, (X, X + 1), vjp=lambda dy, p: (dy * np.sin(p[1]), dy * p[0] * np.cos(p[1])))
    assert gradcheck(f, (X, X + 1), vjp=lambda dy, p: (dy * np.sin(p[1]), dy)).verdict == "FAIL"


def test_an_operation_that_is_not_complex_safe_is_named_in_nested_inputs_too() -> None:
    report = gradcheck(lambda p: (np.abs(p["a"]), lambda dy: {"a": dy * np.sign(p["a"])}), {"a": X})
    assert report.verdict == "PASS" and "not complex-safe (absolute in" in report.notes[0]
