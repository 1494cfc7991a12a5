"""Readers: what is wrong in a file is an error that names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from npora.data import read_csv, read_examples, read_jsonl, read_texts, read_tsv


@pytest.fixture
def file(tmp_path: Path):
    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_in_a_tsv_quotes_mean_nothing(file) -> None:
    rows = read_tsv(file("a.tsv", 'sentence\tlabel\nit "works\t1\r\n ünder 5\t0\n'))
    assert list(rows) == [{"sentence": 'it "works', "label": "1"}, {"sentence": " ünder 5", "label": "0"}]


def test_in_a_csv_quotes_hold_commas_and_line_ends(file) -> None:
    rows = read_csv(file("a.csv", '\ufeffsentence,label\n"a, ""b""\nc",1\n'))
    assert list(rows) == [{"sentence": 'a, "b"\nc', "label": "1"}]


def test_json_lines_keep_their_types(file) -> None:
    rows = read_jsonl(file("a.jsonl", '{"sentence": "a", "label": 1}\n\n{"sentence": "b", "label": 0}\n'))
    assert rows["label"] == [1, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "text\tlabel\na\t1\n", "line 1: there is no column 'sentence'; there are: text, label"),
        ("a.tsv", "", "line 1: there is no column 'sentence'; there are: none"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\n", "line 3: 1 values, where the first line names 2 columns"),
        ("a.csv", "sentence,label\na,1\nb,1,2\n", "line 3: 3 values"),
        ("a.csv", 'sentence,label\n"a,1\n', "line 2: unexpected end of data"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\t2\n", "line 3: the label 2 is out of range; labels are 0 … 1"),
        ("a.tsv", "sentence\tlabel\na\t-1\n", "line 2: the label -1 is out of range"),
        ("a.tsv", "sentence\tlabel\na\tgood\n", "line 2: the label 'good' is not a whole number"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": \n', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: a JSON object was expected, not list"),
        ("a.jsonl", '{"sentence": "a"}\n', "line 1: there is no column 'label'; there are: sentence"),
        ("a.jsonl", '{"sentence": "a", "label": null}\n', "line 1: the label None is not a whole number"),
        ("a.tsv", b"sentence\tlabel\na\xff\t1\n", "not UTF-8"),
        ("a.txt", "a\n", "a file of examples ends in .tsv, .csv or .jsonl"),
        ("a.tsv", "label\tsentence\tlabel\n", "line 1: a column stands twice"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_line(file, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_examples(file(name, text), "sentence", "label", num_labels=2)
    assert message in str(error.value) and name in str(error.value)


def test_examples_come_from_any_of_the_three_formats(file) -> None:
    for name, text in (
        ("a.tsv", "s\tl\nx\t1\n"),
        ("a.csv", "s,l\nx,1\n"),
        ("a.jsonl", '{"s": "x", "l": 1}\n'),
    ):
        assert list(read_examples(file(name, text), "s", "l", 2)) == [{"text": "x", "label": 1}]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.tsv"):
        read_tsv(tmp_path / "none.tsv")


def test_texts_are_strings_with_a_prompt_where_its_column_is_named(file) -> None:
    path = file("a.jsonl", '{"q": "why", "a": "so", "n": 1}\n\n{"q": "", "a": "thus"}\n')
    assert list(read_texts(path, "a")) == [{"text": "so"}, {"text": "thus"}]
    assert list(read_texts(path, "a", "q")) == [{"prompt": "why", "text": "so"}, {"prompt": "", "text": "thus"}]
    assert list(read_texts(file("a.tsv", "q\ta\n1\t2\n"), "a", "q")) == [{"prompt": "1", "text": "2"}]
    with pytest.raises(ValueError, match=r"b\.jsonl, line 2: a must be a string; got None"):
        read_texts(file("b.jsonl", '{"a": "x"}\n{"a": null}\n'), "a")
    with pytest.raises(ValueError, match=r"ends in \.tsv, \.csv or \.jsonl"):
        read_texts(file("a.txt", "x"), "a")
