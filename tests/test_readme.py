"""The README's Python runs as it stands, and so do the examples that need no data."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_data import data

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_readmes_code_runs(tmp_path: Path, block: str) -> None:
    printed = run(tmp_path, "-c", block)
    if "get_peft_model" not in block:
        assert "FAIL Element(name='x'" in printed
        return
    assert "trainable params: 2,178 || all params: " in printed and "FAIL" not in printed and "VACUOUS" not in printed
    assert printed.splitlines()[-1] == "[1 0]"  # 7 > 3, and 3 is not
    assert sorted(path.name for path in (tmp_path / "out" / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("0[1235]_*.py")))
def test_an_example_runs(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, str(ROOT / "examples" / name))


def test_the_recipe_runs_on_a_real_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    rows = data("sst2", "dev.tsv").read_text(encoding="utf-8").splitlines()[:33]
    (tmp_path / "rows.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    example, model = ROOT / "examples" / "04_finetune_bert.py", data("checkpoints", "minilm-l6")
    printed = run(tmp_path, str(example), str(model), "rows.tsv", "rows.tsv", "out", "2")
    assert "trainable params: 74,498 || all params: 22,788,484 || trainable%: 0.3269" in printed
    assert "eval_accuracy" in printed


def test_the_small_gpt2_learns_and_is_adapted_on_real_descriptions(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    shared = data("e2e", "train.txt").parents[1]
    data("tokenizers", "gpt2", "tokenizer.json")
    sizes = ("--width", "16", "--layers", "1", "--r", "2", "--batch-size", "4", "--held-out", "4", "--samples", "2")
    steps = ("--pretraining-steps", "6", "--steps", "3")
    printed = run(tmp_path, str(ROOT / "examples" / "e2e_gpt2.py"), "--data", str(shared), *sizes, *steps)
    curves = [float(line.split()[1]) for line in printed.splitlines() if line.endswith("=")]
    assert len(curves) == 7 + 4
    assert curves[6] < curves[0] and 10 < curves[0] < 12  # ln 50257 = 10.8
    assert "trainable params: 512 " in printed
    assert "the frozen weights are the same to the last bit" in printed and printed.count("  written: ") == 2
    assert printed == run(tmp_path, str(ROOT / "examples" / "e2e_gpt2.py"), "--data", str(shared), *sizes, *steps)
