"""Where the text ends that a criterion looks at, and when time is up."""

from __future__ import annotations

import time

import numpy as np
import pytest

from npora.models.generate.stopping import max_time, stop_strings


class Words:
    """Four tokens, decoded without the space before the first, as SentencePiece does."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join([" a", " b", " ", "c"][i] for i in ids).removeprefix(" ")


@pytest.mark.parametrize(
    ("strings", "ids", "there"),
    [
        (["a b"], [0, 1], True),  # all of the text
        (["a b"], [3, 0, 1], True),
        (["a b"], [0, 1, 3], False),  # it stands before the last token
        (["a", "cccc"], [0, 3, 3], False),
        (["cc"], [3, 3], True),
        (["cc"], [3, 3, 0], False),
        ([" c"], [3, 2, 3], True),  # two tokens that would lose their space were none before them
        ([" c"], [2, 3], False),
    ],
)
def test_a_string_is_there_where_the_last_token_has_a_part_in_it(
    strings: list[str], ids: list[int], there: bool
) -> None:
    assert stop_strings(strings, Words())(np.array([ids]), None).tolist() == [there]


def test_each_row_is_looked_at_alone() -> None:
    assert stop_strings(["cc"], Words())(np.array([[0, 3, 3], [3, 3, 0]]), None).tolist() == [True, False]


def test_time_is_up_after_so_many_seconds_and_not_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.0, 12.0, 12.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    criterion = max_time(2.0)
    assert [bool(criterion(np.zeros((1, 1)), None)) for _ in range(3)] == [False, False, True]
