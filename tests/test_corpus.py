"""The gradient check before functions known to be right or wrong: some of each. All of them: python -m tests.corpus."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from tests.corpus import RIGHT, WRONG
from tests.corpus.judge import judge
from tests.corpus.referee import disagreement


def some(names: object, every: int) -> list[str]:
    return sorted(names, key=lambda name: zlib.crc32(name.encode()))[::every]  # type: ignore[call-overload, no-any-return]


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode()) % 1000


def test_there_are_enough_of_each() -> None:
    assert len(RIGHT) >= 300 and len(WRONG) >= 300


@pytest.mark.parametrize("name", some(RIGHT, 5))
def test_a_right_function_is_right(name: str) -> None:
    with np.errstate(all="ignore"):
        assert disagreement(RIGHT[name], seed_of(name)) < 1e-6


@pytest.mark.parametrize("name", some(RIGHT, 10))
def test_a_right_function_is_not_called_wrong(name: str) -> None:
    [found] = judge(name, [seed_of(name)])
    assert found.verdict not in ("FAIL", "RAISED"), found.said


@pytest.mark.parametrize("name", some(WRONG, 12))
def test_a_wrong_function_does_not_pass(name: str) -> None:
    [found] = judge(name, [seed_of(name)])
    assert not found.missed and found.verdict != "RAISED", found.said
