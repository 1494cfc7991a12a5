"""A wrong answer that has no name is told by the mistake that makes it out of the solution."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest

from npora.check.verdict.shares import told
from npora.nn.module import Array
from npora.study import exercise, supposed
from npora.study.edits import LONGEST, edits, text
from npora.study.supposed import mistakes
from npora.study.trees import numbered

rng = np.random.default_rng(0)
GIVEN: dict[str, Any] = {
    "dy": rng.standard_normal((4, 3)), "x": rng.standard_normal((4, 3)), "w": rng.standard_normal(3),
    "mask": np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], bool), "c": 3.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fewer_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supposed, "PAIRS", 400)


def solution(dy: Array, x: Array, w: Array, *, mask: Array, c: float) -> tuple[Array, Array]:
    h = np.tanh(x)
    dx = np.where(mask, dy * w * (1 - h**2) / c, 0)
    return dx, (dy * h).sum(axis=0) + 2 * w


H, W, X, DY = np.tanh(GIVEN["x"]), GIVEN["w"], GIVEN["x"], GIVEN["dy"]


def answer(h: Any = H, times: Any = W, slope: Any = None, mask: Any = GIVEN["mask"], c: float = 3.0) -> Array:
    slope = 1 - h**2 if slope is None else slope
    found: Array = np.where(mask, GIVEN["dy"] * times * slope / c, 0)
    return found


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (answer(h=X), "with `x` itself in the place of tanh of it"),
        (answer(times=1), "with w left out (as 1)"),
        (answer(times=W**2), "with w as a factor of dy"),
        (answer(slope=1 + H**2), "with +, not −, before `h ** 2`"),
        (answer(slope=-(H**2)), "without the term `1`"),
        (answer(slope=1 - H), "with `h` without its power"),
        (answer(slope=1 - 2 * H), "with `h` times `2`, not to that power,"),
        (answer(slope=1 - abs(H)), "with `h` in the absolute"),
        (answer(slope=1 - H**3), "with 3, not 2, in `h ** 2`"),
        (answer(slope=1 - np.exp(H) ** 2), "with exp of `tanh(x)`"),
        (answer(c=1 / 3), "with c mistaken for 1 over it"),
        (answer(c=-2), "with c mistaken for 1 less it"),
        (answer(mask=~GIVEN["mask"]), "with mask turned into its opposite"),
        (answer(mask=True), "with mask True everywhere"),
        (answer(mask=X > 0), "with x > 0 in the place of mask"),
        (answer(slope=(1 - H**2) * H), "as one factor more, beside"),
        (answer(slope=np.cos(H)), None),
    ],
    ids=lambda x: "" if isinstance(x, np.ndarray) else str(x),
)  # fmt: skip
def test_a_mistake_in_the_first_gradient_is_told(came: Array, words: str | None) -> None:
    found = mistakes(solution, GIVEN, (came, solution(**GIVEN)[1]), [0])
    assert found == {} if words is None else words in found[0], found


@pytest.mark.parametrize(
    ("came", "words"),
    [
        ((DY * H).mean(axis=0) + 2 * W, "with a mean where a sum is meant"),
        ((DY * H).sum() + 2 * W, "with a sum over all elements"),
        ((DY * H)[0] + 2 * W, "with the first of the sum alone"),
        ((DY * H)[-1] + 2 * W, "with the last of the sum alone"),
        (H.sum(axis=0) + 2 * W, "with dy left out (as 1)"),
        (DY.sum(axis=0) + 2 * W, "without the factor `h`"),
        ((DY * X).sum(axis=0) + 2 * W, "with `x` itself in the place of tanh of it"),
        ((DY[::-1] * H).sum(axis=0) + 2 * W, "with dy in the opposite order"),
        ((np.roll(DY, 1, axis=0) * H).sum(axis=0) + 2 * W, "with dy shifted by 1 along axis 0"),
        ((DY * H).sum(axis=0), "with w left out (as 0)"),
        ((DY * H).sum(axis=0) - 2 * W, "with w of the other sign"),
        ((DY * H).sum(axis=0) + 20 * W, "with 20, not 2, in `2 * w`"),
        ((DY * H).sum(axis=0) + 2 + W, "with +, not a product, before `w`"),
        ((DY + H).sum(axis=0) + 2 * W, "with +, not a product, before `h`"),
    ],
    ids=lambda x: "" if isinstance(x, np.ndarray) else str(x),
)
def test_a_mistake_in_the_second_gradient_is_told(came: Array, words: str) -> None:
    found = mistakes(solution, GIVEN, (solution(**GIVEN)[0], came), [1])
    assert words in found[1], found


def test_two_mistakes_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supposed, "PAIRS", 1500)
    came = answer(times=1, slope=-(H**2)), solution(**GIVEN)[1]
    assert mistakes(solution, GIVEN, came, [0]) == {0: "without the factor `w`, and without the term `1`"}


def test_one_mistake_for_all_goes_before_one_for_each() -> None:
    came = solution(**{**GIVEN, "x": DY})
    assert mistakes(solution, GIVEN, came, [0, 1]) == dict.fromkeys([0, 1], "with dy in the place of x throughout")
    apart = answer(h=X), (DY * H).mean(axis=0) + 2 * W
    assert set(mistakes(solution, GIVEN, apart, [0, 1])) == {0, 1}


def test_what_a_solution_is_tried_with_leaves_it_as_it_was() -> None:
    formula = supposed._Formula(solution)
    before = [ast.dump(tree) for tree in formula.trees]
    for each in (*formula.single(GIVEN), *formula.pairs()):
        formula.run(each, GIVEN)
    assert [ast.dump(tree) for tree in formula.trees] == before
    for came, right in zip(formula.run(supposed.Supposed(""), GIVEN) or (), solution(**GIVEN), strict=True):
        assert np.array_equal(came, right)


def test_a_function_without_a_source_tells_nothing() -> None:
    assert mistakes(np.tanh, {"x": X}, (X,), [0]) == {}


def test_no_long_formula_is_shown() -> None:
    long = ast.parse("alpha * (beta - np.log(gamma).sum(axis=-1))", mode="eval").body
    assert text(long) == "what is made of alpha, beta, gamma"
    tree = ast.parse("def f(a, b):\n    return (a * b - a.sum(axis=-1, keepdims=True)) / b.sum(axis=0)").body[0]
    assert isinstance(tree, ast.FunctionDef) and numbered(tree) > 20
    shown = [part for edit in edits(tree) for part in edit.words.split("`")[1::2]]
    assert shown and max(map(len, shown)) <= LONGEST


def test_a_share_that_is_too_large_or_too_small_says_by_how_much() -> None:
    from npora.check.verdict.evidence import Evidence

    share, right = rng.standard_normal((2, 5, 7))
    sizes = "the size of axis 0 over the size of axis 1"
    for times, said in (
        (1 / 7, "0.142857 times what it should be (1/(the size of axis 1): a mean where a sum was meant)"),
        (3.0, "3 times what it should be (3)"),
        (0.35, "0.35 times what it should be (p)"),
        (0.35 * 0.3, "0.105 times what it should be (p times q)"),
        (1 / (0.35 * 0.3), "9.52381 times what it should be (1/(p times q))"),
        (0.35 / 0.3, "1.16667 times what it should be (p over q)"),
        (0.3 / 0.35, "0.857143 times what it should be (q over p)"),
        (5 / 7, f"0.714286 times what it should be ({sizes})"),
    ):
        evidence = Evidence(right + (times - 1) * share, right, 1e-9)
        found = next(told(evidence, {"the share of it": share}, {"p": 0.35, "q": 0.3}))
        assert found == f"the share of it is {said}"


def test_row_0_is_a_token_like_any_other() -> None:
    def padded(dy: Array, E: Array, *, ids: Array) -> Array:
        dE = np.zeros_like(E)
        np.add.at(dE, ids[ids > 0], dy[ids > 0])
        return dE

    assert exercise.check("embedding", padded).says[0] == "dE: wrong at index 0 of axis 0 alone: there it is zero"


def test_a_student_is_told_the_mistake_where_there_is_no_name_for_it() -> None:
    outcome = exercise.check("cross_entropy", lambda dloss, z, *, targets: np.zeros_like(z) + dloss * targets[0])
    assert outcome.code == 1 and "this is what comes" not in str(outcome)

    def unturned(dy: Array, x: Array, *, positions: Array) -> Array:
        return exercise.EXERCISES["rotary"].solution(dy, x, positions=np.arange(len(x)))  # type: ignore[no-any-return]

    says = exercise.check("rotary", unturned).says
    assert says[0] == "dx: this is the gradient of a forward with positions counted from 0 on, whatever it holds"
    assert says[1].startswith("first at dx[")
