"""finetune on a quantised base, and what the other commands make of the adapter by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from npora.cli import main
from tests.test_cli_tasks import finetune, predicted, sentences, table
from tests.tiny_folders import save_folder


def test_an_adapter_trained_on_nf4_is_used_on_nf4_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(model, train, tmp_path / "out", "--quantize", "nf4", "--max-steps", "2", "--eval", train) == 0
    printed = capsys.readouterr().out
    before, after = (line.split()[-1] for line in printed.splitlines() if line.startswith("frozen bytes"))
    assert before == after
    own = ("--model", model, "--adapter", str(tmp_path / "out"))
    texts = ("a very red film", "the plot was bad")
    found = predicted(capsys, *own, *texts)
    assert predicted(capsys, *own, "--quantize", "nf4", *texts) == found
    assert main(["predict", *own, "--quantize", "int8", "the plot"]) == 2
    assert "trained on a base in nf4, and this one is in int8: load the base with" in capsys.readouterr().err
    assert main(["merge", *own, "--output", str(tmp_path / "merged")]) == 0
    merged = predicted(capsys, "--model", str(tmp_path / "merged"), *texts)
    assert [line[0] for line in merged] == [line[0] for line in found]
    assert [float(line[1]) for line in merged] == pytest.approx([float(line[1]) for line in found], abs=2e-4)
    assert main(["predict", "--model", str(tmp_path / "merged"), "--quantize", "int8", *texts]) == 0
