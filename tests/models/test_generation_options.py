"""What generation is told to do besides: several continuations, stops, what may not be written, and what is refused."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from npora.models.generate.generation import generate
from tests.models.test_generation import TRAP, Table
from tests.models.test_generation_families import FAMILIES, MASK, PROMPTS, made
from tests.models.test_gpt2 import tiny

STEERED: dict[str, dict[str, Any]] = {
    "a penalty": {"repetition_penalty": 1.5},
    "no pair twice": {"no_repeat_ngram_size": 2},
    "a criterion": {"stopping_criteria": [lambda ids, scores: ids[:, -1] % 5 == 3]},
    "a processor": {"logits_processor": [lambda ids, scores: scores * (1 + (ids[:, -1:] % 3))]},
}


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1, "num_return_sequences": 3},
                                  {"num_beams": 3, "num_return_sequences": 2}])  # fmt: skip
@pytest.mark.parametrize("option", STEERED)
@pytest.mark.parametrize("name", FAMILIES)
def test_with_a_cache_the_tokens_are_those_without(name: str, option: str, more: dict[str, Any]) -> None:
    options = {"max_new_tokens": 8, **STEERED[option], **more}
    found, expected = (made(name).generate(PROMPTS, MASK, use_cache=cached, **options) for cached in (True, False))
    np.testing.assert_array_equal(found, expected)
    assert len(found) == 3 * more.get("num_return_sequences", 1)


def test_several_draws_of_a_prompt_are_draws_of_its_own_that_read_it_once() -> None:
    model = Table([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0.25] * 4])
    found = generate(model, [[0], [2]], max_new_tokens=1, do_sample=True, seed=3, num_return_sequences=4000,
                     eos_token_id=[])  # fmt: skip
    assert model.calls == [2] and found.shape == (8000, 2)
    assert (found[:4000, 0] == 0).all() and (found[4000:, 0] == 2).all()
    for rows, p in ((found[:4000, 1], model.logits[0]), (found[4000:, 1], model.logits[2])):
        share = np.bincount(rows, minlength=4) / 4000
        assert np.abs(share - np.exp(p)).max() < 5 * 0.5 / 4000**0.5  # five deviations
    longer = generate(model, [[0], [2]], max_new_tokens=3, do_sample=True, num_return_sequences=5, eos_token_id=[])
    assert model.calls[1:] == [2, 10, 10] and len({str(row) for row in longer}) > 5


def test_what_ended_is_filled_up_and_stands_before_processors_and_criteria_at_every_step() -> None:
    """Row 1 stops at once, by a criterion; the others at their ends."""
    seen: list[np.ndarray] = []

    def watch(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        seen.append(ids)
        assert scores.shape == (3, 4)
        scores[:, 0] = -np.inf  # they are its own
        return scores

    found = generate(
        Table(TRAP), [[0], [2], [1]], max_new_tokens=4, eos_token_id=3, pad_token_id=9, logits_processor=[watch],
        stopping_criteria=[lambda ids, scores: ids[:, 0] == 2, lambda ids, scores: False],
    )  # fmt: skip
    assert found[1].tolist() == [2, 1, 9, 9, 9]
    assert [ids.shape for ids in seen] == [(3, 1), (3, 2), (3, 3), (3, 4)]
    np.testing.assert_array_equal(seen[-1], found[:, :4])
    stopped = generate(
        Table(TRAP), [[0]], max_new_tokens=9, eos_token_id=[], stopping_criteria=[lambda ids, scores: True]
    )
    assert stopped.shape == (1, 2)


def test_a_bad_word_alone_leaves_beams_what_can_go_on() -> None:
    """Of four tokens one is allowed: two of three beams have no probability, and the one goes on as it must."""
    for options in ({}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}):
        found = generate(Table(TRAP), [[0]], max_new_tokens=3, eos_token_id=3, suppress_tokens=[0, 2, 3], **options)
        assert found[0].tolist() == [0, 1, 1, 1]


def test_beams_without_a_probability_take_no_place_and_no_time() -> None:
    options: dict[str, Any] = {"num_beams": 3, "eos_token_id": 3, "pad_token_id": 9, "max_new_tokens": 4}
    found = generate(Table(TRAP), [[0]], suppress_tokens=[0, 2], num_return_sequences=3, length_penalty=0.0, **options)
    # Of 1 and the end alone; p(1, 0 → 1) = 1/2, p(1 → 1) = 0.35, and an end is all but impossible.
    assert found[:, 1:].tolist() == [[1, 1, 1, 1], [3, 9, 9, 9], [1, 3, 9, 9]]
    model = Table(TRAP)
    assert generate(model, [[0]], suppress_tokens=[0, 1, 2], **options).tolist() == [[0, 3]]
    assert model.calls == [1]


def test_time_is_up() -> None:
    def slow(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return scores

    found = generate(Table(TRAP), [[0]], max_new_tokens=1000, eos_token_id=[], logits_processor=[slow], max_time=0.2)
    assert 2 < found.shape[1] < 15


class Letters:
    """a, b, c and é in two tokens, as a tokenizer decodes them."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return b"".join([b"a", b"b", b"\xc3", b"\xa9"][i] for i in ids).decode(errors="replace")


def test_strings_stop_where_their_last_token_is_written() -> None:
    cycle = Table(np.roll(np.eye(4), 1, axis=1) + 1e-9)  # a, b, é, a, b, é …
    for strings, length in (("é", 4), ("bé", 4), ("éa", 5), (["éab", "ba"], 6), ("a", 5), ("aé", 9)):
        options: dict[str, Any] = {"stop_strings": strings, "max_new_tokens": 8, "eos_token_id": []}
        for beams in (1, 2):
            found = generate(cycle, [[0]], tokenizer=Letters(), num_beams=beams, **options)
            assert found.shape == (1, length), strings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_strings": ["a"]}, "stop_strings are found in what the tokenizer decodes: pass tokenizer="),
        ({"num_return_sequences": 2}, "num_return_sequences=2 needs do_sample=True"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences=3 is more than num_beams=2"),
        ({"num_return_sequences": 0}, "num_return_sequences must be a whole number of at least 1; got 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be positive, 1 for none; got 0.0"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size must be a whole number of at least 0; got 1.5"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "at least 6 and at most 5, of which 1 are the prompt"),
        ({"min_length": 30}, "at least 30 and at most 21"),
        ({"suppress_tokens": [1, 4]}, "suppress_tokens: the ids of this model are 0 … 3; got 4"),
        ({"bad_words_ids": [[1], [2, -1]]}, "bad_words_ids: the ids of this model are 0 … 3; got -1"),
        ({"bad_words_ids": [[]]}, "bad_words_ids holds a sequence without a token"),
        ({"suppress_tokens": [0, 1, 2, 3]}, "leave a sequence no token that may come next"),
        ({"no_repeat_ngram_size": 1}, "leave a sequence no token that may come next"),
        ({"logits_processor": [lambda ids, scores: None]}, r"must return scores \[1, 4\]; .*lambda> returned \[\]"),
        ({"logits_processor": [lambda ids, scores: scores * np.nan]}, "or scores of nan"),
        ({"stopping_criteria": [lambda ids, scores: [True, False]]}, r"a bool for each of 1 sequences, .* got \[2\]"),
        ({"min_p": 1.5, "do_sample": True}, r"min_p must lie in \[0, 1\]; got 1.5"),
        ({"forced_bos_token_id": "2"}, "forced_bos_token_id must be a token's number; got '2'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(Table(TRAP), [[0]], eos_token_id=[], **options)


def test_what_the_generation_config_says_is_done_and_the_caller_overrules_it() -> None:
    from npora.models.generate.generation_config import GenerationConfig

    model: Any = tiny(3)
    said = {"repetition_penalty": 1.8, "min_new_tokens": 6, "no_repeat_ngram_size": 2, "max_new_tokens": 10}
    expected = model.generate([[3, 8, 5]], **said)
    plain = model.generate([[3, 8, 5]], max_new_tokens=10)
    model.generation_config = GenerationConfig(**said)
    assert model.generate([[3, 8, 5]]).tolist() == expected.tolist() != plain.tolist()
    idle = {"repetition_penalty": 1.0, "min_new_tokens": 0, "no_repeat_ngram_size": 0}
    assert model.generate([[3, 8, 5]], **idle).tolist() == plain.tolist()
