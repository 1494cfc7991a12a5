"""What a .gz file unpacks to is bounded: a small file that would fill a machine is refused before it does."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from npora.data import lines as module
from npora.data import read_jsonl, read_texts, read_tsv


def test_a_small_file_that_unpacks_to_much_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module._LEAST == 1 << 25
    monkeypatch.setattr(module, "_LEAST", 1 << 18)
    path = tmp_path / "a.txt.gz"
    for content in (b"a" * 1_500_000, b"a line\n" * 220_000):
        path.write_bytes(gzip.compress(content, 1))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"a\.txt\.gz unpacks to more than [2-9][0-9,]{6} bytes.*gunzip"):
                read_texts(path, "text")
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


def test_what_text_packs_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also beyond the least bound, where it is not many times the file's size."""
    monkeypatch.setattr(module, "_LEAST", 100)
    path = tmp_path / "a.tsv.gz"
    examples = "".join(f"{i * 7919 % 1000}\t{i % 2}\n" for i in range(900))
    path.write_bytes(gzip.compress(f"sentence\tlabel\n{examples}".encode()))
    assert len(read_tsv(path)) == 900
    path.write_bytes(gzip.compress(b"sentence\tlabel\n" + b"a\t1\n" * 9000))
    with pytest.raises(ValueError, match=r"100 times its size"):
        read_tsv(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device that never ends")
@pytest.mark.parametrize("name", ["zero", "urandom", "null"])
def test_a_device_is_no_file_of_examples(name: str, tmp_path: Path) -> None:
    os.symlink(f"/dev/{name}", tmp_path / "a.tsv")
    with pytest.raises(ValueError, match=r"a\.tsv is a device; a file of examples was expected"):
        read_tsv(tmp_path / "a.tsv")


def test_a_line_that_is_no_text_is_not_read_to_its_end(tmp_path: Path) -> None:
    """As of a file whose holes have terabytes."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n')
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2: there is a NUL, which no text has"):
            read_jsonl(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_line_that_is_read_in_pieces_is_the_line_up_to_a_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    monkeypatch.setattr(module, "_LONGEST", 12)
    path = tmp_path / "a.txt"
    for length in range(1, 13 - len(end)):
        text = f"a\n{'b' * length}{end}{'ü' if end else ''}"
        path.write_text(text, encoding="utf-8", newline="")
        assert "".join(line for _, line in module.lines(path)) == text
    path.write_text("a\n" + "b" * 13 + end, newline="")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: it has more than 12 bytes, which no line of text has"):
        list(module.lines(path))
