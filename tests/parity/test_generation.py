"""Generation against transformers': every token of greedy and beam search, and the warped scores of sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM
from npora.models.generate import sampling
from npora.models.generate.generation_config import DEFAULTS
from tests.parity.reference import torch, transformers
from tests.parity.reference_gpt2 import reference_gpt2

logits_process = transformers.generation.logits_process

# Large enough that every search looks at as many candidates as it wants, small enough that ends are found often.
SIZES = {"vocab_size": 13, "n_positions": 24, "n_embd": 8, "n_head": 2, "n_inner": 9}
PROMPTS = np.array([[5, 3, 9, 4], [0, 0, 0, 7], [0, 11, 6, 6]])
MASK = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]])


Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Random models: transformers', and the same of npora."""

    def pair(seed: int) -> Pair:
        directory = tmp_path_factory.mktemp("model")
        theirs = reference_gpt2(directory, seed=seed, **SIZES)
        return theirs, AutoModelForCausalLM.from_pretrained(directory, dtype=np.float64)

    return [pair(seed) for seed in range(4)]


def same_ids(pair: Pair, **options: Any) -> np.ndarray:
    """The ids that both generate, which must be the same."""
    expected = pair[0].generate(torch.tensor(PROMPTS), attention_mask=torch.tensor(MASK), **options).numpy()
    found = pair[1].generate(PROMPTS, MASK, **options)
    np.testing.assert_array_equal(found, expected)
    return found


@pytest.mark.parametrize("options", [{}, {"eos_token_id": [2, 4, 6]}, {"pad_token_id": 12, "max_new_tokens": 7}])
def test_greedy_search_takes_the_same_tokens(pairs: list[Pair], options: dict[str, Any]) -> None:
    for pair in pairs:
        same_ids(pair, **options)


BEAMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no end": {"eos_token_id": 99},
    "many ends": {"eos_token_id": [2, 4]},
    "long ones": {"length_penalty": 2.0},
    "short ones": {"length_penalty": -1.0},
    "no penalty": {"length_penalty": 0.0},
    "early": {"early_stopping": True},
    "never early": {"early_stopping": "never"},
    "never early, short ones": {"early_stopping": "never", "length_penalty": -0.5},
    "few tokens": {"max_new_tokens": 3},
    "one token": {"max_new_tokens": 1},
}


@pytest.mark.parametrize("beams", [2, 3, 4])
@pytest.mark.parametrize("options", BEAMS.values(), ids=BEAMS.keys())
def test_beam_search_takes_the_same_tokens(pairs: list[Pair], beams: int, options: dict[str, Any]) -> None:
    # transformers fills up with eos where pad_token_id is 0, since it tests the tensor's truth: hence 12.
    for pair in pairs:
        same_ids(pair, num_beams=beams, **{"pad_token_id": 12, "max_new_tokens": 16, **options})


def test_the_searches_above_meet_ends_of_different_lengths(pairs: list[Pair]) -> None:
    lengths = []
    for pair in pairs:
        found = same_ids(pair, num_beams=3, max_new_tokens=16, pad_token_id=12, early_stopping=True)
        lengths += [int((row[4:] == 2).argmax()) if 2 in row[4:] else None for row in found]
    assert len(set(lengths)) > 4, lengths


def test_padding_without_a_mask_is_known_by_its_token(pairs: list[Pair]) -> None:
    theirs, ours = pairs[0]
    np.testing.assert_array_equal(ours.generate(PROMPTS), theirs.generate(torch.tensor(PROMPTS)).numpy())


def scores(seed: int) -> np.ndarray:
    """Rows of scores, some of which tie, and rows so steep that one token has all the mass."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(4, 37)), rng.integers(-3, 3, (4, 37)), 40 * rng.normal(size=(2, 37))])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keep", [1, 3])
def test_warped_scores_are_those_of_transformers(seed: int, keep: int) -> None:
    z, untied = scores(seed), [0, 1, 2, 3, 8, 9]
    processors: list[tuple[Any, Any]] = [
        (logits_process.TemperatureLogitsWarper(0.7), sampling.temperature(z, 0.7)),
        *((logits_process.TopKLogitsWarper(k, min_tokens_to_keep=keep), sampling.top_k(z, max(k, keep)))
          for k in (1, 2, 10, 37, 50)),
        *((logits_process.TopPLogitsWarper(p, min_tokens_to_keep=keep), sampling.top_p(z, p, keep))
          for p in (0.0, 0.1, 0.5, 0.9, 0.999)),
    ]  # fmt: skip
    for processor, found in processors:
        expected = processor(None, torch.tensor(z)).numpy()
        # Which of two tokens that tie at top-p's edge is kept, torch's sort leaves open.
        np.testing.assert_array_equal(np.sort(found), np.sort(expected))
        np.testing.assert_array_equal(found[untied], expected[untied])


def test_the_three_warpers_come_in_the_order_of_transformers(tmp_path: Path) -> None:
    model = reference_gpt2(tmp_path, **SIZES)
    config = transformers.GenerationConfig(do_sample=True, temperature=0.6, top_k=9, top_p=0.8, num_beams=1)
    processors = model._get_logits_processor(config)
    z = scores(9)[:4]
    expected = processors(None, torch.tensor(z)).numpy()
    np.testing.assert_array_equal(sampling.warper(0.6, 9, 0.8)(z), expected)
    assert 1 < np.isfinite(expected).sum(axis=1).max() < 9


def test_the_defaults_are_those_of_transformers() -> None:
    theirs = transformers.GenerationConfig._get_default_generation_params()
    shared = (DEFAULTS.keys() & theirs.keys()) - {"max_length"}
    assert {"do_sample", "temperature", "top_k", "top_p", "num_beams", "length_penalty", "early_stopping"} <= shared
    for name in shared:
        assert DEFAULTS[name] == theirs[name], name
    assert DEFAULTS["max_new_tokens"] == theirs["max_length"]  # which counts new tokens where nobody set it
