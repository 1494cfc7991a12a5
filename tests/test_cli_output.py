"""What the commands print, when, and which files they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npora import __version__
from npora.cli import commands_for, main
from tests.test_cli_tasks import finetune, sentences, table
from tests.tiny_folders import save_folder

RUN = ("adapter", "checkpoint-2", "log.jsonl", "log_history.jsonl", "run.json")
MORE = ("--max-steps", "2", "--save-strategy", "epoch")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save_folder(tmp_path / "model", "bert", "ForSequenceClassification")


@pytest.fixture
def train(tmp_path: Path) -> str:
    return table(tmp_path / "train.tsv", sentences(0, 1))


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "npora", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, encoding="utf-8", **{**pipes, **options})


def test_predict_prints_a_batch_before_the_next_one_comes(model: str) -> None:
    with process("predict", "--model", model, "--batch-size", "2") as running:
        assert running.stdin and running.stdout
        running.stdin.write("film was good\nfilm\n")
        running.stdin.flush()
        lines = [running.stdout.readline() for _ in range(2)]  # while standard input is still open
        assert [line.split("\t")[2] for line in lines] == ["film was good\n", "film\n"]
        rest, _ = running.communicate("plot\n")
        assert rest.endswith("\tplot\n") and rest.count("\n") == 1


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_each_line_of_standard_input_gives_one_line(family: str, tmp_path: Path) -> None:
    model = save_folder(tmp_path / "model", family, "ForSequenceClassification")
    given = ["film was good", "", "   ", "plot", "", "a\tb"]
    with process("predict", "--model", model, "--batch-size", "4") as running:
        printed, errors = running.communicate("".join(line + "\n" for line in given))
    assert running.returncode == 0, errors
    assert [line.split("\t", 2)[2] for line in printed.splitlines()] == given


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_standard_input_is_utf_8_in_every_locale(locale: str, tmp_path: Path) -> None:
    classifier = save_folder(tmp_path / "classifier", "bert", "ForSequenceClassification")
    writer = save_folder(tmp_path / "writer", "gpt2")
    env = {**os.environ, "LC_ALL": locale}
    for command in (["predict", "--model", classifier], ["generate", "--model", writer, "--max-new-tokens", "1"]):
        broken = subprocess.run(
            [sys.executable, "-m", "npora", *command], input=b"good\nfilm\nbad \xff\n", capture_output=True, env=env
        )
        assert broken.returncode == 2 and broken.stderr.startswith(b"npora: standard input, line 3: not UTF-8 (byte")
        told = subprocess.run(
            [sys.executable, "-m", "npora", *command, b"bad \xff"], capture_output=True, text=True, env=env
        )
        assert told.returncode == 2 and "the text has half of a pair of surrogates" in told.stderr
    marked = subprocess.run(
        [sys.executable, "-m", "npora", "predict", "--model", classifier],
        input="\ufeffgood é\r\n中\n".encode(), capture_output=True, env=env,
    )  # fmt: skip
    assert [line.split("\t")[2] for line in marked.stdout.decode().splitlines()] == ["good é", "中"]


@pytest.mark.parametrize("arguments", [["--help"], ["finetune", "--help"], ["info"], ["predict", "--batch-size", "1"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str], model: str) -> None:
    if arguments == ["info"]:
        arguments = ["info", model]
    if arguments[0] == "predict":
        arguments = [*arguments, "--model", model, *["film"] * 50]
    reading, writing = os.pipe()
    os.close(reading)  # as `head -n 0`, which has gone before the first line
    with process(*arguments, stdout=writing) as running:
        os.close(writing)
        _, errors = running.communicate()
    assert running.returncode in (0, 141) and not errors  # 0: argparse itself passes over a pipe that breaks


def test_a_full_disk_is_an_error_of_one_line(model: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full, process("info", model, stdout=full) as running:
        _, errors = running.communicate()
    assert running.returncode == 2 and errors.startswith("npora: ") and errors.count("\n") == 1


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert not stop.value.code and capsys.readouterr().out.startswith(f"npora {__version__} (Python ")


@pytest.mark.parametrize("command", commands_for([]))
def test_help_says_all_of_what_a_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    text = commands_for([])[command].__doc__ or ""
    for paragraph in text.split("\n\n"):
        assert "".join(paragraph.split()) in "".join(printed.split())
    assert "default: None" not in printed and "default: False" not in printed and "SUPPRESS" not in printed


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_in_one_output_is_refused_with_the_ways_on(
    model: str, train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert finetune(model, train, out, *MORE) == 0
    (out / "notes.txt").write_text("mine")
    before = files(out)
    capsys.readouterr()
    for arguments in (["--model", model, "--train", train], []):  # the demonstration too
        assert main(["finetune", "--output", str(out), *arguments]) == 2
        error = capsys.readouterr().err
        assert f"{out} holds a run already ({', '.join(RUN)}): pass another --output" in error
        assert "--overwrite" in error and ("--resume" in error) == bool(arguments) and error.count("\n") == 1
        assert files(out) == before


def test_resume_is_no_way_on_where_there_is_no_checkpoint(
    model: str, train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in (0, 2):
        capsys.readouterr()
        assert finetune(model, train, tmp_path / "out", "--max-steps", "1", "--save-strategy", "no") == code
    error = capsys.readouterr().err
    assert (
        "(adapter, log.jsonl, log_history.jsonl, run.json)" in error
        and "--overwrite" in error
        and "--resume" not in error
    )


def test_an_output_that_is_a_file_is_refused(
    model: str, train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(model, train, tmp_path / "out", *MORE) == 0
    capsys.readouterr()
    assert finetune(model, train, Path(train)) == 2
    assert main(["merge", "--adapter", str(tmp_path / "out"), "--output", train]) == 2
    assert main(["finetune", "--output", train]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors == [f"npora: --output {train} is a file: name a folder"] * 3


@pytest.mark.parametrize("command", ["finetune", "generate", "gradcheck", "taylor", "vcurve"])
def test_a_seed_below_0_is_refused_by_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--seed", "-1"])
    assert "argument --seed: a seed is a whole number, 0 or more; got '-1'" in capsys.readouterr().err


def test_overwrite_removes_the_run_and_nothing_else(model: str, train: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert finetune(model, train, out, "--max-steps", "6", "--save-strategy", "epoch") == 0
    (out / "notes.txt").write_text("mine")
    assert finetune(model, train, out, *MORE, "--overwrite", "--seed", "7") == 0
    assert sorted(os.listdir(out)) == [
        "adapter", "checkpoint-2", "log.jsonl", "log_history.jsonl", "notes.txt", "run.json",
    ]  # fmt: skip
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_an_error_before_the_training_leaves_the_run_that_was_to_be_overwritten(
    model: str, train: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert finetune(model, train, out, *MORE) == 0
    before = files(out)
    for wrong in (["--target-modules", "qurey"], ["--eval", "nowhere.tsv"], ["--max-length", "99"]):
        assert finetune(model, train, out, *MORE, "--overwrite", *wrong) == 2
        assert files(out) == before
