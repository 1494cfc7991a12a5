"""What beam search counts as finished, what may still come in, and how far it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.generate.beam import Finished
from npora.models.generate.generation import generate
from tests.models.test_generation import Table


def finished(log_p: list[float], early_stopping: Any, penalty: float = 1.0, n: int = 1, most: int = 8) -> Finished:
    """One prompt, of which these n have ended with their second token; where one is None, none has."""
    found = Finished(1, n, most, penalty, early_stopping)
    there = np.array([[value is not None for value in log_p]])
    worth = np.array([[0.0 if value is None else value for value in log_p]])
    found.add(worth, np.zeros((1, n, most), dtype=np.int64), there, 2)
    return found


@pytest.mark.parametrize(
    ("early_stopping", "penalty", "log_p", "stays_open"),
    [
        (False, 1.0, -2.9, True),  # −2.9/3 is above −2/2
        (False, 1.0, -3.1, False),
        (False, 1.0, -3.0, False),  # no better
        (False, 0.0, -1.9, True),  # as they are, above −2
        (False, 0.0, -2.1, False),
        (True, 1.0, -0.1, False),  # one that has ended is enough
        ("never", 1.0, -7.9, True),  # −7.9/8, with all its tokens
        ("never", 1.0, -8.1, False),
        ("never", 0.5, -3.9, True),  # −3.9/√8 = −1.379 is above −2/√2 = −1.414
        ("never", 0.5, -4.1, False),
        ("never", -1.0, -1.2, True),  # length is no help: −1.2 · 3 is above −2 · 2, and at eight it would not be
        ("never", -1.0, -1.4, False),
        (False, 1.0, -np.inf, False),  # nothing runs on
    ],
)
def test_a_prompt_is_closed_where_what_runs_on_will_not_be_better(
    early_stopping: Any, penalty: float, log_p: float, stays_open: bool
) -> None:
    found = finished([-2.0], early_stopping, penalty)
    found.close(np.array([log_p]), 3)
    assert found.open.tolist() == [stays_open]


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_a_prompt_is_open_until_as_many_have_ended_as_are_to(early_stopping: Any) -> None:
    some: Any = [-2.0, -2.5, None]
    found = finished(some, early_stopping, n=3)
    found.close(np.array([-90.0]), 3)
    assert found.open.tolist() == [True]
    found = finished([-2.0, -2.5, -60.0], early_stopping, n=3, most=3)
    found.close(np.array([-91.0]), 3)  # −91/3 is below −60/2
    assert found.open.tolist() == [False]
    found = finished([-2.0, -2.5, -60.0], early_stopping, n=3, most=3)
    found.close(np.array([-89.0]), 3)  # above it, but below the second
    assert found.open.tolist() == [early_stopping is not True]


def test_probabilities_sum_to_1_again_where_that_is_asked_for() -> None:
    """Of 1 follows mostly 3, which may not come: 0.6 · 0.1 is less than 0.4 · 0.5, and 0.6 · 0.5 is more."""
    table = [[1e-9, 0.6, 0.4, 1e-9], [1e-9, 0.1, 0.1, 0.8], [1e-9, 0.5, 0.5, 1e-9], [0.25] * 4]
    options: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 2, "eos_token_id": [], "suppress_tokens": [3]}
    assert generate(Table(table), [[0]], **options).tolist() == [[0, 2, 1]]
    assert generate(Table(table), [[0]], renormalize_logits=True, **options).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(("ends", "candidates"), [([], 4), ([7], 4), ([6, 7], 6)])
def test_a_search_goes_on_with_what_is_among_so_many_candidates_and_no_more(ends: list[int], candidates: int) -> None:
    """Two beams look at 2 · (1 + ends) candidates, at four at least: where a criterion stops those, nothing goes on."""
    table = [[0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.03, 0.02]] * 8
    options: dict[str, Any] = {"num_beams": 2, "max_new_tokens": 4, "eos_token_id": ends, "early_stopping": "never",
                               "length_penalty": 9.0, "pad_token_id": 9}  # fmt: skip
    for stopped, calls in ((candidates, 1), (candidates - 1, 4)):
        model = Table(table)
        generate(
            model, [[0]], stopping_criteria=[lambda ids, scores, n=stopped: (ids[:, -1] < n) & (ids.shape[1] == 2)],
            **options,
        )  # fmt: skip
        assert len(model.calls) == calls, stopped
