"""What is drawn is weighed by the model's own probabilities, and ids come back as they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.generate.generation import generate
from tests.models.test_generation import TRAP, Table


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_beams_that_hold_every_sequence_draw_the_best_of_all(temperature: float) -> None:
    """Whatever is drawn, all are there to be compared: by log p over the temperature, and not by the draws."""
    found = set()
    for seed in range(12):
        table = np.random.default_rng(seed).dirichlet([0.5] * 4, size=4) + 1e-6
        options: dict[str, Any] = {
            "max_new_tokens": 3, "eos_token_id": 3, "pad_token_id": 9, "num_beams": 64, "early_stopping": "never",
        }  # fmt: skip
        best = generate(Table(table), [[0], [1]], **options).tolist()
        drawn = generate(Table(table), [[0], [1]], do_sample=True, temperature=temperature, seed=seed, **options)
        assert drawn.tolist() == best
        found.add(str(best))
    assert len(found) > 6


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 1}])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_ids_come_back_in_the_dtype_in_which_they_were_given(dtype: Any, options: dict[str, Any]) -> None:
    ids = generate(Table(TRAP), np.array([[0, 2], [1, 1]], dtype), max_new_tokens=2, eos_token_id=[], **options)
    assert ids.dtype == dtype and ids[:, :2].tolist() == [[0, 2], [1, 1]]
