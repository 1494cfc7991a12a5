"""A cache gives the examples that were written to it, and none but those that it was asked for."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npora.data import Dataset
from npora.data.cache import ABOUT, Lists
from npora.data.cache import __name__ as CACHE
from tests.files.test_together import killed

IDS, FLOATS = st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False)
EXAMPLES = st.lists(
    st.fixed_dictionaries({"input_ids": st.lists(IDS, max_size=4), "label": IDS, "score": FLOATS,
                           "weights": st.lists(FLOATS, max_size=3)}), max_size=5)  # fmt: skip


@given(EXAMPLES, st.integers(0, 3), st.integers(1, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_is_read_is_what_was_written(tmp_path: Path, examples: list[Any], seed: int, block: int) -> None:
    """Also in another order, and where several blocks were written; so is the fingerprint."""
    folder, data = tmp_path / "cache", Dataset(examples)
    shutil.rmtree(folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(f"{CACHE}._BLOCK", block)
        found = data.cached(folder)
    assert list(found) == examples and list(data.cached(folder)) == examples
    assert found.fingerprint() == data.fingerprint()
    assert list(found.shuffle(seed)) == list(data.shuffle(seed)) and list(found[1:]) == examples[1:]
    if len(examples) > 1:
        assert found[::-1].fingerprint() != found.fingerprint() != found[1:].fingerprint()


def data(number: int = 7, **changes: Any) -> Dataset:
    return Dataset([{"input_ids": [i, 2, 3][: i % 4], "label": i % 3, **changes} for i in range(number)])


def test_its_files_are_mapped_and_the_examples_are_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def twice(batch: Any) -> Any:
        made.extend(batch["label"])
        return {"input_ids": batch["input_ids"], "label": [2 * label for label in batch["label"]]}

    lazy, told = data(300).with_transform(twice), list[int]()
    found = lazy.cached(tmp_path / "x" / "cache", told.append)
    assert told == [300] and sorted(os.listdir(tmp_path / "x")) == ["cache"]
    assert isinstance(found._examples.columns["input_ids"]._flat, np.memmap)  # type: ignore[attr-defined]
    count = len(made)
    again = lazy.cached(tmp_path / "x" / "cache", told.append)
    assert told == [300] and len(made) - count <= 2 * 256  # the fingerprint's alone
    assert again[5] == lazy[5] and again.column_names == ["input_ids", "label"]


def test_another_s_cache_is_refused_by_what_differs(tmp_path: Path) -> None:
    data().cached(tmp_path / "cache")
    for other in (data(8), data(label=5), data().with_transform(lambda batch: batch)):
        with pytest.raises(ValueError, match=r"cache has other examples than these, of .*(sha256|made)=.*remove it"):
            other.cached(tmp_path / "cache")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    for name in ("mine", "mine/letter.txt"):
        with pytest.raises(ValueError, match="is there, and is no cache of examples"):
            data().cached(tmp_path / name)


@pytest.mark.parametrize("name", ["about.json", "input_ids.bin", "input_ids.ends.bin", "label.bin"])
@pytest.mark.parametrize("change", ["bit", "cut", "gone"])
def test_a_file_that_is_not_what_was_written_is_refused_by_its_name(tmp_path: Path, name: str, change: str) -> None:
    data().cached(tmp_path / "cache")
    path = tmp_path / "cache" / name
    content = path.read_bytes()
    for place in range(0, len(content), 1 if change == "bit" and name != ABOUT else len(content)):
        if change == "gone":
            path.unlink()
        else:
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed if change == "bit" else content[:-1])
        if change == "gone" and name == ABOUT:
            with pytest.raises(ValueError, match="is no cache of examples"):
                data().cached(tmp_path / "cache")
            return
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            data().cached(tmp_path / "cache")


FORGED: dict[str, Any] = {
    "another format": {"format": 2}, "no number": {"number": None}, "a number below none": {"number": -1},
    "more": {"number": 8}, "no columns": {"columns": 3}, "a name above": {"columns": {"../x": {}}},
    "no digests": {"columns": {"label": {"kind": "i"}}}, "of nothing": {"of": None},
    "a kind of none": {"columns": {"label": {"kind": "O", "sha256": ["a"]}}},
    "digests of none": {"columns": {"label": {"kind": "i", "sha256": "ab"}}},
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_cache_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    data().cached(tmp_path / "cache")
    path = tmp_path / "cache" / ABOUT
    path.write_text(json.dumps({**json.loads(path.read_text()), **FORGED[name]}))
    with pytest.raises(ValueError, match=r"about\.json"):
        data().cached(tmp_path / "cache")


@pytest.mark.parametrize(("first", "example", "said"), [
    ([], {"text": "a"}, "text is 'a': a cache takes numbers"), ([], {"a": [[1]]}, "a cache takes numbers, or lists"),
    ([], {"a": [[1], [2, 3]]}, "example 0: a is .*: a cache takes numbers"),
    ([], {"a": None}, "a cache takes numbers"), ([], {"a": [None]}, "a cache takes numbers"),
    ([], {"a": 2**31}, "below 2³¹"), ([], {"a": 2**70}, "below 2³¹"), ([], {"a b": 1}, "cannot be named"),
    ([1], {"a": 0.5}, "others have"), ([1], {"label": 0.5}, "all whole and below 2³¹, or all floats"),
    ([0.5], {"label": 1}, "or all floats"), ([1], {"label": [1]}, "example 1: label is"), ([1], {"label": 1j}, "takes"),
])  # fmt: skip
def test_what_it_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path, first: Any, example: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Dataset([*({"label": label} for label in first), example]).cached(tmp_path / "cache")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("labels", [(1, 0.5), (0.5, 1)])
def test_a_column_is_of_one_kind_through_all_blocks(
    labels: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CACHE}._BLOCK", 1)
    with pytest.raises(ValueError, match="label of the examples from 1 on is not all of a kind"):
        Dataset([{"label": label} for label in labels]).cached(tmp_path / "cache")


def test_what_is_drawn_anew_each_time_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = data().with_transform(lambda batch: {"a": rng.random(len(batch["label"])).tolist()})
    with pytest.raises(ValueError, match="others each time"):
        drawn.cached(tmp_path / "cache")


def test_a_disk_that_fails_leaves_nothing_and_the_leftovers_of_a_kill_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(40):
        made = [0]

        def failing(function: Any, made: list[int] = made, at: int = at) -> Any:
            def call(*args: Any, **keywords: Any) -> Any:
                made[0] += 1
                if made[0] == at + 1:
                    raise OSError(28, "No space left on device")
                return function(*args, **keywords)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "mkdir", "write"):
                patch.setattr(os, name, failing(getattr(os, name)))
            with suppress(OSError):
                data().cached(tmp_path / "cache")
        assert set(os.listdir(tmp_path)) <= {"cache"}
        assert list(data().cached(tmp_path / "cache")) == list(data())
        if made[0] <= at:
            break
        shutil.rmtree(tmp_path / "cache")
    assert 8 < at < 39
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache.tmp-1234").mkdir()
    (tmp_path / "cache.tmp-1234" / "label.bin").write_bytes(b"x")
    (tmp_path / "cache2.tmp-1234").mkdir()  # another's
    assert list(data().cached(tmp_path / "cache")) == list(data())
    assert sorted(os.listdir(tmp_path)) == ["cache", "cache2.tmp-1234"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_that_is_killed_at_any_call_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    for at in range(40):
        folder = tmp_path / str(at) / "cache"
        was_killed = killed(at, lambda folder=folder: data().cached(folder))
        assert list(data().cached(folder)) == list(data())
        assert set(os.listdir(folder.parent)) <= {"cache", "cache.lock"}  # where it was whole, nobody takes the lock
        if not was_killed:
            break
    assert 8 < at < 39


def test_lists_are_a_sequence_of_them() -> None:
    lists = Lists(np.arange(5), np.array([0, 2, 2, 5]))
    assert list(lists) == [[0, 1], [], [2, 3, 4]] and lists[-1] == lists[2] and lists[::2] == [[0, 1], [2, 3, 4]]
    for index in (3, -4):
        with pytest.raises(IndexError):
            lists[index]
