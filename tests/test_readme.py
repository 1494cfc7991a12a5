"""The Python of every page of documentation runs as it stands, and so does every example."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import set_num_threads
from npora.lora import PeftConfig
from tests.shared_data import data
from tests.tiny_folders import save_folder

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted(EXAMPLES.rglob("*.md"))]
NUMBERED = sorted(EXAMPLES.rglob("[0-9][0-9]_*.py"), key=lambda path: path.name)
WITH_FILES = ("09_the_recipe_on_bert.py", "10_e2e_on_gpt2.py", "11_a_chat_model.py")


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def ran(folder: Path, monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str) -> dict[str, Any]:
    """The names that a file leaves when it runs in this process, as a script in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    return runpy.run_path(str(file), run_name="__main__")


def block_ran(folder: Path, monkeypatch: pytest.MonkeyPatch, block: str) -> dict[str, Any]:
    (folder / "block.py").write_text(block, encoding="utf-8")
    return ran(folder, monkeypatch, folder / "block.py")


Captured = pytest.CaptureFixture[str]


def test_the_readmes_layer_is_right_and_its_report_is_the_one_printed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    layer = blocks("README.md")[0]
    block_ran(tmp_path, monkeypatch, layer)
    printed = capsys.readouterr().out
    shown = re.findall(r"```\n(LoRA: PASS.*?)\n…\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert [line.split()[:6] for line in shown.splitlines()] == [
        line.split()[:6] for line in printed.splitlines()[: len(shown.splitlines())]
    ]
    wrong = layer.replace(" + du @ A", "")
    assert wrong != layer
    block_ran(tmp_path, monkeypatch, wrong)
    assert "FAIL x: a missing or extra term of rank 2" in capsys.readouterr().out


def test_the_readmes_model_learns_and_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    model = block_ran(tmp_path, monkeypatch, blocks("README.md")[1])["model"]
    assert "trainable params: 8,832 || all params: 92,480" in capsys.readouterr().out
    output, _ = model(np.array([[1, 7, 3], [1, 3, 7]]))
    assert output.logits.argmax(-1).tolist() == [1, 0]  # 7 > 3, and 3 is not
    assert sorted(path.name for path in (tmp_path / "out" / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_the_page_for_users_of_peft_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    first, second = blocks("examples/like_peft.md")
    block_ran(tmp_path, monkeypatch, first)
    printed = capsys.readouterr().out
    assert "trainable params: 2,178 || all params: " in printed and "FAIL" not in printed and "VACUOUS" not in printed
    assert printed.splitlines()[-1] == "[1 0]"
    assert sorted(path.name for path in (tmp_path / "out" / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    trainer = block_ran(tmp_path, monkeypatch, first + second)["trainer"]
    *_, stopped = capsys.readouterr().out.splitlines()
    best = trainer.state.best_global_step
    assert stopped == f"{trainer.state.global_step} of 120 steps; the best is checkpoint-{best}"
    assert trainer.state.global_step == best + 3 * 4 < 120  # three epochs more


def test_the_page_about_checks_finds_its_wrong_softmax(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (block,) = blocks("examples/checking/README.md")
    block_ran(tmp_path, monkeypatch, block)
    assert "FAIL Element(name='x'" in capsys.readouterr().out


def test_no_page_has_code_that_is_not_run() -> None:
    run = {"README.md": 2, "examples/like_peft.md": 2, "examples/checking/README.md": 1}
    found = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8").count("```python") for page in PAGES}
    assert {name: count for name, count in found.items() if count} == run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_names_of_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    files = re.findall(r"\b(?:examples|npora|tests)/[\w/.]*\w", text)
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_examples_are_in_order() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150
    assert [path.name[:2] for path in NUMBERED] == [f"{number:02}" for number in range(1, len(NUMBERED) + 1)]
    listed = re.findall(r"\(([^)]*[0-9][0-9]_\w+\.py)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert [EXAMPLES / name for name in listed] == NUMBERED


@pytest.mark.parametrize("file", NUMBERED, ids=lambda file: file.name)
def test_examples_import_public_names_alone(file: Path) -> None:
    public = {
        "npora", "npora.check", "npora.data", "npora.files", "npora.lora", "npora.models", "npora.nn",
        "npora.nn.functional", "npora.optim", "npora.train",
    }  # fmt: skip
    imported = re.findall(r"^\s*(?:from|import) (npora[\w.]*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(imported) <= public
    assert imported or file.name.startswith("02_")  # the check from scratch is NumPy's alone


@pytest.mark.parametrize("file", [file for file in NUMBERED if file.name not in WITH_FILES], ids=lambda file: file.name)
def test_an_example_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    ran(tmp_path, monkeypatch, file)
    assert capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*WITH_FILES, "methods.py"])
def test_an_example_without_its_files_ends_with_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, list[list[str]]] = {
        WITH_FILES[0]: [[], ["nowhere", "train.tsv", "dev.tsv", "out"]],
        WITH_FILES[1]: [["--data", "nowhere"]],
        WITH_FILES[2]: [[], ["./nowhere"]],
        "methods.py": [[], ["nowhere", "train.tsv", "dev.tsv", "out"]],
    }
    for arguments in calls[name]:
        with pytest.raises(SystemExit) as stop:
            ran(tmp_path, monkeypatch, EXAMPLES / name, *arguments)
        assert isinstance(stop.value.code, str) and " " in stop.value.code  # which Python prints, and returns 1
        assert not list(tmp_path.iterdir())


def write_rows(file: Path) -> None:
    rows = "".join(
        f"the {noun} was {word}\t{label}\n" for noun in ("film", "plot") for label, word in enumerate(("bad", "good"))
    )
    file.write_text("sentence\tlabel\n" + rows)


def test_the_recipe_runs_on_a_tiny_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    folder = save_folder(tmp_path / "model", "bert", max_position_embeddings=128)
    write_rows(tmp_path / "rows.tsv")
    ran(tmp_path, monkeypatch, EXAMPLES / WITH_FILES[0], folder, "rows.tsv", "rows.tsv", "out", "2")
    printed = capsys.readouterr().out
    assert "trainable params: " in printed and "eval_accuracy" in printed
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_every_method_is_tried_on_a_tiny_bert_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = save_folder(tmp_path / "model", "bert", max_position_embeddings=128, hidden_size=64)
    write_rows(tmp_path / "rows.tsv")
    arguments = (folder, "rows.tsv", "rows.tsv", "out", "--steps", "4", "--batch-size", "2", "--seeds", "1")
    try:
        left = ran(tmp_path, monkeypatch, EXAMPLES / "methods.py", *arguments)
        table = capsys.readouterr().out
        kinds = {left["METHODS"][name].config for name in left["METHODS"]} - {None}
        every = {kind.__name__ for kind in PeftConfig.kinds.values()}
        assert kinds == every - {"TrainableTokensConfig"}  # a new method is a row there too
        assert [line.split(" | ")[0][2:] for line in table.splitlines()[2:]] == list(left["METHODS"])
        runs = tmp_path / "out" / "runs.jsonl"
        lines = runs.read_text().splitlines(keepends=True)
        runs.write_text("".join(lines[:-1]) + lines[-1][:50])  # as a kill leaves it
        ran(tmp_path, monkeypatch, EXAMPLES / "methods.py", *arguments)
        captured = capsys.readouterr()
        assert captured.err.count("seed 0: ") == 1 and captured.out.splitlines()[:-1] == table.splitlines()[:-1]
        assert runs.read_text().splitlines(keepends=True)[:-1] == lines[:-1] and os.listdir(tmp_path / "out") == [
            runs.name
        ]
        ran(tmp_path, monkeypatch, EXAMPLES / "methods.py", *arguments, "--stored")
        head, _, *rows = capsys.readouterr().out.splitlines()
        assert head.endswith("| file | base |") and len(runs.read_text().splitlines()) == len(lines) + len(rows)
        sizes = {row.split(" | ")[0][2:]: float(row.split(" | ")[-1].split()[0]) for row in rows}
        assert list(sizes) == list(left["STORED"]) and sizes["LoRA on float32"] == max(sizes.values())
        with pytest.raises(SystemExit):
            ran(tmp_path, monkeypatch, EXAMPLES / "methods.py", *arguments, "--stored", "--only", "DoRA")
        assert "--stored is of LoRA alone" in capsys.readouterr().err
    finally:
        set_num_threads(None)


def test_a_tiny_chat_model_learns_and_answers_as_before_where_its_adapter_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder = save_folder(tmp_path / "model", "llama", max_position_embeddings=256)
    left = ran(tmp_path, monkeypatch, EXAMPLES / WITH_FILES[2], folder, "3")
    assert left["last"] < left["first"] and "switched off: " in capsys.readouterr().out


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_recipe_runs_on_a_real_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    rows = data("sst2", "dev.tsv").read_text(encoding="utf-8").splitlines()[:33]
    (tmp_path / "rows.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    example, model = EXAMPLES / WITH_FILES[0], data("checkpoints", "minilm-l6")
    printed = run(tmp_path, str(example), str(model), "rows.tsv", "rows.tsv", "out", "2")
    assert "trainable params: 74,498 || all params: 22,788,484 || trainable%: 0.3269" in printed
    assert "eval_accuracy" in printed


def test_the_small_gpt2_learns_and_is_adapted_on_real_descriptions(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    shared = data("e2e", "train.txt").parents[1]
    data("tokenizers", "gpt2", "tokenizer.json")
    sizes = ("--width", "16", "--layers", "1", "--r", "2", "--batch-size", "4", "--held-out", "4", "--samples", "2")
    steps = ("--pretraining-steps", "6", "--steps", "3")
    example = str(EXAMPLES / WITH_FILES[1])
    printed = run(tmp_path, example, "--data", str(shared), *sizes, *steps)
    curves = [float(line.split()[1]) for line in printed.splitlines() if line.endswith("=")]
    assert len(curves) == 7 + 4
    assert curves[6] < curves[0] and 10 < curves[0] < 12  # ln 50257 = 10.8
    assert "trainable params: 512 " in printed
    assert "the frozen weights are the same to the last bit" in printed and printed.count("  written: ") == 2
    assert printed == run(tmp_path, example, "--data", str(shared), *sizes, *steps)
