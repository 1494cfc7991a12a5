"""npora info on a checkpoint in shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from npora.cli import main
from tests.files.test_weights import A, B, sharded


def test_shards_are_listed_and_summed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = sharded(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")][:2] == [str(tmp_path / A), str(tmp_path / B)]
    parameters, size = sum(t.size for t in tensors.values()), sum((tmp_path / s).stat().st_size for s in (A, B))
    assert lines[-1] == f"2 files, 3 tensors, {parameters} parameters, {size} bytes"
    (tmp_path / B).unlink()
    assert main(["info", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"npora: there is no file {tmp_path / B}\n"
