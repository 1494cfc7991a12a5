"""What is wrong with a gradient, by name; and whose fault it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.catalogue import draw
from npora.check import Context, diagnose
from npora.check.planted.kinds import KINDS
from npora.check.planted.planting import planted, plantings
from npora.check.verdict.comparison import WRONG
from npora.check.verdict.evidence import Evidence
from npora.nn import Module, Parameter
from npora.nn.module import Array
from tests.tiny import tiny_bert

rng = np.random.default_rng(1)
N = rng.standard_normal((4, 6))
HIDDEN = np.array([False, True, False, False])
CONTEXT = Context({"α/r": 1.5}, {"x": np.sin(N)}, {"W": rng.standard_normal((4, 6))}, 2, {"mask": HIDDEN})


def changed(index: Any, value: Any) -> Array:
    a = N.copy()
    a[index] = value
    return a


@pytest.mark.parametrize(
    ("a", "said"),
    [
        (-N, "a constant factor -1 (the sign)"),
        (N / 1.5, "a constant factor 0.6666666667 (1/(α/r))"),
        (6 * N, "a constant factor 6 (the size of axis 1: a sum where a mean was meant)"),
        (1.0000001 * N, "a constant factor 1.0000001 (off by 1e-07: a constant with too few digits?)"),
        (7.7 * N, "a constant factor 7.7"),
        (0 * N, "all zero: detached, dropped, or never returned or accumulated"),
        (changed((1, 2), np.inf), "nan or inf at 1 of 24 elements, the first at [1, 2]"),
        (changed((1, 2), 9.0), "wrong only where mask hides a position"),
        (changed((2, 2), 0.0), "wrong at one element, [2, 2]: there it is zero"),
        (changed(3, -N[3]), "wrong at index 3 of axis 0 alone: there a factor -1 (the sign)"),
        (changed((..., slice(0, 3)), 2 * N[:, :3]), "wrong in head 0 alone, along axis 1: there a factor 2 (2)"),
        (np.roll(N, 1, axis=1), "shifted by 1 along axis 1: an index off by one"),
        (N[:, ::-1], "reversed along axis 1"),
        (CONTEXT.others["W"], "this is the gradient of W: two returns are swapped"),
        (N.sum(axis=0) + 0 * N, "the sum over axis 0 in place of each element"),
        (N + rng.standard_normal((4, 1)), "off by the same amount all along axis 1"),
        (N - 0.25 * np.sin(N), "off by -0.25 times x: a term of x is missing, or one too many"),
        (N + np.outer(N[:, 1], N[2]), "a missing or extra term of rank 1 (of 4)"),
        (N * np.array([1, 2, 3, 4])[:, None], "a factor of its own for each slice along axis 1"),
        (N.astype(np.float32), "rounded to float32: something on the way was computed in single precision"),
        (rng.standard_normal((4, 6)), "unlike the right gradient (cosine"),
        (N + 0.3 * rng.standard_normal((4, 6)), "no known error explains it: the difference is"),
    ],
)  # fmt: skip
def test_a_cause_is_named(a: Array, said: str) -> None:
    assert diagnose(a, N, CONTEXT).startswith(said)


def test_no_claim_fits_that_leaves_more_than_an_eighth_of_the_difference() -> None:
    evidence = Evidence(np.array([1.0, 1.0]), np.array([1.0, 0.9]), tolerance=0.05)
    assert evidence.fits(np.array([0.0, 0.012]), 100.0) and not evidence.fits(np.array([0.0, 0.013]), 100.0)


def test_a_share_of_the_gradient_is_missing_there_twice_or_turned_round() -> None:
    share = rng.standard_normal(N.shape)
    context = replace(CONTEXT, told={"the share of the mean": share})
    for times, said in ((-1, "missing"), (1, "there once too often"), (-2, "there with the wrong sign")):
        assert diagnose(N + times * share, N, context) == f"the share of the mean is {said}"


@pytest.mark.parametrize("tolerance", [np.inf, np.nan])
def test_a_tolerance_that_is_not_known_is_no_error(tolerance: float) -> None:
    assert diagnose(2 * N + 1, N, CONTEXT, tolerance)


def test_a_square_that_is_transposed_is_named() -> None:
    n = rng.standard_normal((3, 3))
    assert diagnose(n.T, n) == "the transpose"


@pytest.mark.parametrize("name", ["linear", "layer_norm", "cross_attention", "lora_linear", "dora_linear", "softmax"])
def test_every_planted_error_fails_and_nine_in_ten_are_named(name: str) -> None:
    layer, inputs, keywords = draw(name, seed=1)
    gradcheck(layer, *inputs, **keywords).raise_if_failed()
    named = []
    for kind, error in KINDS.items():
        for target, broken in plantings(kind, layer, inputs, keywords):
            report = gradcheck(broken, *inputs, **keywords)
            assert report.verdict in WRONG, f"{kind} in {target}:\n{report}"
            said = " ".join(row.note for row in report.rows if row.verdict in WRONG)
            named.append(any(word in said for word in error.words))
            break
    assert len(named) >= 18 and np.mean(named) >= 0.9


def test_an_unknown_kind_of_error_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no kind of error 'bogus'; there are sign, twice"):
        planted(lambda x: (x, lambda dy: dy), "bogus", "x")


@pytest.mark.parametrize(
    "path",
    ["bert.encoder.layer.1.attention.self", "bert.encoder.layer.0.output.LayerNorm", "classifier", "bert.pooler"],
)
def test_the_blame_falls_on_the_module_whose_own_backward_is_wrong(path: str) -> None:
    model = tiny_bert(num_hidden_layers=2 if "layer.1" in path else 1)
    inner = model.get_submodule(path)
    forward: Callable[..., Any] = type(inner).forward

    class Wrong(type(inner)):  # type: ignore[misc]
        def forward(self, x: Array, **keywords: Any) -> Any:
            y, backward = forward(self, x, **keywords)
            return y, lambda dy: 1.01 * backward(dy)

    inner.__class__ = Wrong
    rows = {"input_ids": rng.integers(1, 9, (2, 3)), "labels": np.array([0, 1])}
    report = gradcheck(model, rows, max_elements=3, blame=True)
    assert report.verdict == "FAIL"
    assert report.notes[-1].startswith(f"blame: {path} (Wrong) fails on its own inputs, and nothing inside it does")


def test_with_every_module_right_the_blame_falls_on_how_they_are_put_together() -> None:
    model = tiny_bert(num_hidden_layers=1)
    forward: Callable[..., Any] = type(model).forward

    class Wrong(type(model)):  # type: ignore[misc]
        def forward(self, **batch: Any) -> Any:
            y, backward = forward(self, **batch)
            return y, lambda dy: backward(1.01 * dy)

    model.__class__ = Wrong
    rows = {"input_ids": rng.integers(1, 9, (2, 3)), "labels": np.array([0, 1])}
    report = gradcheck(model, rows, max_elements=3, blame=True)
    assert "how they are put together" in report.notes[-1] or "the model itself" in report.notes[-1]


class Scaled(Module):
    """y = x + W ⊙ x, whose dx is wrong where W is 0."""

    def __init__(self) -> None:
        self.W = Parameter(np.zeros(3))

    def forward(self, x: Array) -> Any:
        W = self.W.data

        def backward(dy: Array) -> Array:
            self.W.accumulate((dy * x).sum(axis=0))
            return dy * (1 + W) if W.any() else 3 * dy

        return x + W * x, backward


class Outer(Module):
    def __init__(self, inner: Module) -> None:
        self.inner = inner

    def forward(self, x: Array) -> Any:
        return self.inner(x)


def test_the_blame_is_laid_at_the_point_that_is_checked() -> None:
    report = gradcheck(Outer(Scaled()), rng.standard_normal((2, 3)), randomize=False, blame=True)
    assert report.notes[-1].startswith("blame: inner (Scaled) fails on its own inputs")
