"""Which columns the commands take where nobody names them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest

from npora.commands.examples import _first, columns
from npora.commands.finetune import add_arguments
from npora.commands.tasks import TASKS, Columns
from npora.commands.usual import texts_and_labels
from npora.data.tables import separator_hint

WORDS = "token-classification"


@pytest.mark.parametrize(
    ("task", "names", "chosen", "found"),
    [
        ("classification", ["label", "sentence", "text"], {}, ("sentence", None, "label")),
        ("classification", ["text", "labels"], {}, ("text", None, "labels")),
        ("classification", ["labels", "label", "text"], {}, ("text", None, "label")),
        ("classification", ["sentence1", "sentence2", "label"], {}, ("sentence1", "sentence2", "label")),
        ("classification", ["premise", "sentence", "hypothesis", "label"], {}, ("sentence", None, "label")),
        ("classification", ["premise", "hypothesis", "label"], {}, ("premise", "hypothesis", "label")),
        ("classification", ["sentence1", "question1", "question2", "label"], {},
         ("question1", "question2", "label")),
        ("classification", ["text", "other", "label"], {"text_pair": "other"}, ("text", "other", "label")),
        ("classification", ["own", "labels"], {"text": "own"}, ("own", None, "labels")),
        ("classification", ["text", "own"], {"label": "own"}, ("text", None, "own")),
        (WORDS, ["tokens", "tags", "ner_tags"], {}, ("tokens", None, "tags")),
        (WORDS, ["words", "labels"], {}, ("words", None, "labels")),
        (WORDS, ["tokens", "ner_tags", "labels"], {}, ("tokens", None, "ner_tags")),
        (WORDS, ["tokens"], {}, ("tokens", None, "tags")),
    ],
)  # fmt: skip
def test_columns_with_usual_names_are_found(
    task: str, names: list[str], chosen: dict[str, str], found: tuple[str | None, ...]
) -> None:
    own: dict[str, str | None] = {"text": None, "text_pair": None, "label": None, **chosen}
    texts_and_labels(own, task, "a file", names)
    assert (own["text"], own["text_pair"], own["label"]) == found


@pytest.mark.parametrize(
    ("task", "names", "message"),
    [
        ("classification", ["a", "sentence1", "label"], "f.csv: there is no column 'sentence' .nor text, sentence1, pr"
         "emise, question1, text1.; there are: a, sentence1, label. --text-column names the one that holds the text"),
        ("classification", ["text", "b"], "f.csv: there is no column 'label' .nor labels.; there are: text, b. --label-"
         "column names the one that holds the label"),
        (WORDS, ["text", "tags"], "there is no column 'tokens' .nor words."),
        ("classification", ["sentence;label"], "there are: sentence;label .';' stands in it: values are sep"),
    ],
)  # fmt: skip
def test_what_has_no_usual_name_is_asked_for(task: str, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        texts_and_labels({"text": None, "text_pair": None, "label": None}, task, "f.csv", names)


def test_a_header_of_one_column_that_looks_like_several() -> None:
    assert "'\\t' stands in it" in separator_hint(["a\tb;c"])
    assert separator_hint(["a;b", "c"]) == separator_hint(["sentence"]) == separator_hint([]) == ""


def options_of(*given: str) -> Any:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(given, argparse.Namespace(given=frozenset()))


def test_what_is_found_is_said_and_what_an_adapter_noted_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("premise,hypothesis,labels\nx,y,1\n")
    path = str(tmp_path / "a.csv")
    with caplog.at_level(logging.INFO):
        found = columns(options_of(), TASKS["classification"], {}, path)
    assert found == Columns("premise", "hypothesis", "labels")
    said = capsys.readouterr().err + caplog.text
    assert (
        "the text is in the column 'premise', the second in 'hypothesis'; the label is in the column 'labels'" in said
    )
    noted = columns(options_of(), TASKS["classification"], {"columns": {"text": "hypothesis", "label": "labels"}}, path)
    assert noted == Columns("hypothesis", None, "labels")
    (tmp_path / "b.csv").write_text("sentence,label\nx,1\n")
    assert columns(options_of(), TASKS["classification"], {}, str(tmp_path / "b.csv")) == Columns("sentence")
    assert capsys.readouterr().err == ""


def test_the_first_example_says_what_a_column_holds_and_later_ones_which_there_are_besides(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": ["b"], "label": 1}\n{"label": 2}\n')
    assert _first(str(tmp_path / "a.jsonl")) == {"text": "a", "label": 1}
