"""npora finetune --task question-answering, and the commands that know it by its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.cli import main
from npora.commands.encoding import encoded
from npora.commands.tasks import TASKS
from npora.data import AutoTokenizer, encode_question, read_questions
from npora.data.answers import answer_of, by_question
from tests.test_cli_tasks import THINGS, finetune, predicted, summary, table
from tests.tiny_folders import save_folder

COLOURS = ("good", "bad", "red")
TASK = ("--task", "question-answering")


def asked(context: str, *answers: str) -> dict[str, Any]:
    starts = [context.index(answer) for answer in answers]
    return {"question": "the film", "context": context, "answers": {"text": [*answers], "answer_start": starts}}


def questions() -> list[dict[str, Any]]:
    """The answer is the one word that is none of the others."""
    return [asked(f"{thing} was {word} a {thing}", word) for thing in THINGS for word in COLOURS]


def squads_own(examples: list[dict[str, Any]], path: Path) -> str:
    def nested(example: dict[str, Any]) -> dict[str, Any]:
        answers = [
            {"text": text, "answer_start": start} for text, start in zip(*example["answers"].values(), strict=True)
        ]
        return {"context": example["context"], "qas": [{"question": example["question"], "answers": answers}]}

    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [*map(nested, examples)]}]}))
    return str(path)


def test_answers_are_learnt_measured_predicted_and_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, examples = save_folder(tmp_path / "model", "bert"), questions()
    train, dev = table(tmp_path / "train.jsonl", examples), squads_own(examples, tmp_path / "dev.json")
    assert finetune(model, train, tmp_path / "out", *TASK, "--eval", dev, "--max-length", "15", "--epochs", "9") == 0
    printed = summary(capsys)
    assert 1 >= float(printed["exact match"]) > 0.8 and float(printed["f1"]) > 0.8
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    assert main(["evaluate", *taken, dev]) == 0
    again = summary(capsys)
    assert set(again) == {"exact match", "f1", "loss", "examples"} and again["f1"] == printed["f1"]
    sentences = [f"{example['question']}\t{example['context']}" for example in examples]
    found = predicted(capsys, *taken, "--batch-size", "7", *sentences)
    right = [line[0] == example["answers"]["text"][0] for line, example in zip(found, examples, strict=True)]
    assert f"{sum(right) / len(right):.4f}" == again["exact match"].strip()
    assert all(0 < float(line[1]) <= 1 for line in found) and ["\t".join(line[2:]) for line in found] == sentences
    assert main(["predict", *taken, "the film"]) == 2
    assert "sentence 1: a question and the text that is asked with a tab between them" in capsys.readouterr().err
    assert main(["predict", *taken, "--max-length", "5", *sentences[:1]]) == 2
    assert "npora: sentence 1: the question takes 5 tokens" in capsys.readouterr().err
    assert main(["predict", *taken, "--pairs", sentences[0]]) == 2
    assert "--pairs is for classification; this is question-answering" in capsys.readouterr().err
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    assert predicted(capsys, "--model", str(tmp_path / "merged"), sentences[0])[0][0] == found[0][0]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_what_writes_texts_answers_questions_too(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_folder(tmp_path / "model", family), table(tmp_path / "train.jsonl", questions())
    assert finetune(model, train, tmp_path / "out", *TASK, "--epochs", "1", "--eval", train) == 0
    found = [summary(capsys)["f1"]]
    assert main(["merge", "--adapter", str(tmp_path / "out"), "--output", str(tmp_path / "merged")]) == 0
    for given in (("--adapter", str(tmp_path / "out")), ("--model", str(tmp_path / "merged"))):
        capsys.readouterr()
        assert main(["evaluate", *given, train]) == 0
        found.append(summary(capsys)["f1"])
    assert len({*found}) == 1 and float(found[0]) > 0


def test_a_text_without_an_answer_is_learnt_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_folder(tmp_path / "model", "bert")
    examples = [*questions(), *(asked(f"{thing} was green {thing}") for thing in THINGS)]
    train = table(tmp_path / "train.jsonl", examples)
    assert finetune(model, train, tmp_path / "out", *TASK, "--epochs", "15") == 0
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    asks = ("the film\tthe film was green the film", "the film\tthe film was red a the film")
    for given in (taken, ("--model", str(tmp_path / "merged"))):
        assert [line[0] for line in predicted(capsys, *given, *asks)] == ["", "red"]
        assert main(["evaluate", *given, train]) == 0
        assert float(summary(capsys)["exact match"]) > 0.9


def test_a_long_text_becomes_windows_with_the_answer_where_it_stands(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_folder(tmp_path / "model", "bert"))
    context = "a film was very very red a plot"
    example = {"text": " the plot", "text_pair": context, "answers": ["very red"], "starts": [16]}
    (whole,) = encode_question(tokenizer, example)
    assert tokenizer.decode(whole["input_ids"]).split() == ["<s>", "the", "plot", "</s>", *context.split(), "</s>"]
    assert whole["label"] == [4 + 4, 4 + 5]
    parts = encode_question(tokenizer, example, 8)  # three of the text, of which one is in the next window too
    assert [tokenizer.decode(part["input_ids"]).split()[3:] for part in parts] == [
        ["</s>", "a", "film", "was", "</s>"], ["</s>", "was", "very", "very", "</s>"],
        ["</s>", "very", "red", "a", "</s>"], ["</s>", "a", "plot", "</s>"],
    ]  # fmt: skip
    assert [part["label"] for part in parts] == [[0, 0], [0, 0], [4, 5], [0, 0]]
    assert [part["window"] for part in parts] == [0, 1, 2, 3] and {part["first"] for part in parts} == {4}
    assert parts[2]["places"].tolist() == [[16, 20], [21, 24], [25, 26]]
    was = [part["label"] for part in encode_question(tokenizer, {**example, "answers": ["was"], "starts": [7]}, 8)]
    assert was == [[6, 6], [4, 4], [0, 0], [0, 0]]
    assert [part["window"] for part in encode_question(tokenizer, example, 6)] == [*range(8)]
    assert [len(part["attention_mask"]) for part in parts] == [8, 8, 8, 7]
    assert [part["places"][0, 0] for part in encode_question(tokenizer, example, 9)] == [0, 7, 16]
    assert len(encode_question(tokenizer, example, 13)) == 1 and len(encode_question(tokenizer, example, 12)) == 2
    del example["answers"]
    assert "label" not in encode_question(tokenizer, example)[0]
    with pytest.raises(ValueError, match="the question takes 5 tokens with what stands around it, and leaves nothing"):
        encode_question(tokenizer, example, 5)


def test_windows_are_counted_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_folder(tmp_path / "model", "bert"))
    examples = [asked("a film was very red", "red"), asked("red", "red"), asked("a plot was a very red plot", "red")]
    data = read_questions(table(tmp_path / "train.jsonl", examples))
    at_once = encoded(TASKS["question-answering"], data, tokenizer, 8, "train")
    monkeypatch.setattr("npora.commands.encoding.AT_ONCE", 2)
    later = encoded(TASKS["question-answering"], data, tokenizer, 8, "train")
    assert len(at_once) == len(later) == 2 + 1 + 3
    for number in (5, 0, 3, 2, 4, 1):
        mine, theirs = later[number], at_once[number]
        assert mine.pop("places").tolist() == theirs["places"].tolist()
        assert mine == {name: value for name, value in theirs.items() if name != "places"}


def test_the_likeliest_answer_of_all_windows_is_taken() -> None:
    places = np.array([[0, 2], [3, 5], [6, 8]])
    text = "ab cd ef"
    one = {"text_pair": text, "places": places, "first": 1, "class": 0, "window": 0}
    two = {**one, "places": places[2:], "window": 1}
    z = np.zeros((5, 2))
    z[4], z[0] = 99.0, -7.0  # behind the text, and the class token
    z[1, 0], z[3, 1], z[2] = 2.0, 1.5, 1.0  # ab … ef: 3.5; ab cd: 3; cd ef: 2.5
    w = np.array([[9.0, 9.0], [3.0, 1.0], [50.0, 50.0]])  # ef: 4
    scores = [2.0, 2.0, 1.5, 3.0, 2.5, 3.5, 4.0]
    assert answer_of([one], [z]) == ("ab cd ef", pytest.approx(np.exp(3.5) / np.exp(scores[:-1]).sum()))
    assert answer_of([one, two], [z, w]) == ("ef", pytest.approx(np.exp(4.0) / np.exp(scores).sum()))
    assert answer_of([one, two], [z, w], True) == ("ef", pytest.approx(np.exp(4) / np.exp([*scores, -14]).sum()))
    z[0] = [3.0, 2.0]
    assert answer_of([one, two], [z, w], True) == ("", pytest.approx(np.exp(5) / np.exp([*scores, 5]).sum()))
    z[0, 1] = 1.0
    w[0], w[1] = [2.0, 2.0], [3.0, 1.0]  # 4 is not more than 4
    assert answer_of([one, two], [z, w], True)[0] == "ef"
    z[0, 1] = 2.0
    w[0] = [-1.0, 0.5]  # one window is sure that there is one
    assert answer_of([one, two], [z, w], True) == ("ef", pytest.approx(np.exp(4) / np.exp([*scores, -0.5]).sum()))
    z[2] = 4.0  # cd: 8, and cd ef: 5.5, ab cd: 6
    assert answer_of([one], [z]) == ("cd", pytest.approx(np.exp(8) / np.exp([2, 8, 1.5, 6, 5.5, 3.5]).sum()))
    z[3] = 4.0  # ef too, and both together
    assert answer_of([one], [z])[0] == "cd"
    long = {"text_pair": "x" * 31, "places": np.array([[i, i + 1] for i in range(31)]), "first": 0, "class": 0}
    far = np.zeros((31, 2))
    far[0, 0] = far[30, 1] = 5.0
    far[29, 1] = 4.0
    assert answer_of([long], [far])[0] == "x" * 30
    groups = [*by_question([one, two, one], [z, w, z])]
    assert [[part["window"] for part in parts] for parts, _ in groups] == [[0, 1], [0]]
    assert groups[0][1][1] is w and groups[1][1][0] is z


def test_files_of_questions_are_read_alike(tmp_path: Path) -> None:
    examples = [asked("a red film", "red", "red film"), asked("a plot")]
    listed = [
        {**examples[0], "answers": [{"text": "red", "answer_start": 2}, {"text": "red film", "answer_start": 2}]},
        {**examples[1], "answers": None},
    ]
    expected = [
        {"text": "the film", "text_pair": "a red film", "answers": ["red", "red film"], "starts": [2, 2]},
        {"text": "the film", "text_pair": "a plot", "answers": [], "starts": []},
    ]
    assert read_questions(table(tmp_path / "train.jsonl", examples)).to_list() == expected
    assert read_questions(table(tmp_path / "listed.jsonl", listed)).to_list() == expected
    assert read_questions(squads_own(examples, tmp_path / "dev.json")).to_list() == expected
    named = [{"q": e["question"], "t": e["context"], "a": e["answers"]} for e in examples]
    assert read_questions(table(tmp_path / "named.jsonl", named), "q", "t", "a").to_list() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": {"text": ["good"], "answer_start": [8]}}, "line 2: the answer 'good' does not stand at 8 of the "
         "text; it stands at 9"),
        ({"answers": {"text": ["x"], "answer_start": [0]}}, "does not stand at 0 of the text, nor anywhere in it"),
        ({"answers": {"text": ["was"], "answer_start": [-8]}}, "does not stand at -8"),
        ({"answers": {"text": ["film"], "answer_start": []}}, "line 2: answers must be {\"text\": […], "),
        ({"answers": {"text": ["film"]}}, "line 2: answers must be"),
        ({"answers": ["good"]}, "line 2: answers must be"),
        ({"answers": "good"}, "line 2: answers must be"),
        ({"answers": {"text": [" "], "answer_start": [3]}}, "line 2: answers must be"),
        ({"answers": {"text": ["film"], "answer_start": [True]}}, "line 2: answers must be"),
        ({"context": " "}, "line 2: question and context must have words; one is empty"),
        ({"question": None}, "line 2: question must be a string; got None"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_with_its_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    first, second = asked("film was good", "good"), {**asked("film was good", "good"), **changes}
    path = table(tmp_path / "train.jsonl", [first, second, first])
    with pytest.raises(ValueError) as caught:
        read_questions(path)
    assert message in str(caught.value)
    assert main(["check-data", *TASK, path]) == 1


def test_what_questions_lack_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, good = save_folder(tmp_path / "model", "bert"), table(tmp_path / "train.jsonl", questions())
    nested = tmp_path / "nested.json"
    nested.write_text(json.dumps({"data": [{"paragraphs": [{"context": "a film", "qas": [{"question": "a"}]}]}]}))
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps([{"paragraphs": [{"context": "a film", "qas": {}}]}]))
    listed = table(tmp_path / "listed.jsonl", [{"query": "a", "context": "b"}])
    for file, more, message in (
        (good, ["--cache", str(tmp_path / "c")], "--cache keeps a list of tokens for each example, and question-"),
        (good, ["--max-length", "5"], ": the question takes 5 tokens with what stands around it"),
        (squads_own(questions(), tmp_path / "dev.json"), ["--max-length", "5"], "element 1 of data, paragraph "),
        (squads_own(questions(), tmp_path / "dev.json"), ["--max-length", "5"], ", question 1: the question takes 5"),
        (listed, [], "no column 'question'; there are: query, context. --text-column names the one that holds the que"),
        (listed, ["--text-column", "query"], "no column 'answers'; there are: query, context. --label-column names"),
        (str(nested), [], "element 1 of data, paragraph 1, question 1: there is no column 'answers'; there are: quest"),
        (str(broken), [], "element 1 (line 1), paragraph 1: qas must be a list of objects; got {}"),
    ):
        assert finetune(model, file, tmp_path / "out", *TASK, "--overwrite", *more) == 2
        assert message in capsys.readouterr().err
