"""What holds of LoKr beside what holds of every method: the Kronecker product, and what is whole and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import LoKrConfig, gradcheck
from npora.lora.adapted import Adapted
from npora.lora.inject import adapted_layer
from npora.lora.methods.lokr import two_factors
from npora.nn import Linear
from tests.lora.cases import Method, adapted
from tests.lora.test_counted import beside_the_base

KINDS: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]], tuple[int, int]]] = {
    "both whole": ({"r": 5}, {"w1": (2, 4), "w2": (5, 6)}, (2, 4)),
    "W₂ of two": ({"r": 2}, {"w1": (2, 4), "w2_a": (5, 2), "w2_b": (2, 6)}, (3, 6)),
    "each of two": (
        {"r": 1, "decompose_both": True}, {"w1_a": (2, 1), "w1_b": (1, 4), "w2_a": (5, 1), "w2_b": (1, 6)}, (4, 9),
    ),
    "W₁ a number": ({"r": 2, "decompose_factor": 1}, {"w1": (1, 1), "w2_a": (10, 2), "w2_b": (2, 24)}, (3, 6)),
    "W₁ of two, the larger": (
        {"r": 3, "decompose_both": True, "decompose_factor": 24},
        {"w1_a": (2, 3), "w1_b": (3, 24), "w2": (5, 1)}, (3, 7),
    ),
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS)


def layer_of(kind: str) -> Adapted:
    return adapted(Method(kind, LoKrConfig(alpha=3, **KINDS[kind][0])), 24, 10)


def values(layer: Adapted) -> dict[str, Any]:
    named = layer.adapters["default"].named()
    return {tensor.short_name.removeprefix("lokr_"): parameter.data for tensor, parameter in named}


@kinds
def test_the_layer_adds_s_times_each_number_of_one_times_each_number_of_the_other(kind: str) -> None:
    layer, fields = layer_of(kind), KINDS[kind][0]
    found = values(layer)
    assert {name: value.shape for name, value in found.items()} == KINDS[kind][1]
    W1 = found["w1"] if "w1" in found else found["w1_a"] @ found["w1_b"]
    W2 = found["w2"] if "w2" in found else found["w2_a"] @ found["w2_b"]
    (o1, i1), (o2, i2) = W1.shape, W2.shape
    delta = np.zeros((10, 24))
    for a, c, b, d in np.ndindex(o1, o2, i1, i2):
        delta[a * o2 + c, b * i2 + d] = 3 / fields["r"] * W1[a, b] * W2[c, d]
    x = np.random.default_rng(3).standard_normal((2, 3, 24))
    expected = x @ (layer.base_layer.matrix + delta).T + layer.base_layer.bias.data  # type: ignore[union-attr]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.get_delta_weight("default"), delta, rtol=0, atol=1e-13)


@kinds
def test_its_gradients_are_right_whatever_is_whole(kind: str) -> None:
    report = gradcheck(layer_of(kind), np.random.default_rng(4).standard_normal((2, 3, 24)))
    assert report.ok, report
    assert {row.name for row in report.rows} >= {f"lokr_{name}.default" for name in KINDS[kind][1]}


@kinds
def test_it_takes_the_products_that_its_page_counts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert beside_the_base(layer_of(kind), monkeypatch) == KINDS[kind][2]


@pytest.mark.parametrize(
    ("n", "factor", "expected"),
    [(256, -1, (16, 16)), (768, -1, (24, 32)), (127, -1, (1, 127)), (128, 4, (4, 32)), (128, 5, (4, 32)),
     (128, 64, (64, 2)), (12, 100, (3, 4)), (1, -1, (1, 1)), (2, -1, (1, 2)), (7, 3, (1, 7))],
)  # fmt: skip
def test_a_length_is_cut_in_two(n: int, factor: int, expected: tuple[int, int]) -> None:
    assert two_factors(n, factor) == expected


@pytest.mark.parametrize("start", [True, "lycoris", False])
@pytest.mark.parametrize("both", [True, False])
def test_it_begins_as_nothing_from_the_left_or_from_the_right(start: Any, both: bool) -> None:
    config = LoKrConfig(r=1, decompose_both=both, init_weights=start)
    layer = adapted_layer(Linear(24, 10, rng=0), config, np.random.default_rng(1))
    found = values(layer)
    zero = {True: "w1_a" if both else "w1", "lycoris": "w2_b", False: ""}[start]
    assert [name for name, value in found.items() if not value.any()] == ([zero] if zero else [])
    assert layer.get_delta_weight("default").any() == (start is False)


def test_a_frozen_adapter_keeps_no_rows() -> None:
    layer = adapted(Method("", LoKrConfig(r=2)), 24, 10)
    x = np.random.default_rng(0).standard_normal((3, 24))
    dx = []
    for trained in (True, False):
        for parameter in layer.adapters["default"].parameters():
            parameter.requires_grad, parameter.grad = trained, None
        y, backward = layer(x)
        dx.append(backward(y).tobytes())
        assert all((p.grad is not None) == trained for p in layer.adapters["default"].parameters())
    assert dx[0] == dx[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decompose_factor": 0}, "decompose_factor must be at least 1, or -1 for none; got 0"),
        ({"decompose_factor": 2.5}, "decompose_factor must be a whole number; got 2.5"),
        ({"init_weights": "gaussian"}, "init_weights must be True, False or 'lycoris'; got 'gaussian'"),
        ({"rank_dropout": 0.1}, "LoKrConfig: rank_dropout=0.1 is not supported by npora; leave it out"),
        ({"alpha": None}, "alpha must be a finite number; got None"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        LoKrConfig(**fields)
    assert message in str(error.value)
