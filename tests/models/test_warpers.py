"""What min-p, typical-p and epsilon's cut leave of scores, by probabilities that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from npora.models.generate import sampling
from npora.models.generate.generation import _warper
from npora.models.generate.generation_config import GenerationConfig, chosen_options
from npora.nn.functional import log_softmax, softmax

NO = -np.inf
P = np.array([[0.5, 0.3, 0.15, 0.05], [0.3, 0.13, 0.27, 0.3]])
SCORES = np.log(P)


def kept(scores: np.ndarray, keep: list[list[int]]) -> np.ndarray:
    return np.where(np.array(keep, dtype=bool), scores, NO)


@pytest.mark.parametrize(
    ("share", "at_least", "keep"),
    [
        (0.4, 1, [[1, 1, 0, 0], [1, 1, 1, 1]]),  # bounds 0.2 and 0.12
        (0.95, 1, [[1, 0, 0, 0], [1, 0, 0, 1]]),  # 0.475 and 0.285
        (0.95, 3, [[1, 1, 1, 0], [1, 0, 1, 1]]),
    ],
)
def test_min_p_is_a_share_of_each_rows_likeliest(share: float, at_least: int, keep: list[list[int]]) -> None:
    np.testing.assert_array_equal(sampling.min_p(SCORES, share, at_least), kept(SCORES, keep))


def test_min_p_keeps_what_is_exactly_at_its_bound() -> None:
    equal = np.zeros((1, 4))
    np.testing.assert_array_equal(sampling.min_p(equal, 1.0), equal)


@pytest.mark.parametrize(
    ("mass", "at_least", "keep"),
    [
        # Entropies 1.142 and 1.341. Surprises differ from them by 0.449, 0.062, 0.755, 1.854 and 0.137, 0.699, 0.032,
        # 0.137: in the second row the third token comes first and then the two that tie.
        (0.2, 1, [[0, 1, 0, 0], [0, 0, 1, 0]]),
        (0.5, 1, [[1, 1, 0, 0], [1, 0, 1, 1]]),
        (0.9, 1, [[1, 1, 1, 0], [1, 1, 1, 1]]),
        (0.2, 3, [[1, 1, 1, 0], [1, 0, 1, 1]]),
    ],
)
def test_typical_takes_the_nearest_to_the_entropy(mass: float, at_least: int, keep: list[list[int]]) -> None:
    np.testing.assert_array_equal(sampling.typical(SCORES, mass, at_least), kept(SCORES, keep))


def test_typical_stops_where_its_mass_is_reached_exactly_and_keeps_all_where_rounding_leaves_it_short() -> None:
    nearest = np.exp(log_softmax(SCORES)[0])[0, 1]
    np.testing.assert_array_equal(sampling.typical(SCORES[:1], nearest), kept(SCORES[:1], [[0, 1, 0, 0]]))
    np.testing.assert_array_equal(sampling.typical(SCORES, 1 + 1e-9), SCORES)  # as if all summed to 1 − 1e-9


def test_typical_does_not_see_what_has_no_probability() -> None:
    scores = np.log([[0.6, 0.3, 0.1]])  # the second is the nearest to the entropy, 0.898
    left_out = np.insert(scores, 1, NO, axis=1)
    np.testing.assert_array_equal(sampling.typical(left_out, 0.2), [[NO, NO, scores[0, 1], NO]])
    np.testing.assert_array_equal(sampling.typical(left_out, 0.7), [[scores[0, 0], NO, scores[0, 1], NO]])


@pytest.mark.parametrize(
    ("epsilon", "at_least", "keep"),
    [
        (0.2, 1, [[1, 1, 0, 0], [1, 0, 1, 1]]),
        (0.4, 1, [[1, 0, 0, 0], [1, 0, 0, 1]]),  # the likeliest stay, and both where two are
        (0.9, 3, [[1, 1, 1, 0], [1, 0, 1, 1]]),
        (0.9, 2, [[1, 1, 0, 0], [1, 0, 0, 1]]),
    ],
)
def test_epsilon_cuts_what_is_less_probable(epsilon: float, at_least: int, keep: list[list[int]]) -> None:
    np.testing.assert_array_equal(sampling.epsilon_cutoff(SCORES, epsilon, at_least), kept(SCORES, keep))


def test_epsilon_keeps_what_is_exactly_as_probable() -> None:
    third = softmax(SCORES)[0][0, 2]
    np.testing.assert_array_equal(sampling.epsilon_cutoff(SCORES[:1], third), kept(SCORES[:1], [[1, 1, 1, 0]]))


def test_a_warper_cuts_at_epsilon_between_0_and_1_and_nowhere_else() -> None:
    np.testing.assert_array_equal(sampling.warper(epsilon=0.1)(SCORES), kept(SCORES, [[1, 1, 1, 0], [1, 1, 1, 1]]))
    for nothing in (0.0, 1.0):
        np.testing.assert_array_equal(sampling.warper(epsilon=nothing)(SCORES), SCORES)


def test_a_warper_takes_min_p_then_typical_p_then_epsilon() -> None:
    """Of the first row min-p leaves 5 : 3, whose entropy is 0.662: the likelier is the nearer, which alone it was not.
    Of the second it leaves all, and typical-p its first three."""
    np.testing.assert_array_equal(
        sampling.warper(share=0.4, mass=0.5)(SCORES), kept(SCORES, [[1, 0, 0, 0], [1, 0, 1, 1]])
    )
    # Of 0.5, 0.3, 0.15 and 0.05 the fourth goes, and the others are then 0.526, 0.316 and 0.158.
    np.testing.assert_array_equal(
        sampling.warper(share=0.2, epsilon=0.155)(SCORES[:1]), kept(SCORES[:1], [[1, 1, 1, 0]])
    )
    np.testing.assert_array_equal(
        sampling.warper(share=0.9, mass=0.1, epsilon=0.9, at_least=2)(SCORES[:1]), kept(SCORES[:1], [[1, 1, 0, 0]])
    )


@pytest.mark.parametrize(("beams", "left"), [(1, 1), (2, 3)])
def test_beams_keep_a_way_to_go_on_beside_every_end(beams: int, left: int) -> None:
    options = {"do_sample": True, "num_beams": beams}
    for name, value in (("top_k", 1), ("top_p", 0.1), ("min_p", 0.99), ("typical_p", 0.01), ("epsilon_cutoff", 0.9)):
        chosen = chosen_options(GenerationConfig(), {"top_k": 0, **options, name: value})
        assert np.isfinite(_warper(chosen, ends=2)(SCORES[:1])).sum() == left
