"""npora finetune --task multiple-choice, and the commands that know it by its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.data import collate_choices, read_choices
from tests.test_cli_tasks import THINGS, finetune, predicted, summary, table
from tests.tiny_folders import save_folder

WORDS = ("bad", "good", "red")


def questions() -> list[dict[str, Any]]:
    """The right ending is the one with the word good, which stands in each place."""
    return [
        {"question": thing, "choices": [f"was {WORDS[(i + shift) % 3]}" for i in range(3)], "label": (1 - shift) % 3}
        for thing in THINGS
        for shift in range(3)
    ]


def swag(example: dict[str, Any]) -> dict[str, Any]:
    endings = {f"ending{i}": choice.removeprefix("was ") for i, choice in enumerate(example["choices"])}
    return {"sent1": example["question"], "sent2": "was", **endings, "label": example["label"]}


def test_choices_are_learnt_measured_predicted_and_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, examples = save_folder(tmp_path / "model", "bert"), questions()
    train = table(tmp_path / "train.jsonl", examples)
    dev = table(tmp_path / "dev.tsv", [swag(example) for example in examples])
    assert finetune(model, train, tmp_path / "out", "--task", "multiple-choice", "--eval", dev) == 0
    printed = summary(capsys)
    assert float(printed["accuracy"]) == 1.0 and "f1" not in printed
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    assert main(["evaluate", *taken, dev]) == 0
    assert set(summary(capsys)) == {"accuracy", "loss", "examples"}
    asked = ["\t".join((example["question"], *example["choices"])) for example in examples[:3]]
    found = predicted(capsys, *taken, *asked)
    assert [int(line[0]) for line in found] == [1, 0, 2] and all(float(line[1]) > 0.5 for line in found)
    assert ["\t".join(line[2:]) for line in found] == asked
    assert main(["predict", *taken, asked[0], "the film\twas good\twas bad", asked[1]]) == 0
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "0", "0"]
    assert main(["predict", *taken, "the film\twas good"]) == 2
    assert "sentence 1: a question and its choices with tabs between them were expected" in capsys.readouterr().err
    assert main(["predict", *taken, "--pairs", asked[0]]) == 2
    assert "--pairs is for classification; this is multiple-choice" in capsys.readouterr().err
    assert main(["generate", *taken, "the film"]) == 2
    assert "is for multiple-choice: npora predict is the command for that" in capsys.readouterr().err
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    assert [line[0] for line in predicted(capsys, "--model", str(tmp_path / "merged"), *asked)] == ["1", "0", "2"]


def test_a_choice_that_is_too_long_is_cut_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, examples = save_folder(tmp_path / "model", "bert"), questions()[:4]
    examples[1]["choices"][2] += " very very very very very"
    train = table(tmp_path / "train.jsonl", examples)
    more = ("--task", "multiple-choice", "--max-steps", "1", "--max-length", "10")
    assert finetune(model, train, tmp_path / "out", *more) == 0
    assert "train.jsonl: 1 of 4 examples have more than 10 tokens and were cut" in capsys.readouterr().err


def test_what_choices_lack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, good = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.jsonl", questions())
    idle = table(tmp_path / "idle.jsonl", [{**example, "label": -100} for example in questions()[:2]])
    columns = {"question": "film", "choice1": "good", "choice2": "bad"}
    for number, (file, more, message) in enumerate([
        (good, ["--cache", str(tmp_path / "cache")], "--cache keeps a list of tokens for each example, and multiple-"),
        (good, ["--eval", idle, "--max-steps", "1"], "there is nothing to evaluate: no label counts"),
        ({**columns, "label": 1}, [], "(nor ending0, …, choice0, …); there are: question, choice1, choice2, label. --"),
        ({**columns, "choice0": "red"}, [], "no column 'label'; there are: question, choice1, choice2, choice0. --"),
        ({"premise": "a", "label": 0}, [], "no column 'question' (nor sent1); there are: premise, label. --text-col"),
    ]):  # fmt: skip
        path = file if isinstance(file, str) else table(tmp_path / f"{number}.tsv", [file])
        assert finetune(model, path, tmp_path / "out", "--task", "multiple-choice", "--overwrite", *more) == 2
        assert message in capsys.readouterr().err


def test_files_of_choices_are_read_alike(tmp_path: Path) -> None:
    expected = {"text": "the film", "choices": ["was good", "was bad"], "label": 1}
    asked = {"question": "the film", "choices": ["was good", "was bad"], "label": 1}
    listed = {"question": "the film", "choice0": "was good", "choice1": "was bad", "label": 1}
    named = {"q": "the film", "a": asked["choices"], "right": 1}
    own = {"text_column": "q", "choices_column": "a", "label_column": "right"}
    for number, (example, columns) in enumerate([(asked, {}), (swag(asked), {}), (listed, {}), (named, own)]):
        path = table(tmp_path / f"{number}.jsonl", [example])
        assert read_choices(path, **columns).to_list() == [expected]
    assert read_choices(table(tmp_path / "listed.tsv", [listed])).to_list() == [expected]
    without = {name: value for name, value in swag(asked).items() if name != "sent2"}
    assert read_choices(table(tmp_path / "x.tsv", [without]))[0]["choices"] == ["good", "bad"]
    assert read_choices(table(tmp_path / "y.jsonl", [{**asked, "label": -100}]))[0]["label"] == -100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ["was good"]}, "line 2: choices must be a list of two strings or more; got ['was good']"),
        ({"choices": ["a", 1, "b"]}, "line 2: choices must be a list of two strings or more"),
        ({"choices": ["a", "b"]}, "line 2: there are 2 choices, and 3 in the first example"),
        ({"label": 3}, "line 2: the label is the number of the right choice, 0 … 2; got 3"),
        ({"label": -1}, "line 2: the label is the number of the right choice"),
        ({"label": True}, "line 2: the label is the number of the right choice"),
        ({"question": None}, "line 2: question must be a string; got None"),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    first, second, third = questions()[:3]
    path = table(tmp_path / "train.jsonl", [first, {**second, **changes}, third])
    with pytest.raises(ValueError) as caught:
        read_choices(path)
    assert message in str(caught.value)
    told: list[str] = []
    assert len(read_choices(path, refuse=lambda error: told.append(str(error)))) == 2 and len(told) == 1
    assert main(["check-data", "--task", "multiple-choice", path]) == 1


def test_columns_that_there_are_not_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "train.jsonl", questions()[:1])
    for columns, message in (
        ({"text_column": "sentence"}, "there is no column 'sentence'; there are: question, choices, label"),
        ({"choices_column": "answers"}, "there is no column 'answers'"),
        ({"label_column": "right"}, "there is no column 'right'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_choices(path, **columns)
    with pytest.raises(ValueError, match="there is no column 'choices'; there are: sentence, label"):
        read_choices(table(tmp_path / "other.tsv", [{"sentence": "a", "label": 0}]), "sentence")


def test_a_batch_of_choices_is_padded_to_the_longest_of_all() -> None:
    examples = [
        {"input_ids": [[5, 6], [7]], "token_type_ids": [[0, 1], [1]], "label": 1},
        {"input_ids": [[8], [9, 10, 11]], "token_type_ids": [[1], [0, 0, 1]], "label": 0},
    ]
    batch = collate_choices(examples, {"input_ids", "attention_mask", "token_type_ids", "labels"}, pad_token_id=3)
    assert batch["input_ids"].tolist() == [[[5, 6, 3], [7, 3, 3]], [[8, 3, 3], [9, 10, 11]]]
    assert batch["attention_mask"].tolist() == [[[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 1, 1]]]
    assert batch["token_type_ids"].tolist() == [[[0, 1, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 1]]]
    assert batch["labels"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="example 9 has 1 choices, and example 4 2"):
        collate_choices([examples[0], {"input_ids": [[5]], "label": 0}], {"input_ids"}, 0, [4, 9])
    with pytest.raises(ValueError, match="example 0: input_ids must be a list of ids for each choice; got"):
        collate_choices([{"input_ids": [5, 6]}], {"input_ids"})
