"""Beam search's tokens: those of transformers (see make_golden_generation.py), which its closing rules decide."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from npora.models import GPT2LMHeadModel
from tests.models.test_gpt2 import tiny

GOLDEN = Path(__file__).with_name("golden_generation.json")
PROMPTS = np.array([[5, 3, 9, 4], [0, 0, 0, 7], [0, 11, 6, 6]])
MASK = np.array([[1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]])
MODELS = range(5)
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": beams, "length_penalty": penalty, "early_stopping": early, "eos_token_id": ends,
     "max_new_tokens": 10, "pad_token_id": 12}
    for beams, penalty, early, ends in product((2, 3), (1.0, 2.5, 0.0, -1.0), (True, False, "never"), ([2], [2, 4, 8]))
]  # fmt: skip


def model(seed: int) -> GPT2LMHeadModel:
    return tiny(seed, n_layer=1)


def test_beam_search_takes_the_tokens_of_transformers() -> None:
    for seed, rows in zip(MODELS, json.loads(GOLDEN.read_text()), strict=True):
        for options, expected in zip(SEARCHES, rows, strict=True):
            found = model(seed).generate(PROMPTS, MASK, **options)
            np.testing.assert_array_equal(found[:, :4], PROMPTS)
            assert found[:, 4:].tolist() == expected, (seed, options)


def test_the_rules_of_closing_lead_to_different_ends() -> None:
    """Else the test above would not see them."""
    golden = json.loads(GOLDEN.read_text())
    ends: dict[Any, list[Any]] = {True: [], False: [], "never": []}
    for rows in golden:
        for options, expected in zip(SEARCHES, rows, strict=True):
            ends[options["early_stopping"]].append(expected)
    assert ends[True] != ends[False] and ends[False] != ends["never"]
