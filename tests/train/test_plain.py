"""What JSON can hold of values, and what is told of a user's own functions and objects."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npora.train.own import told
from npora.train.plain import plain, unplain


def test_json_holds_what_is_plain() -> None:
    value = {1: np.float32(0.5), "a": (np.arange(2), [math.nan, -math.inf, 1e308]), "b": {"c": None, "d": True}, "e": 3,
             "p": Path("x")}  # fmt: skip
    found = plain(value)
    assert found == {"1": 0.5, "a": [[0, 1], ["nan", "-inf", 1e308]], "b": {"c": None, "d": True}, "e": 3, "p": "x"}
    assert type(found["1"]) is float and found["b"]["d"] is True and json.dumps(found, allow_nan=False)


def test_a_text_that_is_no_unicode_is_its_escapes() -> None:
    found = plain({"\udcff": ["ü", "a\ud800", np.str_("\udcff"), Path("\udcff")]})
    assert found == {"\\udcff": ["ü", "a\\ud800", "\\udcff", "\\udcff"]}


def test_what_json_lacks_comes_back() -> None:
    found = unplain({"a": ["nan", "inf", "-inf", "text", 3], "b": {"c": "inf"}, "d": "nano"})
    assert math.isnan(found["a"][0]) and found["a"][1:] == [math.inf, -math.inf, "text", 3]
    assert found["b"] == {"c": math.inf} and found["d"] == "nano"


@dataclass
class Settings:
    rate: float
    inner: Any


class Thing:
    def method(self) -> None: ...


def test_of_ones_own_the_name_and_the_settings_are_told() -> None:
    assert told(test_json_holds_what_is_plain) == "test_json_holds_what_is_plain"
    assert (
        told(Thing) == told(Thing()) == "Thing"
        and told(Thing().method) == "Thing.method"
        and told(Settings) == "Settings"
    )
    assert told(functools.partial(plain, 3, value=Thing)) == ["plain", 3, {"value": "Thing"}]
    assert told(Settings(0.5, (Thing(), math.nan))) == ["Settings", {"rate": 0.5, "inner": ["Thing", "nan"]}]
    assert [told(value) for value in (None, "a", True, 3)] == [None, "a", True, 3]
