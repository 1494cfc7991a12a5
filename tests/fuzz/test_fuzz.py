"""500 changed files in the usual suite; `python -m tests.fuzz` tries as many as one wants."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.judge import changed, in_silence, judge
from tests.fuzz.subjects import Subject, subjects

FILES = 500
_SHARES = 10  # so that the test that fails says a little more


@cache
def every() -> list[Subject]:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    return subjects()


def test_what_is_not_changed_is_read() -> None:
    for subject in every():
        with in_silence():
            outcome = judge(subject, subject.files)
        assert outcome.kind == "read" and not outcome.is_over, f"{subject.name}: {outcome.said} {outcome.where}"


@pytest.mark.parametrize("share", range(_SHARES))
def test_a_changed_file_is_read_or_refused_by_its_name_within_bounds(share: int) -> None:
    for number in range(share, FILES, _SHARES):
        subject = every()[number // _SHARES % len(every())]
        with in_silence():
            outcome = judge(subject, changed(subject, f"suite/{number}"))
        what = f"{subject.name}, suite/{number}: {outcome.said} {outcome.where}"
        assert outcome.kind in ("read", "refused"), what
        assert outcome.peak <= outcome.size + 50_000_000, what  # seconds are for the long run: no test has a clock


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _settings_files() -> list[tuple[int, str, str]]:
    """(subject, file, key) of each setting of each JSON."""
    return [
        (number, name, key)
        for number, subject in enumerate(every())
        for name in sorted(set(subject.changed))
        if name.endswith(".json") and name not in ("a.json", "b.json")  # which hold examples
        for key in json.loads(subject.files[name])
    ]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), VALUES)
def test_any_setting_may_have_any_value(data: Any, value: Any) -> None:
    number, name, key = data.draw(st.sampled_from(_settings_files()))
    subject = every()[number]
    content = json.dumps({**json.loads(subject.files[name]), key: value}).encode()
    with in_silence():
        outcome = judge(subject, {**subject.files, name: content})
    assert outcome.kind in ("read", "refused"), f"{subject.name}, {name}, {key}={value!r}: {outcome.where}"


def test_a_reader_that_is_wrong_is_found(tmp_path: Path) -> None:
    def raises(error: BaseException) -> Any:
        def read(folder: Path) -> None:
            raise error

        return read

    def takes_memory(folder: Path) -> None:
        bytearray(60_000_000)

    good = Subject("x", {"a": b"1"}, ("a",), lambda folder: (folder / "a").read_bytes())
    assert judge(good, good.files).kind == "read"
    for error in (TypeError("a"), KeyError("a"), RecursionError(), ValueError("without its name"), OSError(2, "no")):
        wrong = Subject("x", {"a": b"1"}, ("a",), raises(error))
        assert judge(wrong, wrong.files).kind == "foreign"
    assert judge(Subject("x", {}, (), takes_memory), {}).is_over
