"""How scores are warped, and tokens chosen from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npora.models.generate import sampling
from npora.nn.functional import softmax

WHOLE = st.integers(-4, 4).map(float)  # so that scores tie
ROWS = st.tuples(st.integers(1, 3), st.integers(1, 7)).flatmap(lambda shape: arrays(np.float64, shape, elements=WHOLE))


def test_a_temperature_divides_scores() -> None:
    np.testing.assert_array_equal(sampling.temperature(np.array([[3.0, -1.0]]), 0.5), [[6, -2]])


@given(ROWS, st.integers(1, 9))
def test_top_k_keeps_what_fewer_than_k_are_above(scores: np.ndarray, k: int) -> None:
    found = sampling.top_k(scores, k)
    above = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)  # [b,v], how many are above each
    np.testing.assert_array_equal(found, np.where(above < k, scores, -np.inf))


@given(ROWS, st.floats(0, 1), st.integers(1, 3))
def test_top_p_keeps_the_smallest_set_whose_mass_reaches_p(scores: np.ndarray, p: float, at_least: int) -> None:
    found = sampling.top_p(scores, p, at_least)
    for row, kept, mass in zip(scores, np.isfinite(found), softmax(scores)[0], strict=True):
        assert row[kept].min() >= row[~kept].max(initial=-np.inf)  # the likeliest are kept
        assert mass[kept].sum() >= p - 1e-12
        # The least likely of those that are kept is needed for p, or for `at_least`.
        assert mass[kept].sum() - mass[kept].min() < p + 1e-12 or kept.sum() == min(at_least, row.size)
        np.testing.assert_array_equal(found[:, :][np.isfinite(found)], scores[np.isfinite(found)])


def test_top_p_takes_no_more_than_it_needs_where_that_is_exact() -> None:
    scores = np.log(np.array([[0.5, 0.25, 0.125, 0.125]]))
    for p, kept in ((0.4, 1), (0.6, 2), (0.8, 3), (0.9, 4), (0.0, 1)):
        assert np.isfinite(sampling.top_p(scores, p)).sum() == kept, p
    np.testing.assert_array_equal(np.isfinite(sampling.top_p(scores, 0.8)), [[True, True, False, True]])  # a tie
    assert np.isfinite(sampling.top_p(scores, 0.0, at_least=3)).sum() == 3
    for p, kept in ((0.5, 2), (0.75, 3)):  # quarters are exact: two reach a half
        assert np.isfinite(sampling.top_p(np.zeros((1, 4)), p)).sum() == kept, p
    nearly = np.log(np.array([[0.2, 0.3 + 1e-9, 0.5 - 1e-9]]))  # the likeliest alone falls just short of a half
    assert np.isfinite(sampling.top_p(nearly, 0.5)).tolist() == [[False, True, True]]


def test_a_warper_goes_from_temperature_to_top_k_to_top_p() -> None:
    scores = np.array([[3.0, 2.0, 1.0, 0.0, -1.0]])
    # At temperature 4 the first two have 0.31 and 0.24; alone with each other 0.56 and 0.44.
    np.testing.assert_array_equal(sampling.warper(4.0, 2, 0.5)(scores), [[0.75, *[-np.inf] * 4]])
    np.testing.assert_array_equal(sampling.warper(4.0, 0, 0.5)(scores), [[0.75, 0.5, *[-np.inf] * 3]])
    np.testing.assert_array_equal(sampling.warper(1.0, 1, 1.0, at_least=2)(scores), [[3, 2, *[-np.inf] * 3]])
    np.testing.assert_array_equal(sampling.warper(1.0, 0, 0.0, at_least=2)(scores), [[3, 2, *[-np.inf] * 3]])
    for untouched in (scores, np.array([[0.0, -1000.0]])):  # also what has a probability of 0
        np.testing.assert_array_equal(sampling.warper()(untouched), untouched)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"T": 0.0}, "temperature"), ({"T": float("nan")}, "temperature"), ({"k": -1}, "top_k"), ({"k": 1.5}, "top_k"),
     ({"p": 1.5}, "top_p"), ({"p": -0.1}, "top_p")],
)  # fmt: skip
def test_warpers_that_make_no_sense_are_refused_by_name(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message} must"):
        sampling.warper(**options)  # type: ignore[arg-type]


@given(ROWS, st.integers(1, 9))
def test_the_best_are_in_order_and_of_equals_the_earlier_comes_first(scores: np.ndarray, count: int) -> None:
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(sampling.best(scores, count), expected)


def test_the_highest_of_perturbed_scores_is_a_draw_from_their_softmax() -> None:
    scores = np.log(np.array([0.1, 0.2, 0.7, 0.0001]))
    drawn = sampling.best(sampling.perturbed(np.tile(scores, (20_000, 1)), np.random.default_rng(0)), 2)
    shares = np.bincount(drawn[:, 0], minlength=4) / len(drawn)
    # Four standard deviations of a share of 0.5 among 20,000.
    np.testing.assert_allclose(shares, softmax(scores)[0], atol=4 * 0.5 / np.sqrt(20_000))
    second = drawn[drawn[:, 0] == 2, 1]  # without replacement: the rest in their proportions
    np.testing.assert_allclose((second == 1).mean(), 2 / 3, atol=4 * 0.5 / np.sqrt(len(second)))


def test_what_was_filtered_is_never_drawn() -> None:
    scores = np.array([[0.0, -np.inf, 1.0]] * 500)
    assert set(sampling.best(sampling.perturbed(scores, np.random.default_rng(0)), 1)[:, 0]) == {0, 2}
