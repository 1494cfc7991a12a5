"""JSON that is read strictly and written so that the same content gives the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npora.files import load_file, read_json, write_json
from npora.files.json import parse_json


def test_what_is_written_is_read_and_has_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": [1, 2.5, None], "a": {"ü": True}})
    write_json(tmp_path / "b", {"a": {"ü": True}, "b": [1, 2.5, None]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"a": {"ü": True}, "b": [1, 2.5, None]}
    write_json(tmp_path / "a", {"a": 1})
    assert (tmp_path / "a").read_bytes() == b'{\n  "a": 1\n}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"[1]", "holds a JSON list; an object was expected"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' stands twice"),
        (b'{"a": Infinity}', "Infinity is not a JSON number"),
        (b'{"a": "\xff"}', "is not valid JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is not valid JSON"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "has 1,000,009 bytes; at most 1,000,000 are read"),
    ],
    ids=range(8),
)
def test_what_a_lenient_reader_would_guess_at_is_an_error(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ValueError) as error:
        read_json(path)
    assert message in str(error.value) and "config.json" in str(error.value)


def test_values_are_counted_before_any_is_made() -> None:
    assert parse_json(b'{"a": [1, {}]}', "it", 4) == {"a": [1, {}]}
    with pytest.raises(ValueError, match="it holds 4 values; at most 3 are read"):
        parse_json(b'{"a": [1, {}]}', "it", 3)
    with pytest.raises(ValueError, match="it holds 10,000,001 values; at most 10,000,000 are read"):
        parse_json(b"{" + b"," * 10_000_000, "it")


def test_an_object_is_nested_sixty_four_deep_at_most() -> None:
    assert parse_json(b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}", "it")
    with pytest.raises(ValueError, match="it is nested more than 64 deep"):
        parse_json(b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "it")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "is nested more than 64 deep"),
        (b"{" + b", ".join([b'"k": 1'] * 100_000) + b"}", "the key 'k' stands twice"),
        (b'{"a": 1e999}', "is larger than any that can be computed with"),
        (b'{"a": ["\\uD800"]}', "is half of a pair of surrogates"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    ],
    ids=range(5),
)
def test_what_would_be_worked_through_or_break_whoever_uses_it_is_refused(
    tmp_path: Path, text: bytes, message: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ValueError) as error:
        read_json(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_a_value_of_which_one_half_of_a_pair_of_surrogates_is_escaped_and_the_other_too_is_a_character(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_bytes(b'{"a": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "a") == {"a": "😀"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are pipes with names on Unix alone")
def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reader in (read_json, load_file):
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(OSError, match=f"{path} is a pipe, a socket or a device"):
                reader(path)
        with pytest.raises(IsADirectoryError, match="is a directory"):
            reader(tmp_path)
        with pytest.raises(FileNotFoundError, match="none can have this name"):
            reader("a\0b")


def test_keys_are_sorted_unless_their_order_means_something(tmp_path: Path) -> None:
    for sort_keys, expected in ((True, ["a", "b"]), (False, ["b", "a"])):
        write_json(tmp_path / "x.json", {"k": {"b": 1, "a": 2}}, sort_keys)
        assert list(read_json(tmp_path / "x.json")["k"]) == expected
    write_json(tmp_path / "x.json", {"k": {"b": 1, "a": 2}})
    assert list(read_json(tmp_path / "x.json")["k"]) == ["a", "b"]
