"""What several updates come to, against the formulas element by element, and against what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.lora import combine
from npora.lora.combine import Factors, combined, combined_factors, largest, side_by_side, singular, singular_of

SHAPE = (4, 5)
WEIGHTS = [0.7, -1.3, 0.4]
PARTS = [np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(3)]
FACTORS = [
    Factors(s, *(np.random.default_rng(seed).standard_normal(shape) for shape in ((6, r), (r, 5))))
    for seed, (s, r) in enumerate([(2.0, 3), (0.5, 3), (-1.5, 3)])
]


def rng() -> np.random.Generator:
    return np.random.default_rng(9)


def by_hand(name: str, density: float, majority: str) -> Any:
    """The formulas, one element after another."""
    draw, pruned = rng(), []
    for part in PARTS:
        if name.startswith("dare"):
            kept = draw.random(SHAPE) < density
            pruned.append({at: part[at] / density if kept[at] else 0.0 for at in np.ndindex(SHAPE)})
        elif name == "linear":
            pruned.append({at: part[at] for at in np.ndindex(SHAPE)})
        else:
            order = sorted(np.ndindex(SHAPE), key=lambda at: -abs(part[at]))[: int(density * part.size)]
            pruned.append({at: part[at] if at in order else 0.0 for at in np.ndindex(SHAPE)})
    result = np.zeros(SHAPE)
    for at in np.ndindex(SHAPE):
        t = [one[at] for one in pruned]
        terms = [w * x for w, x in zip(WEIGHTS, t, strict=True)]
        if "ties" in name:
            votes = sum(t) if majority == "total" else sum(1 if x > 0 else -1 if x < 0 else 0 for x in t)
            sign = 1 if votes >= 0 else -1
            won = [term for term, x in zip(terms, t, strict=True) if x * sign > 0]
            result[at] = sum(won) / max(len(won), 1)
        else:
            result[at] = sum(terms)
    return result


@pytest.mark.parametrize("majority", ["total", "frequency"])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.55, 1.0])
@pytest.mark.parametrize("name", combine.ELEMENTWISE)
def test_each_combination_is_its_formula(name: str, density: float, majority: str) -> None:
    found = combined(name, PARTS, WEIGHTS, density, majority, rng())
    np.testing.assert_allclose(found, by_hand(name, density, majority), rtol=0, atol=1e-15)


def test_the_two_elections_differ_where_one_outweighs_two() -> None:
    parts = [np.array([3.0]), np.array([-1.0]), np.array([-1.0])]
    outcomes = [combined("ties", parts, [1, 1, 1], 1.0, majority, rng())[0] for majority in ("total", "frequency")]
    assert outcomes == [3.0, -1.0]
    assert combined("ties", [np.array([1.0]), np.array([-1.0])], [1, 1], 1.0, "total", rng())[0] == 1.0  # + at a draw


@given(st.floats(0.01, 1), st.integers(0, 99))
def test_pruning_keeps_the_share_and_no_smaller_number_before_a_larger_one(density: float, seed: int) -> None:
    part = np.random.default_rng(seed).standard_normal(SHAPE)
    kept = largest(part, density)
    assert np.count_nonzero(kept) == int(density * part.size)
    assert (kept[kept != 0] == part[kept != 0]).all()
    assert abs(part[kept == 0]).max(initial=0) <= abs(kept[kept != 0]).min(initial=np.inf)
    equal = np.random.default_rng(0).choice([-2.0, -1, 1, 2], 1000)
    first = sorted(range(1000), key=lambda at: -abs(equal[at]))[:700]
    assert set(largest(equal, 0.7).nonzero()[0]) == set(first)


def test_what_is_dropped_at_random_has_the_whole_as_its_mean() -> None:
    draws = np.array(
        [combined("dare_linear", PARTS, WEIGHTS, 0.3, "total", np.random.default_rng(n)) for n in range(4000)]
    )
    mean = sum(w * part for w, part in zip(WEIGHTS, PARTS, strict=True))
    assert (abs(draws.mean(axis=0) - mean) < 5 * draws.std(axis=0) / 4000**0.5).all()
    assert not np.allclose(draws[0], draws[1])
    again = combined("dare_ties", PARTS, WEIGHTS, 0.3, "total", np.random.default_rng(1))
    assert again.tobytes() == combined("dare_ties", PARTS, WEIGHTS, 0.3, "total", np.random.default_rng(1)).tobytes()


def weighted_sum() -> Any:
    return sum(w * part.s * part.B @ part.A for w, part in zip(WEIGHTS, FACTORS, strict=True))


def test_side_by_side_is_the_sum_exactly_and_the_factors_of_one_are_it_alone() -> None:
    np.testing.assert_allclose(side_by_side(FACTORS, WEIGHTS).update(), weighted_sum(), rtol=0, atol=1e-14)
    for part, weight in zip(FACTORS, WEIGHTS, strict=True):
        one = combined_factors("linear", [part], [weight], 1.0, "total", rng())
        np.testing.assert_allclose(one.update(), weight * part.update(), rtol=0, atol=1e-14)
    rough = combined_factors("linear", FACTORS, WEIGHTS, 1.0, "total", rng())
    assert not np.allclose(rough.update(), weighted_sum(), atol=0.5)  # it has the products B_j A_k too


def test_singular_values_come_from_the_factors_as_from_the_update() -> None:
    one = FACTORS[2]
    np.testing.assert_allclose(singular_of(one).cut(3).update(), one.s * one.B @ one.A, rtol=0, atol=1e-12)
    short, plain = singular_of(side_by_side(FACTORS, WEIGHTS)), singular(weighted_sum())
    np.testing.assert_allclose(short.values[: len(plain.values)], plain.values, rtol=0, atol=1e-13)
    for rank in range(1, 6):
        cut, error = short.cut(rank), (plain.values[rank:] ** 2).sum() ** 0.5
        np.testing.assert_allclose(cut.update(), plain.cut(rank).update(), rtol=0, atol=1e-12)
        assert abs(np.linalg.norm(cut.update() - weighted_sum()) - error) < 1e-12  # no matrix of this rank is nearer


def test_clamped_factors_lie_within_the_quantile_of_them_all_and_padding_changes_nothing() -> None:
    part = singular(weighted_sum()).cut(2)
    numbers = np.concatenate([part.B.ravel(), part.A.ravel()])
    held = combine.clamped(part, 0.8)
    assert max(abs(held.B).max(), abs(held.A).max()) == np.quantile(numbers, 0.8)
    within = abs(part.A) <= np.quantile(numbers, 0.8)
    assert (held.A[within] == part.A[within]).all() and within.any() and not within.all()
    padded = combine.of_rank(part, 7)
    assert padded.A.shape == (7, 5) and padded.B.shape == (6, 7)
    assert (padded.update() == part.update()).all()
