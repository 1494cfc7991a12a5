"""Preferences on the command line: finetune --task dpo and orpo, evaluate, show-data and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.files import load_file
from npora.lora import read_record
from tests.chat_templates import dialogue
from tests.test_cli_chat import TEMPLATE, Captured, chat_model, lines
from tests.tiny_folders import WORDS, save_folder

PAIRS = [
    {"prompt": f"the {thing} was", "chosen": " " + word, "rejected": " very " + other}
    for thing, word, other in (("film", "good", "bad"), ("plot", "bad", "good"), ("very film", "red", "green"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("preferences")
    save_folder(place / "model", "llama")
    lines(place / "pairs.jsonl", PAIRS)
    return place


def finetune(folder: Path, output: Path, task: str, *more: str) -> int:
    file = str(folder / "pairs.jsonl")
    return main(
        ["finetune", "--task", task, "--model", str(folder / "model"), "--train", file, "--eval", file, "--output",
         str(output), "--target-modules", "all-linear", "--lora-dropout", "0.2", "--batch-size", "2", "--learning-rate",
         "3e-2", *more]
    )  # fmt: skip


def figures(capsys: Captured) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line]
    return {name: value.strip() for name, value in lines}


@pytest.mark.parametrize("task", ["dpo", "orpo"])
def test_preferences_are_learnt_measured_again_and_resumed(
    task: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    whole, cut, beta = tmp_path / "whole", tmp_path / "cut", ["--beta", "0.3"]
    assert finetune(folder, whole, task, "--epochs", "15", "--save-strategy", "no", *beta) == 0
    found = figures(capsys)
    assert found["rewards/accuracies"] == "1.0000" and float(found["rewards/margins"]) > 0.2
    record = read_record(str(whole / "adapter"))["notes"]
    assert record["task"] == task and record["settings"] == {"beta": 0.3}
    assert main(["evaluate", "--adapter", str(whole), str(folder / "pairs.jsonl")]) == 0
    again = figures(capsys)
    assert again["loss"] == found["evaluation loss"] and again["rewards/margins"] == found["rewards/margins"]
    steps = ["--scheduler", "constant", "--overwrite", *beta, "--epochs"]
    assert finetune(folder, cut, task, *steps, "1") == 0
    assert finetune(folder, cut, task, "--scheduler", "constant", "--resume", "--epochs", "2") == 2
    assert "compute_loss_func" in capsys.readouterr().err
    assert finetune(folder, cut, task, "--scheduler", "constant", "--resume", "--epochs", "2", *beta) == 0
    assert finetune(folder, whole, task, *steps, "2") == 0
    one, other = (load_file(place / "adapter" / "adapter_model.safetensors") for place in (whole, cut))
    assert all((one[name] == other[name]).all() for name in one)


def test_an_adapter_of_preferences_writes_texts_and_is_measured_as_another_task(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert finetune(folder, tmp_path / "out", "dpo", "--max-steps", "1") == 0
    adapter = ["--adapter", str(tmp_path / "out")]
    assert main(["generate", *adapter, "--max-new-tokens", "2", "the film"]) == 0
    assert main(["merge", *adapter, "--output", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    for task, names in (("causal-lm", {"perplexity"}), ("orpo", {"rewards/accuracies", "rewards/margins"})):
        assert main(["evaluate", "--task", task, *adapter, str(folder / "pairs.jsonl")]) == 0
        assert figures(capsys).keys() == {*names, "loss", "examples"}
    assert main(["evaluate", "--task", "classification", *adapter, str(folder / "pairs.jsonl")]) == 2
    assert "is loaded for dpo" in capsys.readouterr().err


def test_conversations_are_compared_in_the_models_own_template(tmp_path: Path, capsys: Captured) -> None:
    model = chat_model(tmp_path)
    chats = [
        {"chosen": dialogue("film", "good"), "rejected": dialogue("film", "very bad")},
        {"chosen": dialogue("plot", "bad"), "rejected": dialogue("plot", "red")},
    ]
    file = lines(tmp_path / "pairs.jsonl", chats)
    capsys.readouterr()
    assert main(["show-data", "--task", "dpo", "--model", model, "--examples", "1", file]) == 0
    shown = capsys.readouterr().out.splitlines()
    # the template's line end stands behind the end of a turn, and is no token
    assert [part.replace(" ", "") for part in shown[1:3]] == [
        "<s>thefilm</s><s>a⟦good</s>⟧",
        "<s>thefilm</s><s>a⟦verybad</s>⟧",
    ]
    assert shown[0] == "── example 1: 8 tokens, 2 learnt; 9 tokens, 3 learnt"
    assert shown[3] == f"── {file}: 2 examples, 33 tokens, 9 of them learnt"
    assert main(
        ["finetune", "--task", "dpo", "--model", model, "--train", file, "--output", str(tmp_path / "out"),
         "--epochs", "15", "--learning-rate", "3e-2", "--target-modules", "all-linear", "--eval", file,
         "--save-strategy", "no"]
    ) == 0  # fmt: skip
    assert figures(capsys)["rewards/accuracies"] == "1.0000"
    notes = read_record(str(tmp_path / "out" / "adapter"))["notes"]
    assert notes["chat_template"] == TEMPLATE and notes["end_token_ids"] == [WORDS.index("</s>")]
    assert notes["columns"]["conversational"] and notes["columns"]["prompt"] is None
    assert main(["generate", "--adapter", str(tmp_path / "out"), "--max-new-tokens", "1", "film"]) == 0
    assert "<s>" not in capsys.readouterr().out  # the answer alone


@pytest.mark.parametrize("command", ["finetune", "show-data", "check-data"])
def test_preferences_without_a_task_are_no_texts_to_learn(command: str, folder: Path, capsys: Captured) -> None:
    file, model = str(folder / "pairs.jsonl"), ["--model", str(folder / "model")]
    given = {"finetune": [*model, "--train", file], "show-data": [*model, file], "check-data": [file]}[command]
    assert main([command, *given]) == 2
    assert "has preferences, the columns chosen and rejected: --task dpo or --task orpo" in capsys.readouterr().err


@pytest.mark.parametrize(
    "task, more, message",
    [
        ("dpo", ["--beta", "0"], "--beta must be above 0; got 0.0"),
        ("causal-lm", ["--beta", "0.2"], "--beta needs --task dpo or --task orpo; this is causal-lm"),
        ("causal-lm", ["--rejected-column", "x"], "--rejected-column needs --task dpo or --task orpo"),
        ("orpo", ["--label-smoothing-factor", "0.1"], "--label-smoothing-factor needs --task classification or"),
        ("dpo", ["--class-weights", "balanced"], "--class-weights needs --task classification"),
        ("dpo", ["--rejected-column", "worse"], "there is no column 'worse'"),
        ("dpo", ["--init-lora-weights", "eva"], "those of dpo are pairs, which it does not read: take another start"),
        ("dpo", ["--beta", "inf"], "--beta must be above 0; got inf"),
        ("dpo", ["--max-length", "1"], "a prompt and both answers have a token at least; these have 1, 0 and 0, where"),
        ("orpo", ["--rejected-column", "chosen"], "there is nothing to learn: both answers of each example have the"),
    ],
)
def test_what_would_do_nothing_is_refused(
    task: str, more: list[str], message: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert finetune(folder, tmp_path / "out", task, *more) == 2
    printed = capsys.readouterr().err
    assert message in printed.splitlines()[-1] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("lacking", ["prompt", "chosen", "rejected"])
def test_a_column_that_preferences_lack_is_asked_for(
    lacking: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    file = lines(tmp_path / "x.jsonl", [{k: v for k, v in pair.items() if k != lacking} for pair in PAIRS])
    given = ["--model", str(folder / "model"), "--train", file, "--output", str(tmp_path / "out")]
    assert main(["finetune", "--task", "dpo", *given]) == 2
    option = {"chosen": "text"}.get(lacking, lacking)
    printed = capsys.readouterr().err
    assert f"there is no column '{lacking}'; there are:" in printed and f"--{option}-column names" in printed


def test_answers_of_the_same_tokens_are_told_of(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: Any
) -> None:
    same = [{**pair, "rejected": pair["chosen"]} for pair in PAIRS]
    for name, file in (("a", [*PAIRS, same[0]]), ("b", same)):
        lines(tmp_path / f"{name}.jsonl", file)
    given = ["--model", str(folder / "model"), "--output", str(tmp_path / "out"), "--max-steps", "1", "--train"]
    assert main(["finetune", "--task", "dpo", *given, str(tmp_path / "a.jsonl")]) == 0
    said = "of 1 of 4 examples nothing is learnt, as to which answer is better: both have the same tokens"
    assert said in capsys.readouterr().err
    monkeypatch.setattr("npora.commands.encoding.AT_ONCE", 2)
    assert main(["finetune", "--task", "dpo", "--overwrite", *given, str(tmp_path / "b.jsonl")]) == 2
    assert "b.jsonl: there is nothing to learn: both answers" in capsys.readouterr().err


def test_many_preferences_are_encoded_as_they_are_asked_for(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: Any
) -> None:
    monkeypatch.setattr("npora.commands.encoding.AT_ONCE", 2)
    for name, more in (("a", []), ("b", ["--cache", str(tmp_path / "cache")])):
        assert finetune(folder, tmp_path / name, "dpo", "--max-steps", "2", *more) == 0
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in "ab")
    assert all((one[name] == other[name]).all() for name in one)
    assert finetune(folder, tmp_path / "c", "dpo", "--max-steps", "1", "--max-length", "6") == 0
    assert "an example has more than 6 tokens and is cut to that" in capsys.readouterr().err
