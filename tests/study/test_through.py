"""What comes through each step of a forward, and what a gradient is said to be by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.check.verdict.evidence import Evidence
from npora.nn.module import Array
from npora.study import exercise
from npora.study.exercises import EXERCISES, Exercise
from npora.study.supposed import mistaken_forwards
from npora.study.through import Steps, by_complex_steps, factors_of_shares

rng = np.random.default_rng(0)
X, W, DY = rng.standard_normal((3, 5, 4))


def product(x: Array, w: Array, *, rows: slice) -> Array:
    h = np.tanh(x)
    for _ in range(2):
        h = h * w
    return h + x[rows] ** 2


H, SLOPE = np.tanh(X), 1 - np.tanh(X) ** 2
GIVEN: dict[str, Any] = {"x": X, "w": W, "rows": slice(0, 5)}


@pytest.fixture
def steps() -> Steps:
    return Steps(product, GIVEN, ["x", "w"], DY)


def test_the_gradient_is_that_of_the_forward(steps: Steps) -> None:
    found = steps.gradients()
    np.testing.assert_allclose(found["x"], DY * (SLOPE * W**2 + 2 * X), rtol=1e-13)
    np.testing.assert_allclose(found["w"], DY * 2 * H * W, rtol=1e-13)


def test_shares_are_what_comes_through_a_step_each_once_by_its_shortest_name(steps: Steps) -> None:
    shares, _ = steps.named()
    assert list(shares["x"]) == ["the share through `h * w`", "the share through `x[rows]`"]
    np.testing.assert_allclose(shares["x"]["the share through `x[rows]`"], DY * 2 * X, rtol=1e-13)
    assert not shares["w"]  # all of it comes through w


def test_a_slope_left_out_is_a_gradient_by_name(steps: Steps) -> None:
    _, wholes = steps.named()
    np.testing.assert_allclose(
        wholes["x"]["the gradient with `tanh(x)` taken for `x` in `tanh(x)`"], DY * (W**2 + 2 * X), rtol=1e-13
    )
    np.testing.assert_allclose(
        wholes["x"]["the gradient with `x[rows] ** 2` taken for `x[rows]`"], DY * (SLOPE * W**2 + 1), rtol=1e-13
    )
    silu = EXERCISES["silu"].forward
    assert silu
    _, wholes = Steps(silu, {"x": X}, ["x"], DY).named()
    sigma, step = 1 / (1 + np.exp(-X)), "`x / (1 + exp(-x))`"
    passed = wholes["x"][f"the gradient with `x` in {step} passed on by {step} with the slope 1"]
    np.testing.assert_allclose(passed, DY * (1 + X * sigma * (1 - sigma)), rtol=1e-13)


def test_a_factor_that_a_share_lacks_or_has_twice_is_named() -> None:
    share, other, value = rng.standard_normal((3, 5, 4))
    right, shares, values = share + other, {"the share": share}, {"a constant": np.full(4, 2.0), "v": value}
    for came, says in (
        (share / value + other, "the share lacks the factor v"),
        (share * value + other, "the share has the factor v once too often"),
        (share / value, "the share alone is there, and lacks the factor v"),
        (share * value, "the share alone is there, and has the factor v once too often"),
        (2 * share + other, None),
    ):
        assert next(factors_of_shares(Evidence(came, right, 1e-9), shares, values), None) == says
    row = rng.standard_normal(5)
    evidence = Evidence(share / row[:, None] + other, right, 1e-9)
    assert next(factors_of_shares(evidence, shares, {"row": row})) == "the share lacks the factor row"


@pytest.mark.parametrize("member", [x for x in EXERCISES.values() if x.forward], ids=lambda member: member.name)
def test_every_forward_tells_its_own_gradient(member: Exercise) -> None:
    inputs, constants = member.draw(1)
    assert member.forward is not None
    dy = np.asarray(rng.standard_normal(np.shape(member.forward(*inputs, **constants))))
    right = member.solution(dy, *inputs, **constants)
    given = {**dict(zip(member.inputs, inputs, strict=True)), **constants}
    with np.errstate(all="ignore"):
        found = Steps(member.forward, given, member.inputs, dy).gradients()
    for came, wanted in zip(found.values(), right if isinstance(right, tuple) else (right,), strict=True):
        np.testing.assert_allclose(came, wanted, rtol=1e-9, atol=1e-13)


def test_a_forward_is_broken_where_no_share_explains_what_came() -> None:
    def outside(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
        centred, sigma = x - x.mean(axis=-1, keepdims=True), x.std(axis=-1, keepdims=True)
        dx, _, dbeta = EXERCISES["layer_norm"].solution(dy, x, gamma, beta, eps=eps)
        return dx, (dy * centred / (sigma + eps)).sum(axis=(0, 1)), dbeta

    says = exercise.check("layer_norm", outside).says
    assert says[0] == "dgamma: this is the gradient of a forward with `eps` added to the sqrt, not within it,"


NORM: dict[str, Any] = {"x": X, "mask": np.array([[1, 1, 0, 1]] * 5, bool), "eps": 0.3}


def norm(x: Array, *, mask: Array, eps: float) -> Array:
    kept = np.where(mask, x, 0.0) / mask.sum(axis=-1, keepdims=True)
    return x / np.sqrt((kept**2).sum(axis=-1, keepdims=True) + eps)


def other(of: Any) -> Any:
    """The gradient of another forward."""
    return by_complex_steps(lambda x, mask, eps: of(x, mask, eps), NORM, ["x"], DY)["x"]


def rooted(x: Array, mask: Array, eps: float, over: Any = 3, axis: Any = -1, outside: bool = False) -> Array:
    total = ((np.where(mask, x, 0.0) / over) ** 2).sum(axis=axis, keepdims=True)
    length: Array = np.sqrt(total) + eps if outside else np.sqrt(total + eps)
    return x / length


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda x, mask, eps: rooted(x, mask, eps, outside=True), "with `eps` added to the sqrt, not within it,"),
        (lambda x, mask, eps: rooted(x, mask, eps, over=4), "with one more than"),
        (lambda x, mask, eps: rooted(x, mask, eps, over=2), "with one less than"),
        (lambda x, mask, eps: rooted(x, ~mask, eps, over=1), "with mask turned into its opposite"),
        (lambda x, mask, eps: rooted(x, mask, eps, axis=None), "with a sum over all elements"),
        (lambda x, mask, eps: rooted(x, mask & (mask.cumsum(-1) == 1), eps, over=1), "True at the first True"),
        (lambda x, mask, eps: rooted(x, mask & (np.arange(4) == 3), eps, over=1), "True at the last True"),
        (lambda x, mask, eps: rooted(x - x.mean(axis=-1, keepdims=True), mask, eps), None),
    ],
)
def test_a_mistake_in_the_forward_is_told_by_the_gradient_it_makes(of: Any, words: str | None) -> None:
    found = mistaken_forwards(norm, NORM, ["x"], DY, [other(of)], [0])
    assert words in found[0] if words else not found


def grouped(q: Array, k: Array) -> Array:
    return q * k.repeat(2, axis=0)  # type: ignore[no-any-return]


def test_whole_copies_in_the_place_of_repeats_are_told() -> None:
    q, k, dy = rng.standard_normal((3, 4, 3))
    came = (dy * q)[:2] + (dy * q)[2:]
    k = k[:2]
    found = mistaken_forwards(grouped, {"q": q, "k": k}, ["q", "k"], dy, [dy * k.repeat(2, axis=0), came], [1])
    assert found == {1: "with whole copies (tile) where each is repeated (repeat)"}


def test_a_share_that_an_argument_is_left_out_of_is_told() -> None:
    def plain(dy: Array, x: Array, gamma: Array, *, eps: float) -> tuple[Array, Array]:
        rho = np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
        xhat = x / rho
        return (gamma * dy - xhat * (dy * xhat).mean(axis=-1, keepdims=True)) / rho, (dy * xhat).sum(axis=0)

    assert exercise.check("rms_norm", plain).says[0] == "dx: the share through `x ** 2` is as it would be without gamma"


def test_the_output_in_the_place_of_what_it_is_made_of_is_told() -> None:
    def whole(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
        member = EXERCISES["layer_norm"]
        assert member.forward
        dx, _, dbeta = member.solution(dy, x, gamma, beta, eps=eps)
        return dx, (dy * member.forward(x, gamma, beta, eps=eps)).sum(axis=(0, 1)), dbeta

    assert "with the output in the place of" in exercise.check("layer_norm", whole).says[0]
