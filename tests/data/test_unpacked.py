"""What a .gz file unpacks to is bounded: a small file that would fill a machine is refused before it does."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from npora.data import lines as module
from npora.data import read_texts, read_tsv


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
