"""Sentence embeddings on the command line: finetune --task embedding, evaluate, embed, merge."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSentenceEmbedding, AutoTokenizer
from npora.cli import main
from npora.files import read_json
from npora.lora import read_record
from tests.test_cli_chat import Captured, lines
from tests.test_cli_preferences import figures
from tests.tiny_folders import save_folder

PAIRS = [{"anchor": f"the {a}", "positive": b} for a, b in (("film", "bad"), ("plot", "red"), ("a", "green very"))]
SCORED = [
    {"sentence1": f"the {a}", "sentence2": b, "score": s}
    for a, b, s in (("film", "bad", 5), ("film", "good", 1), ("plot", "red", 4), ("plot", "bad", 0))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("embeddings")
    save_folder(place / "model", "bert")
    lines(place / "pairs.jsonl", PAIRS)
    lines(place / "scored.jsonl", SCORED)
    lines(place / "triplets.jsonl", [{**pair, "negative": "was"} for pair in PAIRS])
    return place


def finetune(folder: Path, name: str, output: Path, *more: str) -> int:
    file = str(folder / name)
    return main(
        ["finetune", "--task", "embedding", "--model", str(folder / "model"), "--train", file, "--eval", file,
         "--output", str(output), "--target-modules", "all-linear", "--lora-dropout", "0", "--save-strategy", "no",
         "--learning-rate", "2e-2", "--epochs", "25", *more]
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, more, figure",
    [
        ("pairs.jsonl", ["--loss", "multiple-negatives-ranking", "--scale", "10"], "accuracy"),
        ("scored.jsonl", [], "spearman"),
        ("triplets.jsonl", ["--loss", "triplet", "--margin", "2"], "accuracy"),
    ],
)  # fmt: skip
def test_texts_that_are_alike_are_learnt_and_measured_again(
    name: str, more: list[str], figure: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert finetune(folder, name, tmp_path / "out", *more) == 0
    found = figures(capsys)
    assert float(found[figure]) > 0.9
    assert main(["evaluate", "--adapter", str(tmp_path / "out"), str(folder / name)]) == 0
    again = figures(capsys)
    assert again[figure] == found[figure] and again["loss"] == found["evaluation loss"]
    other = "pairs.jsonl" if name == "scored.jsonl" else "scored.jsonl"  # of other columns
    assert main(["evaluate", "--adapter", str(tmp_path / "out"), str(folder / other)]) == 0
    assert ("spearman" in figures(capsys)) == (other == "scored.jsonl")


@pytest.mark.parametrize(
    "train, more, eval_, figure",
    [
        ("pairs.jsonl", [], "scored.jsonl", "spearman"),
        ("scored.jsonl", [], "triplets.jsonl", "accuracy"),
        ("triplets.jsonl", ["--loss", "triplet"], "pairs.jsonl", "accuracy"),
        ("sentences.jsonl", [], "scored.jsonl", "spearman"),  # of the same columns, and a score besides
        ("other.jsonl", ["--text-column", "a", "--text-pair-column", "b"], "triplets.jsonl", "accuracy"),
    ],
)  # fmt: skip
def test_examples_of_another_kind_are_measured_with_their_own_loss(
    train: str, more: list[str], eval_: str, figure: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    lines(folder / "sentences.jsonl", [{"sentence1": pair["anchor"], "sentence2": pair["positive"]} for pair in PAIRS])
    lines(folder / "other.jsonl", [{"a": pair["anchor"], "b": pair["positive"]} for pair in PAIRS])
    file, out = str(folder / eval_), str(tmp_path / "out")
    assert finetune(folder, train, tmp_path / "out", "--max-steps", "2", *more, "--eval", file) == 0
    found = figures(capsys)
    assert main(["evaluate", "--adapter", out, file]) == 0
    again = figures(capsys)
    assert again[figure] == found[figure] and again["loss"] == found["evaluation loss"]


def test_vectors_are_the_models_and_the_form_goes_along(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: Any
) -> None:
    out, merged = str(tmp_path / "out"), str(tmp_path / "merged")
    assert (
        finetune(folder, "pairs.jsonl", tmp_path / "out", "--pooling", "cls", "--normalize", "--max-length", "3") == 0
    )
    settings = read_record(out + "/adapter")["notes"]["settings"]
    assert settings == {"pooling": "cls", "normalize": True}
    config = read_json(tmp_path / "out" / "adapter" / "adapter_config.json")
    assert config["task_type"] == "FEATURE_EXTRACTION"
    assert main(["merge", "--adapter", out, "--output", merged]) == 0
    capsys.readouterr()
    assert main(["embed", "--adapter", out, "the film", "a very very red plot"]) == 0
    shown = np.array([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    np.testing.assert_allclose((shown**2).sum(axis=1), 1, rtol=1e-5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the film\na very very red plot\n")))
    assert main(["embed", "--model", merged, "--max-length", "3", "--output", str(tmp_path / "x.npy")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"2 vectors of 16 numbers in {tmp_path}/x.npy\n"
    assert "the sentences: 2 of 2 examples have more than 3 tokens and were cut" in printed.err
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), shown, atol=1e-5)
    base = AutoModelForSentenceEmbedding.from_pretrained(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    np.testing.assert_allclose(base.encode("the film", tokenizer, max_length=3), shown[0], atol=1e-5)
    assert main(["evaluate", "--model", merged, str(folder / "pairs.jsonl")]) == 0


def test_a_run_goes_on_in_the_form_that_it_began_in(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    more = ("--save-strategy", "epoch", "--max-steps", "1", "--resume")
    assert finetune(folder, "pairs.jsonl", tmp_path / "out", *more[:-1]) == 0
    for option, said in (
        (["--pooling", "cls"], "with pooling='mean', this one has 'cls'"),
        (["--normalize"], "with normalize=False, this one has True"),
    ):
        assert finetune(folder, "pairs.jsonl", tmp_path / "out", *more, *option) == 2
        assert said in capsys.readouterr().err


def test_what_is_compared_is_shown(folder: Path, capsys: Captured) -> None:
    model = ["--model", str(folder / "model")]
    for name, label in (("scored.jsonl", ", label 5.0"), ("pairs.jsonl", "")):
        assert main(["show-data", "--task", "embedding", *model, "--examples", "1", str(folder / name)]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[:3] == [f"── example 1: 4 tokens; 3 tokens{label}", "<s> the film </s>", "<s> bad </s>"]
    capsys.readouterr()
    assert main(["check-data", "--task", "embedding", str(folder / "scored.jsonl")]) == 0
    said = "the texts are in the columns 'sentence1' and 'sentence2', how alike they are in 'score'"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, more, message",
    [
        ("pairs.jsonl", ["--scale", "0"], "--scale must be above 0; got 0.0"),
        ("pairs.jsonl", ["--scale", "inf"], "--scale must be above 0; got inf"),
        ("pairs.jsonl", ["--batch-size", "1"], "ranking compares the examples of a batch, and there is one alone"),
        ("scored.jsonl", ["--max-train-rows", "1"], "the loss cosent compares the examples of a batch, and there is"),
        ("later.jsonl", [], "later.jsonl, line 1: there is no column 'negative'; there are: anchor, positive"),
        ("empty.csv", [], "empty.csv has no examples"),
        ("pairs.jsonl", ["--margin", "1"], "--margin needs --loss triplet"),
        ("triplets.jsonl", ["--loss", "triplet", "--scale", "2"], "--scale needs --loss multiple-negatives-ranking or"),
        ("pairs.jsonl", ["--loss", "cosent"], "the loss cosent is of examples of 2 texts with a score; got 2"),
        ("pairs.jsonl", ["--task", "classification", "--pooling", "cls"], "--pooling needs --task embedding; this is"),
        ("pairs.jsonl", ["--text-column", "anchor"], "--text-column and --text-pair-column name the columns of two"),
        ("semi.csv", [], "semi.csv has the columns anchor;positive (';' stands in it"),
        ("other.jsonl", [], "other.jsonl has the columns a, b: name those of two texts that are alike with"),
    ],
)
def test_what_would_do_nothing_is_refused(
    name: str, more: list[str], message: str, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    lines(folder / "other.jsonl", [{"a": "film", "b": "plot"}])
    lines(folder / "later.jsonl", [*PAIRS, {**PAIRS[0], "negative": "was"}])
    (folder / "semi.csv").write_text("anchor;positive\na;b\n")
    (folder / "empty.csv").write_text("anchor,positive\n")
    assert finetune(folder, name, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_columns_of_other_names_are_named(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    file = lines(tmp_path / "x.jsonl", [{"a": "film", "b": "plot", "c": "red", "d": 1}])
    columns = ["--text-column", "a", "--text-pair-column", "b", "--negative-column", "c"]
    model = ["--model", str(folder / "model")]
    assert main(["show-data", "--task", "embedding", *model, *columns, file]) == 0
    assert capsys.readouterr().out.splitlines()[1:4] == [f"<s> {word} </s>" for word in ("film", "plot", "red")]


def test_embeddings_and_sentences_have_commands_of_their_own(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    assert finetune(folder, "pairs.jsonl", tmp_path / "out", "--max-steps", "1") == 0
    assert main(["predict", "--adapter", str(tmp_path / "out"), "film"]) == 2
    assert "npora embed is the command for that" in capsys.readouterr().err
    lost = str(tmp_path / "lost" / "x.npy")
    for more, message in (
        (["--output", "x.txt"], "ends in .npy"),
        (["--output", lost], f"npora: {lost}: "),
        (["--batch-size", "0"], "--batch-size must be at"),
    ):
        assert main(["embed", "--adapter", str(tmp_path / "out"), *more, "film"]) == 2
        assert message in capsys.readouterr().err
