"""A value that forward holds constant: a check replays it around the point, and so tests what the pullback claims."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model, gradcheck
from npora.check import taylor_test
from npora.check.planted.planting import planted
from npora.lora import LoRALinear
from npora.nn import Conv1D, Linear, Module, Parameter, held, holding
from npora.nn.grad_mode import within
from npora.nn.module import Array
from tests.tiny import spread, tiny_bert

METHODS = ["complex", "central", "dot-product"]
every_method = pytest.mark.parametrize("method", METHODS)
rng = np.random.default_rng(3)
X, OTHER = rng.standard_normal((4, 5)), rng.standard_normal((2, 4, 5))


def dora(base: type[Linear] = Linear, dropout: float = 0.0) -> LoRALinear:
    return spread(LoRALinear(base(5, 3, rng=1), 2, 3, dropout, use_dora=True, rng=2))


class Loose(Module):
    """A layer of which nothing is held: each forward's values are those of its own point."""

    def __init__(self, layer: Module) -> None:
        self.layer = layer

    def forward(self, x: Array) -> Any:
        with within(replay=lambda name, f: f()):
            return self.layer(x)


def by_length(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """x over its length, which is held; and that twice, so that there are two values of one name."""

    def lengths(x: Array) -> Array:
        total: Array = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return total

    first = held("length", lambda: lengths(x) + 1)
    y = x * x / first
    second = held("length", lambda: lengths(y))
    return y / second, lambda dy: dy / second * 2 * x / first


@every_method
@pytest.mark.parametrize("base", [Linear, Conv1D])
def test_doras_pullback_is_right_where_its_norm_is_held(method: str, base: type[Linear]) -> None:
    report = gradcheck(dora(base), X, method=method)
    assert report.ok, report
    assert "held constant, as the layer says that its gradient treats it: norm" in str(report)


@every_method
def test_doras_pullback_is_wrong_where_nothing_is_held(method: str) -> None:
    report = gradcheck(Loose(dora()), X, method=method)
    wrong = {row.name.split(".")[1] for row in report.rows if row.verdict == "FAIL" and "lora" in row.name}
    assert wrong == {"lora_A", "lora_B"}, report  # x and m do not change the norm
    assert "held" not in str(report)


@every_method
@pytest.mark.parametrize("kind", ["sign", "1.0005"])
@pytest.mark.parametrize("target", ["x", "lora_A", "lora_B", "lora_magnitude_vector"])
def test_an_error_in_a_pullback_that_holds_something_is_caught(method: str, kind: str, target: str) -> None:
    layer = dora()
    name = next(name for name in ["x", *dict(layer.named_parameters())] if name.startswith(target))
    assert not gradcheck(planted(layer, kind, name), X, method=method).ok


@every_method
def test_a_function_holds_as_a_layer_does_and_each_value_apart(method: str) -> None:
    report = gradcheck(by_length, *OTHER[:1], method=method)
    assert report.ok, report
    assert not gradcheck(lambda x: (by_length(x)[0], lambda dy: 1.01 * by_length(x)[1](dy)), X, method=method).ok

    def loose(x: Array) -> Any:
        with within(replay=lambda name, f: f()):
            return by_length(x)

    assert not gradcheck(loose, X, method=method).ok


def test_a_backward_in_single_precision_and_a_taylor_test_hold_the_same() -> None:
    assert gradcheck(dora(), X.astype(np.float32), dtype="float32").verdict in ("PASS", "UNRESOLVED")
    verdicts = [taylor_test(layer, X).verdict for layer in (dora(), Loose(dora()))]
    assert verdicts == ["PASS", "FAIL"]


def test_dropout_and_what_a_model_computes_again_hold_the_same() -> None:
    report = gradcheck(dora(dropout=0.4), X, rng=np.random.default_rng(5))
    assert report.ok, report
    model = get_peft_model(tiny_bert(), LoraConfig(r=2, use_dora=True, lora_dropout=0.2, target_modules="all-linear"))
    spread(model)
    batch = {"input_ids": np.array([[3, 4, 9], [5, 6, 7]]), "labels": np.array([1, 0])}
    for again in (False, True):
        if again:
            model.get_base_model().gradient_checkpointing_enable()
        report = gradcheck(model, method="dot-product", rng=np.random.default_rng(4), **batch)
        assert report.ok, report


def test_where_a_check_takes_steps_it_holds_what_is_there() -> None:
    class Scaled(Module):
        def __init__(self) -> None:
            self.w, self.used = Parameter(np.array([2.0, 3.0])), used

        def forward(self, x: Array) -> Any:
            w = self.w
            c = held("norm", lambda: np.sqrt((w.data * w.data).sum(keepdims=True)))
            used.append(float(c.real[0]))
            y = x * w.data / c

            def backward(dy: Array) -> Array:
                w.accumulate((dy * x).sum(axis=0) / c)
                return dy * w.data / c

            return y, backward

    used: list[float] = []
    assert gradcheck(Scaled(), OTHER[0, :, :2], method="central").ok
    assert set(used) == {float(np.sqrt(13.0))}
    report = gradcheck(Scaled(), OTHER[0, :, :2], method="central", steps=2)
    assert report.ok and len(set(used)) == 3


def test_a_block_within_another_holds_what_that_one_does() -> None:
    outer, inner = dict[tuple[str, int], Array](), dict[tuple[str, int], Array]()
    for value in (1.0, 2.0):
        inner.clear()
        with holding(outer, np.float64), holding(inner, np.float64):
            assert held("n", lambda value=value: np.array([value])) == 1  # type: ignore[misc]
    assert outer == inner == {("n", 0): 1}


def test_outside_a_check_the_value_is_the_points_own() -> None:
    values: dict[tuple[str, int], Array] = {}
    with holding(values, np.float64):
        assert held("n", lambda: np.array([1.0])) == 1 and held("n", lambda: np.array([2.0])) == 2
    found: list[Any] = []
    with holding(values, np.complex128):
        other = threading.Thread(target=lambda: found.append(held("n", lambda: np.array([9.0]))))
        other.start()
        other.join()
        first, second = held("n", lambda: np.array([9.0])), held("n", lambda: np.array([9.0]))
    assert (first, second, found) == (1, 2, [9]) and first.dtype == np.complex128
    assert held("n", lambda: np.array([9.0])) == 9
    values.clear()
    with holding(values, np.float32):
        assert held("n", lambda: np.array([9.0])) == 9


def test_a_straight_through_estimator_is_right_by_what_it_holds() -> None:
    def rounded(x: Array) -> Any:
        return x * (x + held("the rounding", lambda: np.round(x.real) - x)), lambda dy: dy * (np.round(x.real) + x)

    assert gradcheck(rounded, 3 * X)
    assert gradcheck(lambda x: (x * np.round(x.real), rounded(x)[1]), 3 * X).verdict == "FAIL"  # which is not declared


def test_values_of_one_name_are_known_by_their_number() -> None:
    values: dict[tuple[str, int], Array] = {}
    for add in (0.0, 9.0):  # what they would be at another point
        with holding(values, np.float64):
            assert [held(name, np.add, np.float64(x), add) for name, x in (("a", 1), ("b", 2), ("a", 3))] == [1, 2, 3]
    assert list(values) == [("a", 0), ("b", 0), ("a", 1)]
