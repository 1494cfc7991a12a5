"""npora finetune --task token-classification, from words with tags to the tags of other words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.cli import main
from npora.commands.figures import of_words
from npora.data import encode_words, read_tagged
from npora.files import read_json
from npora.train import EvalPrediction
from tests.chat_templates import chat_tokenizer
from tests.tiny_folders import save_folder

Captured = pytest.CaptureFixture[str]
TAGS = {"film": "B-THING", "plot": "B-THING", "good": "B-MARK", "bad": "I-MARK"}
TEXTS = ["the film was good bad", "a plot", "very bad film plot", "red the green was"]


def tagged(path: Path, examples: list[Any] | None = None) -> str:
    found = [{"tokens": text.split(), "tags": [TAGS.get(word, "O") for word in text.split()]} for text in TEXTS]
    path.write_text("".join(json.dumps(example) + "\n" for example in examples or found))
    return str(path)


def finetune(model: str, train: str, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--task", "token-classification", "--model", model, "--train", train, "--output", str(output),
         "--target-modules", "all-linear", "--lora-dropout", "0", "--save-strategy", "no", *more]
    )  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_tags_are_learnt_measured_and_printed(family: str, tmp_path: Path, capsys: Captured) -> None:
    model, file = save_folder(tmp_path / "model", family), tagged(tmp_path / "x.jsonl")
    assert (
        finetune(
            model,
            file,
            tmp_path / "out",
            "--eval",
            file,
            "--max-steps",
            "80",
            "--learning-rate",
            "2e-2",
            "--max-length",
            "9",
        )
        == 0
    )
    figures = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert float(figures["accuracy"]) == float(figures["f1"]) == 1
    taken = ["--adapter", str(tmp_path / "out")]
    assert main(["evaluate", *taken, file]) == 0
    assert capsys.readouterr().out.split()[:4] == ["accuracy", "1.0000", "f1", "1.0000"]
    assert main(["predict", *taken, "the film was good bad", "a  plot"]) == 0
    assert capsys.readouterr().out == "O B-THING O B-MARK I-MARK\tthe film was good bad\nO B-THING\ta  plot\n"
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    assert read_json(tmp_path / "merged" / "tokenizer_config.json")["model_max_length"] == 9
    capsys.readouterr()
    assert main(["predict", "--model", str(tmp_path / "merged"), "a plot"]) == 0
    assert capsys.readouterr().out == "O B-THING\ta plot\n"
    for arguments, message in (
        (["predict", *taken, "--pairs", "a\tb"], "--pairs is for classification; this is token-classification"),
        (["predict", *taken, "a", " "], "sentence 2 has no words"),
        (["generate", *taken, "a"], "is for token-classification: npora predict is the command"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_tags_may_be_numbers_and_columns_have_other_names(tmp_path: Path, capsys: Captured) -> None:
    model = save_folder(tmp_path / "model", "bert")
    file = tagged(tmp_path / "x.json", [{"w": ["film", "bad"], "ner_tags": [2, 0]}, {"w": ["a"], "ner_tags": [1]}])
    named = ("--text-column", "w", "--label-column", "ner_tags")
    assert main(["check-data", "--task", "token-classification", *named, file]) == 0
    assert finetune(model, file, tmp_path / "out", *named, "--eval", file, "--max-steps", "1") == 0
    assert "f1" in capsys.readouterr().out  # of tags that are no entities
    assert main(["predict", "--adapter", str(tmp_path / "out"), "film was"]) == 0
    assert {*capsys.readouterr().out.split("\t")[0].split()} <= {"0", "1", "2"}


def test_the_first_token_of_a_word_has_its_tag() -> None:
    tokenizer = chat_tokenizer()
    (own,) = encode_words(tokenizer, [{"words": ["film", "jumps!", "é"], "tags": [1, 2, 3]}])
    labelled = [(token, label) for token, label in zip(own["input_ids"], own["labels"], strict=True) if label != -100]
    starts = [tokenizer.encode(word, add_special_tokens=False)[0] for word in ("film", "jumps!", "é")]
    assert labelled == list(zip(starts, [1, 2, 3], strict=True))
    assert len(own["input_ids"]) > 5 and own["labels"][0] == own["labels"][-1] == -100  # around the text
    (cut,) = encode_words(tokenizer, [{"words": ["film", "jumps!", "é"], "tags": [1, 2, 3]}], 4)
    assert len(cut["labels"]) == len(cut["input_ids"]) == 4
    (bare,) = encode_words(tokenizer, [{"words": ["film"]}])
    assert "labels" not in bare


@pytest.mark.parametrize(
    "examples, message",
    [
        ([{"tokens": "a b", "tags": [1, 0]}], "line 1: tokens must be a list of words; got 'a b'"),
        ([{"tokens": [], "tags": []}], "line 1: tokens must be a list of words; got []"),
        ([{"tokens": ["a", 1], "tags": [1, 0]}], "line 1: tokens must be a list of words"),
        ([{"tokens": ["a\ud800"], "tags": [1]}], "line 1: a word has half of a pair of surrogates"),
        ([{"tokens": ["a", "b"], "tags": ["O"]}], "tags must be a list with a tag for each of 2 words; got 1 tags"),
        ([{"tokens": ["a"], "tags": "O"}], "tags must be a list with a tag for each of 1 words; got 'O'"),
        ([{"tokens": ["a", "b"], "tags": ["O", 1.5]}], "line 1: "),
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}], "every word has the same tag: there is nothing to tell apart"),
        ([{"tokens": ["a"]}], "line 1: there is no column 'tags'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_words_and_tags_is_said(
    tmp_path: Path, capsys: Captured, examples: list[Any], message: str
) -> None:
    file = tagged(tmp_path / "x.jsonl", examples)
    model = save_folder(tmp_path / "model", "bert")
    assert finetune(model, file, tmp_path / "out", "--max-steps", "1") == 2
    assert message in capsys.readouterr().err
    if "every word" not in message:
        assert main(["check-data", "--task", "token-classification", file]) == 1
        assert message in capsys.readouterr().out


def test_entities_are_counted_whole_and_other_tags_each() -> None:
    names = ["O", "B-X", "I-X"]
    true = np.array([[1, 2, 0, -100], [1, -100, -100, -100]])
    found = np.eye(3)[np.array([[1, 0, 0, 1], [1, 2, 2, 2]])]
    measured = of_words(dict(enumerate(names)))(EvalPrediction(found, true))
    assert measured == {"accuracy": 3 / 4, "f1": 2 * 1 / (2 + 2)}
    measured = of_words(dict(enumerate("abc")))(EvalPrediction(found, true))
    assert measured == {"accuracy": 3 / 4, "f1": (2 / 3 + 1 + 0) / 3}


def test_words_without_tags_are_read_too(tmp_path: Path) -> None:
    file = tagged(tmp_path / "x.jsonl", [{"tokens": ["a", "b"]}, {"tokens": ["c"]}])
    assert [example["words"] for example in read_tagged(file, tags_column=None)] == [["a", "b"], ["c"]]
    wrong: list[ValueError] = []
    file = tagged(tmp_path / "z.jsonl", [{"tokens": ["a", "b"], "tags": ["O", 1.5]}, {"tokens": ["c"], "tags": ["O"]}])
    assert len(read_tagged(file, refuse=wrong.append)) == 0 and "the label 1.5" in str(wrong[-1])
    known = read_tagged(tagged(tmp_path / "y.jsonl"), label2id={"O": 3, "B-MARK": 1, "I-MARK": 0, "B-THING": 2})
    assert known[0]["tags"] == [3, 2, 3, 1, 0]
