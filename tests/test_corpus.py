"""The gradient check before functions known to be right or wrong: some of each. All of them: python -m tests.corpus."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from tests.corpus import RIGHT, WRONG
from tests.corpus.judge import judge, measured
from tests.corpus.referee import disagreement


def some(names: Iterable[str], every: int) -> list[str]:
    return sorted(names, key=lambda name: zlib.crc32(name.encode()))[::every]


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode()) % 1000


def test_there_are_enough_of_each() -> None:
    assert len(RIGHT) >= 300 and len(WRONG) >= 300


def test_the_right_functions_are_right_and_the_wrong_ones_are_not() -> None:
    """By differences that are not the bench's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [name for name, case in RIGHT.items() if not disagreement(case, seed_of(name)) < 1e-6] == []
        for name in some([name for name, case in WRONG.items() if case.error is None and case.upstream == 1], 12):
            case, inputs = WRONG[name], WRONG[name].partner.inputs(seed_of(name), mild=True)
            if measured(case, inputs, seed_of(name))[0] > 1e-4:
                assert disagreement(replace(case.partner, function=case.function), seed_of(name)) > 1e-7, name


def test_the_rounding_of_what_cancels_is_seen_where_no_ulp_of_an_input_moves_it() -> None:
    """(1 − cos x)/x² at x about 1e-5, of whose slope rounding leaves no digit."""
    case = WRONG["one less a cosine: its limit at zero"]
    error, rounding = measured(case, case.partner.inputs(3), 3)
    assert rounding > 0.9 or np.finfo(np.longdouble).eps == np.finfo(float).eps
    assert error > 0.9


@pytest.mark.parametrize("name", some(RIGHT, 10))
def test_a_right_function_is_not_called_wrong(name: str) -> None:
    [found] = judge(name, [seed_of(name)])
    assert found.verdict not in ("FAIL", "DETACHED", "RAISED"), found.said


@pytest.mark.parametrize("name", some(WRONG, 12))
def test_a_wrong_function_is_called_wrong(name: str) -> None:
    [found] = judge(name, [seed_of(name)])
    assert found.verdict in ("FAIL", "DETACHED", "REFUSED") or not found.resolvable, found.said
