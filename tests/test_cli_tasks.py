"""What finetune can learn: each task, each family that has it, on the files that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from tests.tiny_folders import FAMILIES, save_folder

THINGS = ("film", "plot", "the film", "a very very plot", "the film was a plot")


def table(path: Path, examples: list[dict[str, Any]]) -> str:
    """A .tsv or a .jsonl file."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")
    else:
        lines = ["\t".join(examples[0]), *("\t".join(map(str, example.values())) for example in examples)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def sentences(*names: Any) -> list[dict[str, Any]]:
    """Sentences of unequal lengths and their class, which one word of them decides."""
    words = ("bad", "good", "red")[: len(names)]
    return [
        {"sentence": f"{thing} was {word}", "label": n}
        for thing in THINGS
        for word, n in zip(words, names, strict=True)
    ]


def finetune(model: str, train: str, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--model", model, "--train", train, "--output", str(output), "--target-modules", "all-linear",
         "--learning-rate", "1e-2", "--lora-dropout", "0", "--batch-size", "4", "--epochs", "30",
         "--logging-steps", "999", *more]
    )  # fmt: skip


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    capsys.readouterr()
    assert main(["predict", *arguments]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_classes_by_name_and_predicts_what_was_measured(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, examples = save_folder(tmp_path / "model", family), sentences("dull", "fine", "bright")
    train = table(tmp_path / "train.tsv", examples)
    assert finetune(model, train, tmp_path / "out", "--eval", train) == 0
    accuracy = float(summary(capsys)["accuracy"])
    found = predicted(
        capsys, "--model", model, "--adapter", str(tmp_path / "out"), *(example["sentence"] for example in examples)
    )
    right = [line[0] == example["label"] for line, example in zip(found, examples, strict=True)]
    assert accuracy > 0.5 and abs(sum(right) / len(examples) - accuracy) < 1e-4
    assert [line[2] for line in found] == [example["sentence"] for example in examples]


def test_names_that_the_head_has_keep_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {0: "neutral", 1: "worse", 2: "better"}
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification", id2label=names)
    train = table(tmp_path / "train.jsonl", sentences("worse", "better"))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "1") == 0
    assert main(["info", str(tmp_path / "out")]) == 0
    assert str(names) in capsys.readouterr().out


def test_a_head_of_another_size_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "bert", "ForSequenceClassification", num_labels=5)
    train = table(tmp_path / "train.tsv", sentences(0, 1, 2))
    assert finetune(model, train, tmp_path / "out", "--eval", train) == 0
    assert float(summary(capsys)["accuracy"]) == 1.0
    assert [
        line[0] for line in predicted(capsys, "--model", model, "--adapter", str(tmp_path / "out"), "film was red")
    ] == ["2"]


def test_pairs_of_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "bert")
    examples = [
        {"premise": thing, "other": f"{thing} was {word}", "label": label}
        for thing in THINGS for word, label in (("good", "yes"), ("bad", "no"))
    ]  # fmt: skip
    train = table(tmp_path / "train.jsonl", examples)
    columns = ("--text-column", "premise", "--text-pair-column", "other")
    assert finetune(model, train, tmp_path / "out", "--eval", train, *columns) == 0
    accuracy = float(summary(capsys)["accuracy"])
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    found = predicted(capsys, *taken, *(f"{example['premise']}\t{example['other']}" for example in examples))
    right = [line[0] == example["label"] for line, example in zip(found, examples, strict=True)]
    assert accuracy > 0.8 and abs(sum(right) / len(examples) - accuracy) < 1e-4
    assert main(["predict", *taken, "one text"]) == 2
    assert "sentence 1: two texts with a tab between them were expected; got 'one text'" in capsys.readouterr().err
    assert main(["evaluate", *taken, train]) == 0  # the columns are known
    assert float(summary(capsys)["accuracy"]) == accuracy


def test_numbers_are_predicted_with_one_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences(-1.5, 0.25, 2.0))
    assert finetune(model, train, tmp_path / "out", "--eval", train, "--num-labels", "1", "--epochs", "60") == 0
    printed = summary(capsys)
    assert float(printed["pearson"]) > 0.98 and float(printed["rmse"]) < 0.3
    found = predicted(capsys, "--model", model, "--adapter", str(tmp_path / "out"), "film was bad", "film was red")
    assert abs(float(found[0][0]) + 1.5) < 0.5 and abs(float(found[1][0]) - 2) < 0.5 and found[0][1] == "film was bad"


def test_texts_of_several_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "gpt2")
    named = (([], ""), (["fine"], "good"), (["dull"], "bad"), (["dull", "fine"], "good bad"))
    examples = [{"sentence": f"{thing} was {words}", "label": names} for thing in THINGS for names, words in named]
    train = table(tmp_path / "train.jsonl", examples)
    more = ("--problem-type", "multi_label_classification", "--eval", train, "--epochs", "60")
    assert finetune(model, train, tmp_path / "out", *more) == 0
    printed = summary(capsys)
    assert float(printed["f1"]) > 0.9 and float(printed["accuracy"]) > 0.8
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    found = predicted(capsys, *taken, "film was", "film was good", "film was good bad")
    assert [line[0] for line in found] == ["", "fine", "dull,fine"]
    assert main(["evaluate", *taken, train]) == 0
    assert summary(capsys)["f1"] == printed["f1"]


def test_an_encoder_decoder_learns_to_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "t5")
    examples = [
        {"prompt": f"{thing} was", "sentence": word} for thing, word in (("film", "red"), ("a plot", "very green"))
    ]
    train = table(tmp_path / "train.jsonl", examples)
    more = ("--task", "seq2seq-lm", "--eval", train, "--epochs", "150")
    assert finetune(model, train, tmp_path / "out", *more) == 0
    assert float(summary(capsys)["perplexity"]) < 1.3
    for example in examples:
        assert main(["generate", "--adapter", str(tmp_path / "out"), example["prompt"]]) == 0
        assert capsys.readouterr().out == example["sentence"] + "\n"


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_long_document_is_learnt_in_windows(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "gpt2")  # of 24 positions
    path = tmp_path / f"train{suffix}"
    document = "the film was very good a plot was red " * 7
    if suffix == ".txt":
        path.write_text(document)
    else:
        table(path, [{"sentence": document}])
    more = ["--task", "causal-lm", "--max-steps", "1", "--batch-size", "9"]
    more += ["--sample-by", "document"] * (suffix == ".txt")
    assert finetune(model, str(path), tmp_path / "out", *more) == 0
    log = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    assert log["tokens"] == 9 * 7 + 1 + 2  # the words, the end, what two further windows begin with
    assert "cut" not in capsys.readouterr().err


def test_what_is_cut_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpt2, bert = save_folder(tmp_path / "gpt2", "gpt2"), save_folder(tmp_path / "bert", "bert")
    examples = [{"prompt": "the film " * n, "sentence": "was good", "label": n % 2} for n in (1, 4, 8, 30)]
    train = table(tmp_path / "train.jsonl", examples)
    more = ("--task", "causal-lm", "--prompt-column", "prompt", "--max-steps", "1")
    assert finetune(gpt2, train, tmp_path / "a", *more) == 0
    assert "train.jsonl: 1 of 4 examples have more than 24 tokens and were cut to that" in capsys.readouterr().err
    assert (
        finetune(bert, train, tmp_path / "b", "--text-column", "prompt", "--max-length", "10", "--max-steps", "1") == 0
    )
    assert "train.jsonl: 2 of 4 examples have more than 10 tokens and were cut to that" in capsys.readouterr().err
    taken = ["--model", bert, "--adapter", str(tmp_path / "b")]
    assert main(["predict", *taken, "the film was good " * 3, "the film was good very good film plot"]) == 0
    assert "the sentences: 1 of 2 examples have more than 10 tokens" in capsys.readouterr().err


def test_without_eval_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", sentences(0, 1))
    assert finetune(model, train, tmp_path / "out", "--max-steps", "2") == 0
    printed = capsys.readouterr()
    assert "accuracy" not in printed.out and "training loss" in printed.out
    assert main(["evaluate", "--model", model, "--adapter", str(tmp_path / "out"), train]) == 0
    assert set(summary(capsys)) == {"accuracy", "f1", "matthews", "loss", "examples"}


@pytest.mark.parametrize(
    ("examples", "more", "message"),
    [
        (sentences(0, 3), [], "labels count from 0, and no example has the label 1, though one has 3: pass --num-lab"),
        (sentences("x", "x"), [], "every example has the label"),
        (sentences("x", "y"), ["--num-labels", "3"], "2 classes (x, y), --num-labels 3"),
        (sentences(0, 1), ["--num-labels", "0"], "--num-labels must be at least 1"),
        (sentences(0, 1), ["--task", "causal-lm", "--num-labels", "2"], "--num-labels needs --task classification"),
        (sentences(0, 1), ["--task", "causal-lm", "--label-column", "label"], "--label-column needs --task"),
        (sentences(0, 1), ["--prompt-column", "label"], "--prompt-column needs --task causal-lm or --task seq2seq-lm"),
        (sentences(0, 1), ["--eval-batch-size", "3"], "--eval-batch-size needs --eval"),
        (sentences(0, 1), ["--max-length", "25"], "--max-length 25: this model takes at most 24 tokens"),
        (sentences(0, 1), ["--max-length", "0"], "--max-length must be at least 1"),
        (sentences(0, 1), ["--max-train-rows", "0"], "--max-train-rows must be at least 1"),
        (sentences(0, 1), ["--resume", "--overwrite"], "choose one"),
        (sentences(0, 1), ["--task", "seq2seq-lm"], "there is no column 'prompt'"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_or_guessed_is_an_error(
    examples: list[dict[str, Any]], more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.tsv", examples)
    assert finetune(model, train, tmp_path / "out", *more) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not (tmp_path / "out").exists()
