"""What a value in a file may be, how that is said, and how values and files are named in errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files.kinds import called, is_of_kind
from npora.files.refusal import naming, shortened

KINDS: list[tuple[str, list[Any], list[Any]]] = [
    ("int", [3, 0, 2**63 - 1, 1 - 2**63, np.int64(3)], [True, 2**63, -(2**63), 0.5, "3", None]),
    ("float", [0.5, 3, np.float32(3)], [True, "3", float("inf"), float("nan"), 10**400]),
    ("bool", [True], [1, "true", None]),
    ("str", ["", "a"], [1, True, None]),
    ("None", [None], [0, "", False]),
    ("int | None", [3, None], ["3"]),
    ("list[int]", [[], [1, 2], (1,), {1}], [1, [True], ["1"], "12", {1: 2}]),
    ("list[str] | str", [["a"], "a"], [[1], 1]),
    ("dict[str, float]", [{}, {"a": 1}], [{"a": "1"}, [1], {"a": None}]),
    ("tuple[int] | Any", ["anything"], []),
    ("set[int]", [["of a kind that is not checked"]], []),
]


@pytest.mark.parametrize("kind, fit, others", KINDS)
def test_what_a_value_may_be(kind: str, fit: list[Any], others: list[Any]) -> None:
    assert all(is_of_kind(value, kind) for value in fit)
    assert not any(is_of_kind(value, kind) for value in others)


@pytest.mark.parametrize(
    "kind, said",
    [
        ("int", "a whole number"),
        ("float | None", "a number or None"),
        ("list[str] | str | None", "a list of strings, a string or None"),
        ("list[int] | dict[str, float] | bool | Path", "a list of whole numbers, an object of numbers, True or False "
         "or Path"),
        ("list[Any]", "a list of values"),
        ("dict[str, bool]", "an object of True or False"),
    ],
)  # fmt: skip
def test_what_was_expected_is_said(kind: str, said: str) -> None:
    assert called(kind) == said


def test_a_value_is_shown_up_to_a_length() -> None:
    assert shortened("x" * 58) == f"'{'x' * 58}'" and shortened("x" * 59) == f"'{'x' * 58}…"
    assert shortened([1, 2], 4) == "[1,…" and shortened(10**5000) == "a int"


@pytest.mark.parametrize("said", ["x is wrong", "config: x is wrong", "b.json: x is wrong", "{}: x is wrong"])
def test_an_error_names_its_file_once(tmp_path: Path, said: str) -> None:
    path = tmp_path / "b.json"
    with pytest.raises(ValueError) as error, naming(path):
        raise ValueError(said.format(path))
    assert str(error.value) == f"{path}: x is wrong"
