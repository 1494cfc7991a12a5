"""The scores that each processor returns, by hand and for several rows, and which of them the options put in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.generate import processors
from npora.models.generate.generation_config import GenerationConfig, chosen_options
from tests.tiny_decoders import tiny_decoder

NO = -np.inf
SCORES = np.array([[1.0, -1.0, 0.5, 0.0], [2.0, 3.0, -2.0, 0.25], [0.0, 1.0, 2.0, 3.0]])


def put_in_place(
    prompt: int, most: int = 4, ends: tuple[int, ...] = (3,), prompts: int = 1, **options: Any
) -> processors.Processor | None:
    """What the options ask for, behind so many prompts of that length and of a model of four tokens."""
    chosen = chosen_options(GenerationConfig(), options)
    return processors.processors(chosen, np.ones((prompts, prompt), dtype=bool), most, ends, 4)


def after(process: processors.Processor | None, length: int) -> list[float]:
    """What becomes of the scores 1, 2, 3, 4 behind so many ids."""
    assert process is not None
    return list(process(np.zeros((1, length), dtype=np.int64), np.array([[1.0, 2.0, 3.0, 4.0]]))[0])


def test_a_penalty_divides_what_is_above_0_and_multiplies_what_is_below() -> None:
    ids = np.array([[0, 1, 2, 3], [2, 2, 2, 0], [3, 3, 3, 3]])
    found = processors.repetition_penalty(2.0, np.ones((3, 1), dtype=bool))(ids, SCORES)
    np.testing.assert_array_equal(found, [[0.5, -2, 0.25, 0], [1, 3, -4, 0.25], [0, 1, 2, 1.5]])


def test_a_penalty_does_not_see_the_padding_of_a_prompt_in_any_of_its_beams() -> None:
    prompts = np.array([[False, True], [True, True]])  # two prompts, two beams each
    ids = np.array([[0, 1, 2], [0, 1, 1], [0, 1, 2], [0, 0, 0]])
    found = processors.repetition_penalty(2.0, prompts)(ids, np.full((4, 3), 4.0))
    np.testing.assert_array_equal(found, [[4, 2, 2], [4, 2, 4], [2, 2, 2], [2, 4, 4]])


@pytest.mark.parametrize(
    ("n", "ids", "banned"),
    [
        (2, [[1, 1]], [1]),  # one pair is there, and 1 would make it another
        (2, [[1, 2]], []),
        (2, [[1]], []),  # no pair yet
        (1, [[1, 2]], [1, 2]),
        (2, [[0, 3, 0]], []),  # behind 0 came 3, which fills up and is none of three tokens
        (2, [[0, 2, 0, 1, 0]], [1, 2]),
        (3, [[0, 1, 2, 0, 1]], [2]),
    ],
)
def test_no_n_in_a_row_come_again(n: int, ids: list[list[int]], banned: list[int]) -> None:
    found = processors.no_repeated_ngrams(n)(np.array(ids), np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_array_equal(found, [[NO if token in banned else token + 1.0 for token in range(3)]])


def test_a_bias_is_added_to_the_last_token_of_a_sequence_whose_others_are_written() -> None:
    bias = {(3,): 10.0, (1, 2): 1.0, (0, 1, 2): 2.0, (2, 2, 0): -4.0, (2, 0, 1, 0): 100.0, (0, 1, 0, 1, 0): 1000.0}
    ids = np.array([[2, 0, 1], [0, 1, 0], [1, 2, 2]])
    # The first row ends with 1, with 0 1, and is the beginning of 2 0 1 | 0, which is as long as it; the second ends
    # with none, and of 0 1 0 1 | 0, which is longer, it has the beginning alone; the third ends with 2 2.
    np.testing.assert_array_equal(
        processors.biased(bias)(ids, SCORES),
        SCORES + np.array([[100, 0, 3, 10], [0, 0, 0, 10], [-4, 0, 0, 10]]),
    )


def test_without_tokens_from_one_length_to_another() -> None:
    process = processors.without([1, 3], until=4, since=2)
    for length, expected in ((1, [1, 2, 3, 4]), (2, [1, NO, 3, NO]), (3, [1, NO, 3, NO]), (4, [1, 2, 3, 4])):
        assert after(process, length) == expected


def test_what_is_forced_has_0_and_all_else_nothing_at_that_length_alone() -> None:
    for length, expected in ((1, [1, 2, 3, 4]), (2, [NO, 0, NO, 0]), (3, [1, 2, 3, 4])):
        assert after(processors.forced([1, 3], at=2), length) == expected


def test_what_is_allowed_is_asked_with_the_number_of_the_prompt_and_its_ids() -> None:
    """Two prompts, two rows each."""
    ids, scores = np.array([[0, 1], [0, 2], [1, 1], [1, 3]]), np.arange(1.0, 17).reshape(4, 4)
    asked: list[tuple[int, list[int]]] = []

    def which(prompt: int, written: np.ndarray) -> list[int]:
        assert isinstance(prompt, int)
        asked.append((prompt, written.tolist()))
        return [[0, 1], [3]][prompt]

    found = processors.allowed(which, 2)(ids, scores)
    np.testing.assert_array_equal(found, [[1, 2, NO, NO], [5, 6, NO, NO], [NO, NO, NO, 12], [NO, NO, NO, 16]])
    assert asked == [(0, [0, 1]), (0, [0, 2]), (1, [1, 1]), (1, [1, 3])]


def test_an_option_that_asks_for_nothing_puts_nothing_in_place() -> None:
    for options in ({}, {"min_length": 2}, {"min_length": 3}, {"min_new_tokens": 0}):
        assert put_in_place(3, **options) is None, options
    assert put_in_place(3, ends=(), min_new_tokens=2) is None  # no end to wait with
    assert put_in_place(3, ends=(4,), min_new_tokens=2) is None  # or one that is no token


@pytest.mark.parametrize("options", [{"min_length": 5}, {"min_new_tokens": 2}, {"min_length": 4, "min_new_tokens": 2}])
def test_an_end_comes_no_sooner_than_it_may(options: dict[str, int]) -> None:
    process = put_in_place(3, **options)
    for length, expected in ((3, [1, 2, 3, NO]), (4, [1, 2, 3, NO]), (5, [1, 2, 3, 4])):
        assert after(process, length) == expected


def test_a_first_and_a_last_token_are_forced_in_exactly_their_steps() -> None:
    process = put_in_place(1, most=3, forced_bos_token_id=1, forced_eos_token_id=[2, 3])
    for length, expected in ((1, [NO, 0, NO, NO]), (2, [1, 2, 3, 4]), (3, [NO, NO, 0, 0])):
        assert after(process, length) == expected
    process = put_in_place(2, most=1, forced_bos_token_id=1, forced_eos_token_id=2)
    assert after(process, 2) == [NO, NO, 0, NO]  # behind two ids no first token comes


def test_what_must_not_come_first_must_not_come_behind_a_forced_first_token() -> None:
    process = put_in_place(2, begin_suppress_tokens=[0, 2])
    for length, expected in ((2, [NO, 2, NO, 4]), (3, [1, 2, 3, 4])):
        assert after(process, length) == expected
    process = put_in_place(1, begin_suppress_tokens=[0, 2], forced_bos_token_id=0)
    for length, expected in ((1, [0, NO, NO, NO]), (2, [NO, 2, NO, 4]), (3, [1, 2, 3, 4])):
        assert after(process, length) == expected


def test_words_are_banned_and_biased_and_an_end_is_no_bad_word() -> None:
    process = put_in_place(1, bad_words_ids=[[3], [0, 1], [2]], sequence_bias=[([0], 8.0), ([0, 1], 2.0)])
    assert after(process, 1) == [9, NO, NO, 4]
    assert after(put_in_place(1, sequence_bias={(0, 3): 0.5}), 2) == [1, 2, 3, 4.5]
    assert after(put_in_place(1, suppress_tokens=[2]), 9) == [1, 2, NO, 4]


def test_what_a_function_allows_is_put_in_place() -> None:
    assert after(put_in_place(2, prefix_allowed_tokens_fn=lambda prompt, ids: [1, 3]), 2) == [NO, 2.0, NO, 4.0]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_so_many_continuations_as_are_asked_for_stand_together(copies: int) -> None:
    model, prompts = tiny_decoder("llama"), np.array([[3, 5], [7, 2]])
    found = model.generate(prompts, max_new_tokens=3, do_sample=True, num_return_sequences=copies, seed=1)
    assert found.shape[0] == 2 * copies and (found[:, :2] == np.repeat(prompts, copies, axis=0)).all()


@pytest.mark.parametrize("end", [0, 3])
def test_an_end_may_be_the_first_or_the_last_of_the_vocabulary(end: int) -> None:
    scores = [1.0, 2.0, 3.0, 4.0]
    scores[end] = NO
    assert after(put_in_place(2, ends=(end, 4, -1), min_new_tokens=2), 2) == scores
