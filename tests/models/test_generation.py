"""Generation: what is promised of every model and prompt, and a search whose answer is known."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.models import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
from npora.models.generate.generation import generate
from npora.nn import Cache, Packing, is_grad_enabled
from tests.models.test_gpt2 import adapted, tiny

OPTIONS: list[dict[str, Any]] = [
    {}, {"do_sample": True, "seed": 3}, {"do_sample": True, "temperature": 1.5, "top_k": 4, "top_p": 0.9, "seed": 4},
    {"num_beams": 3}, {"num_beams": 2, "length_penalty": -0.5, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never"}, {"num_beams": 2, "do_sample": True, "top_p": 0.7, "seed": 5},
]  # fmt: skip
EVERY = st.sampled_from(OPTIONS)
ENDS = st.sampled_from([[], 2, [2, 5, 9]])


@st.composite
def prompts(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Up to four prompts of 1 to 5 tokens, each padded on a side of its own."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    width = max(lengths)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    mask = np.array([np.roll(np.arange(width) < n, draw(st.sampled_from([0, width - n]))) for n in lengths])
    return np.where(mask, rng.integers(1, 13, mask.shape), 0), mask.astype(int)


def model(seed: int) -> GPT2LMHeadModel:
    return tiny(seed, pad_token_id=0, eos_token_id=2, scale_attn_by_inverse_layer_idx=seed % 2 == 1)


@given(st.integers(0, 50), prompts(), EVERY, ENDS)
def test_with_a_cache_the_tokens_are_those_without(seed: int, prompt: Any, options: Any, ends: Any) -> None:
    found, expected = (
        generate(model(seed), *prompt, max_new_tokens=8, eos_token_id=ends, use_cache=use_cache, **options)
        for use_cache in (True, False)
    )
    np.testing.assert_array_equal(found, expected)


@given(st.integers(0, 50), prompts(), st.sampled_from([o for o in OPTIONS if "do_sample" not in o]), ENDS)
def test_prompts_in_a_batch_are_continued_as_each_alone(seed: int, prompt: Any, options: Any, ends: Any) -> None:
    ids, mask = prompt
    found = generate(model(seed), ids, mask, max_new_tokens=8, eos_token_id=ends, **options)
    np.testing.assert_array_equal(found[:, : ids.shape[1]], ids)
    longest = 0
    for row, prompt_ids, real in zip(found, ids, mask.astype(bool), strict=True):
        alone = generate(model(seed), prompt_ids[None, real], max_new_tokens=8, eos_token_id=ends, **options)
        new = alone[0, real.sum() :]
        np.testing.assert_array_equal(row[ids.shape[1] :][: len(new)], new)
        assert not row[ids.shape[1] + len(new) :].any()  # the rest is padding
        longest = max(longest, len(new))
    assert found.shape[1] == ids.shape[1] + longest


@given(st.integers(0, 50), prompts())
def test_a_sample_of_the_likeliest_alone_is_greedy(seed: int, prompt: Any) -> None:
    expected = generate(model(seed), *prompt, max_new_tokens=8)
    for options in ({"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-9}):
        np.testing.assert_array_equal(
            generate(model(seed), *prompt, max_new_tokens=8, do_sample=True, **options), expected
        )


@given(st.integers(0, 50), prompts(), EVERY)
def test_the_same_seed_gives_the_same_ids(seed: int, prompt: Any, options: Any) -> None:
    ids, mask = prompt
    first = generate(model(seed), ids, mask, max_new_tokens=6, **options)
    second = model(seed).generate(ids, mask, max_new_tokens=6, **options)  # the method is the function
    np.testing.assert_array_equal(first, second)


def test_other_seeds_give_other_ids_and_a_generator_goes_on() -> None:
    ids, rng = [[3, 4]], np.random.default_rng(0)
    samples = [
        generate(model(0), ids, max_new_tokens=9, do_sample=True, seed=seed).tolist() for seed in (0, 1, rng, rng)
    ]
    assert samples[0] == samples[2] and len({str(sample) for sample in samples}) == 3


def test_a_draw_does_not_depend_on_when_other_sequences_end() -> None:
    ids = np.array([[3, 4], [7, 1], [9, 9]])
    free = generate(model(1), ids, do_sample=True, seed=0, max_new_tokens=12, eos_token_id=[])
    ended = generate(model(1), ids, do_sample=True, seed=0, max_new_tokens=12, eos_token_id=int(free[1, 3]))
    lengths = []
    for row, full in zip(ended, free, strict=True):
        stops = np.flatnonzero(full[2:] == free[1, 3])
        lengths.append(int(stops[0]) + 3 if stops.size else 14)
        np.testing.assert_array_equal(row[: lengths[-1]], full[: lengths[-1]])
    assert lengths[1] <= 4 and len(set(lengths)) > 1


class Table:
    """A model whose next token depends on the last one alone, by a table of probabilities."""

    config = GPT2Config(vocab_size=4)

    def __init__(self, table: Any) -> None:
        self.logits = np.log(np.array(table))
        self.calls: list[int] = []

    def next_logits(self, ids: np.ndarray, packing: Packing, cache: Cache) -> np.ndarray:
        assert not is_grad_enabled()
        cache[0].append(ids[:, None] * 1.0, ids[:, None] * 1.0, packing)
        self.calls.append(len(ids))
        return self.logits[ids[packing.last_rows()]]


# From 0 the likeliest first step, to 1, leads to poor second ones.
TRAP = [[0.1, 0.5, 0.4, 1e-9], [0.35, 0.35, 0.3, 1e-9], [0.9, 0.05, 0.05, 1e-9], [0.25, 0.25, 0.25, 0.25]]


def test_beam_search_finds_the_best_whole_where_greedy_search_does_not() -> None:
    assert generate(Table(TRAP), [[0]], max_new_tokens=2, eos_token_id=[]).tolist() == [[0, 1, 0]]
    assert generate(Table(TRAP), [[0]], max_new_tokens=2, eos_token_id=[], num_beams=2).tolist() == [[0, 2, 0]]


def test_there_are_enough_beams_to_go_on_however_many_have_ended() -> None:
    # Ends are the likeliest, and the best whole begins with the second likeliest of the rest.
    table = np.full((6, 6), 1 / 6)
    table[0], table[5] = [0.01, 0.26, 0.25, 0.25, 0.12, 0.11], [0.001, 0.995, 0.001, 0.001, 0.001, 0.001]
    options = {"num_beams": 2, "eos_token_id": [1, 2, 3], "length_penalty": 3.0, "early_stopping": "never"}
    assert generate(Table(table), [[0]], max_new_tokens=2, **options).tolist() == [[0, 5, 1]]
    # Both beams have three ends that are likelier than any other step, and go on nevertheless.
    table[4], table[5] = [0.04, 0.3, 0.3, 0.3, 0.03, 0.03], [0.04, 0.3, 0.3, 0.3, 0.03, 0.03]
    assert generate(Table(table), [[0]], max_new_tokens=3, **options).tolist() == [[0, 4, 0, 1]]


@given(st.integers(0, 999), st.sampled_from([0.0, 0.7, 1.0, 3.0, -1.0]))
def test_a_beam_for_every_sequence_finds_the_best_of_all(seed: int, penalty: float) -> None:
    """16 beams hold all of 4² unfinished sequences, so that the search misses nothing."""
    table = np.random.default_rng(seed).dirichlet([0.5] * 4, size=4) + 1e-6
    table[:, 3] *= 3
    found = generate(
        Table(table), [[0], [1]], max_new_tokens=3, eos_token_id=3, pad_token_id=9, num_beams=64,
        length_penalty=penalty, early_stopping="never",
    )  # fmt: skip
    log_p = np.log(table / table.sum(axis=1, keepdims=True))
    for start, *new in found.tolist():
        worth = {}
        for tokens in product(range(4), repeat=3):
            whole = tokens[: tokens.index(3) + 1] if 3 in tokens else tokens
            steps = zip((start, *whole), whole, strict=False)
            worth[whole] = sum(log_p[a, b] for a, b in steps) / len(whole) ** penalty
        assert worth[tuple(t for t in new if t != 9)] == pytest.approx(max(worth.values()), abs=1e-12)


def test_a_beam_that_is_drawn_has_one_more_token_to_choose_from_than_there_are_ends() -> None:
    table = Table([[0.34, 0.33, 0.32, 0.01]] * 4)
    options = {"eos_token_id": 3, "max_new_tokens": 2, "num_beams": 2, "do_sample": True, "top_k": 1}
    drawn = {tuple(generate(table, [[0]], seed=seed, **options)[0]) for seed in range(100)}
    assert len(drawn) > 1 and {token for tokens in drawn for token in tokens} == {0, 1}


def test_a_cached_step_computes_one_row_a_sequence_and_those_that_ended_none() -> None:
    chain = Table(np.roll(np.eye(4), 1, axis=1) * 0.9 + 0.02)  # 0 → 1 → 2 → 3
    found = generate(chain, [[0, 0, 0], [0, 0, 1]], eos_token_id=3, pad_token_id=7)
    assert found.tolist() == [[0, 0, 0, 1, 2, 3], [0, 0, 1, 2, 3, 7]]
    assert chain.calls == [6, 2, 1]
    chain.calls.clear()
    generate(chain, [[0, 0, 0], [0, 0, 1]], eos_token_id=3, pad_token_id=7, use_cache=False)
    assert chain.calls == [6, 8, 5]


def test_padding_is_the_end_token_unless_one_is_given() -> None:
    chain = Table(np.roll(np.eye(4), 1, axis=1) * 0.9 + 0.02)
    chain.config = GPT2Config(vocab_size=4, eos_token_id=[3, 9])
    assert generate(chain, [[0], [1]]).tolist() == [[0, 1, 2, 3], [1, 2, 3, 3]]
    chain.config = GPT2Config(vocab_size=4, pad_token_id=0, eos_token_id=3)
    assert generate(chain, [[1], [2]], num_beams=2).tolist() == [[1, 2, 3], [2, 3, 0]]
    # Without a mask what looks like padding is padding: the first prompt is [2] alone.
    assert generate(chain, [[2, 0], [1, 2]]).tolist() == [[2, 0, 3], [1, 2, 3]]
    assert generate(chain, [[2, 0]], [[1, 1]], max_new_tokens=1).tolist() == [[2, 0, 1]]


class Reader(Table):
    """An encoder-decoder: a sequence of numbers is read, and then each number is the last one plus their sum."""

    is_encoder_decoder = True

    def __init__(self) -> None:
        super().__init__(np.eye(4) * 0.9 + 0.02)
        self.config: Any = GPT2Config(vocab_size=4, pad_token_id=0, eos_token_id=[])
        self.config.decoder_start_token_id = 1

    def encode(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> Any:
        class Memory:
            sums = (input_ids * attention_mask).sum(axis=1)

            def select(self, sequences: np.ndarray) -> None:
                self.sums = self.sums[sequences]

        return Memory()

    def next_logits(self, ids: np.ndarray, packing: Packing, cache: Cache, memory: Any = None) -> np.ndarray:
        return self.logits[(ids[packing.last_rows()] + memory.sums) % 4]


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"use_cache": False}])
def test_an_encoder_decoder_returns_its_decoders_ids(options: dict[str, Any]) -> None:
    found = generate(Reader(), [[1, 2], [1, 9]], [[1, 1], [1, 0]], max_new_tokens=3, **options)
    assert found.tolist() == [[1, 0, 3, 2], [1, 2, 3, 0]]
    ended = generate(Reader(), [[1, 2], [1, 9]], [[1, 1], [1, 0]], eos_token_id=[0, 3], pad_token_id=7, **options)
    assert ended.tolist() == [[1, 0, 7], [1, 2, 3]]


class Recorder:
    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    def put(self, ids: np.ndarray) -> None:
        self.seen.append(ids.tolist())

    def end(self) -> None:
        self.seen.append(["end"])


def test_a_streamer_sees_the_prompts_then_each_token_as_it_comes() -> None:
    recorder = Recorder()
    chain = Table(np.roll(np.eye(4), 1, axis=1) * 0.9 + 0.02)
    generate(chain, [[0, 1], [0, 2]], eos_token_id=3, pad_token_id=7, streamer=recorder)
    assert recorder.seen == [[[0, 1], [0, 2]], [2, 3], [3, 7], ["end"]]


def test_a_peft_model_generates_with_its_adapter() -> None:
    peft_model = adapted()
    base: Any = tiny()
    ids = [[3, 5, 9]]
    found = peft_model.generate(ids, max_new_tokens=8)
    assert found.tolist() != base.generate(ids, max_new_tokens=8).tolist()
    with peft_model.disable_adapter():
        np.testing.assert_array_equal(peft_model.generate(ids, max_new_tokens=8), base.generate(ids, max_new_tokens=8))
    np.testing.assert_array_equal(peft_model.merge_and_unload().generate(ids, max_new_tokens=8), found)  # type: ignore
    assert not hasattr(BertForSequenceClassification, "generate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1; got 0"),
        ({"num_beams": 1.5}, "num_beams must be a whole number"),
        ({"early_stopping": "always"}, "early_stopping must be"),
        ({"do_sample": True, "temperature": 0.0}, "temperature must be positive"),
        ({"num_beams": 2, "streamer": Recorder()}, "streamer needs num_beams=1"),
        ({"attention_mask": [[0, 0]]}, "sequence 0 of the batch has no token"),
        ({"attention_mask": [[1]]}, "they must agree"),
        ({"max_new_tokens": 16}, "longer than the 16 positions"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tiny(eos_token_id=[]), [[3, 4]], **options)


def test_the_last_position_can_be_reached() -> None:
    assert generate(tiny(eos_token_id=[]), [[3, 4]], max_new_tokens=15).shape == (1, 17)


def test_logits_that_are_not_a_number_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match="not a number"):
        generate(Table(np.full((4, 4), np.nan)), [[0]])


def test_without_a_start_token_a_decoder_cannot_begin() -> None:
    reader = Reader()
    reader.config.decoder_start_token_id = None
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        generate(reader, [[1]])
