"""What each way of steering generation does to scores, row by row and written out again by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.models.generate import processors, sampling
from npora.models.generate.generation import generate
from tests.models.test_generation import TRAP, Table
from tests.tiny_decoders import tiny_decoder


@pytest.mark.parametrize("seed", range(20))
def test_typical_keeps_the_tokens_whose_surprise_is_nearest_to_its_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, mass = rng.standard_normal((3, 7)) * 2, float(rng.uniform(0.05, 0.95))
    found = sampling.typical(scores, mass)
    for row, kept in zip(scores, found, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        far = [abs(-math.log(each) + (p * np.log(p)).sum()) for each in p]
        total, chosen = 0.0, set()
        for token in sorted(range(7), key=far.__getitem__):
            chosen.add(token)
            total += p[token]
            if total >= mass:
                break
        assert {token for token in range(7) if np.isfinite(kept[token])} == chosen
        np.testing.assert_array_equal(kept[sorted(chosen)], row[sorted(chosen)])


def test_what_fills_up_and_is_no_token_is_neither_penalised_nor_banned() -> None:
    scores = np.array([[1.0, -1.0, 2.0], [1.0, -1.0, 2.0]])
    ids = np.array([[3, 0, 1], [2, 3, 4]])  # 3 and 4 are none of the three tokens
    found = processors.repetition_penalty(2.0, np.ones((2, 1), dtype=bool))(ids, scores)
    np.testing.assert_array_equal(found, [[0.5, -2, 2], [1, -1, 1]])


def test_no_n_in_a_row_stand_in_a_row_twice() -> None:
    """Each row by its own: 0 1 was followed by 2 in the first, and nothing has to be avoided in the second."""
    ids = np.array([[0, 1, 2, 0, 1], [2, 2, 0, 1, 2]])
    found = processors.no_repeated_ngrams(3)(ids, np.zeros((2, 3)))
    np.testing.assert_array_equal(np.isneginf(found), [[False, False, True], [False, False, False]])


@pytest.mark.parametrize("beams", [1, 2])
def test_what_processors_see_is_all_that_is_written_and_nothing_more(beams: int) -> None:
    seen: list[np.ndarray] = []

    def watch(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        seen.append(ids.copy())
        return scores

    generate(
        Table(TRAP), [[0, 1], [1, 2]], max_new_tokens=3, num_beams=beams, eos_token_id=[], logits_processor=[watch]
    )
    assert [ids.shape[1] for ids in seen] == [2, 3, 4]
    for ids in seen:
        assert (ids >= 0).all() and {tuple(row) for row in ids[:, :2].tolist()} == {(0, 1), (1, 2)}


def test_the_head_over_tokens_drops_a_tenth_where_a_config_says_nothing() -> None:
    model = tiny_decoder("llama", "TokenClassification")
    assert model.dropout.p == 0.1


def test_of_qwen2s_attention_queries_keys_and_values_have_biases() -> None:
    names = set(tiny_decoder("qwen2", "CausalLM").state_dict())
    for letter, biased in (("q", True), ("k", True), ("v", True), ("o", False)):
        assert any(name.endswith(f"{letter}_proj.bias") for name in names) is biased
