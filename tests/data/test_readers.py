"""Readers: what is wrong in a file is an error that names its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npora.data import read_csv, read_examples, read_json, read_jsonl, read_texts, read_tsv

SUFFIXES = (".tsv", ".csv", ".json", ".jsonl")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-3, 6) | st.floats() | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@pytest.fixture
def file(tmp_path: Path):
    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


def test_in_a_tsv_quotes_mean_nothing(file) -> None:
    examples = read_tsv(file("a.tsv", 'sentence\tlabel\nit "works\t1\r\n ünder 5\t0\n'))
    assert list(examples) == [{"sentence": 'it "works', "label": "1"}, {"sentence": " ünder 5", "label": "0"}]


def test_in_a_csv_quotes_hold_commas_and_line_ends(file) -> None:
    examples = read_csv(file("a.csv", '\ufeffsentence,label\n"a, ""b""\nc",1\n'))
    assert list(examples) == [{"sentence": 'a, "b"\nc', "label": "1"}]
    assert list(read_csv(file("b.csv", "\ufeff\uff01\n1\n"))) == [{"\uff01": "1"}]  # begins with a byte of the mark's


def test_json_lines_keep_their_types(file) -> None:
    examples = read_jsonl(file("a.jsonl", '{"sentence": "a", "label": 1}\n\n{"sentence": "b", "label": 0}\n'))
    assert examples["label"] == [1, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "text\tlabel\na\t1\n", "line 1: there is no column 'sentence'; there are: text, label (the"),
        ("a.tsv", "", "line 1: there is no column 'sentence'; there are: none"),
        ("a.csv", "it works,1\nit does not,0\n", "there are: it works, 1 (the first line names the columns)"),
        ("a.tsv", "sentence\tlabel\na\t1\nb\n", "line 3: 1 values, where the first line names 2 columns"),
        ("a.csv", "sentence,label\n\na,1\nb,1,2\n", "line 4: 3 values"),
        ("a.csv", 'sentence,label\na,1\n"b,1\nc,0\nd,1\n', 'line 3: a quote (") opens a value in this row and none'),
        ("a.csv", 'sentence,label\n"a"b,1\n', "line 2: ',' expected after '\"' (a quote inside a quoted value"),
        ("a.tsv", "sentence\tlabel\n\na\t1\nb\t2\n", "line 4: the label 2 is out of range; labels are 0 … 1"),
        ("a.tsv", "sentence\tlabel\na\tgood\nb\t1\n", "line 2: the label 'good' is not a whole number, and '1' ("),
        ("a.csv", "sentence,label\na,0.7\nb,1\n", "line 2: the label '0.7' is not a whole number"),
        ("a.csv", "sentence,label\na,1\nb,1_0\n", "line 3: the label '1_0' is not a whole number"),
        ("a.csv", "sentence,label\na,x\nb,\n", "line 3: the label is empty"),
        ("a.tsv", "sentence\tlabel\na\t-1\n", "line 2: the label -1 is out of range; labels are 0 … 1"),
        ("a.tsv", "sentence\tlabel\na\t0.5\nb\t1.75\n", "line 2: the label '0.5' is not a whole number, and no name"),
        ("a.csv", "sentence,label\na,1.0\nb,-2e1\n", "line 3: the label '-2e1' is not a whole number, and no name of"),
        ("a.csv", "sentence,label\na,good\nb, NaN\n", "line 3: the label ' NaN' is not a whole number, and no name of"),
        ("a.csv", "sentence,label\na,good\nb,good \n", "line 3: the label 'good ' differs from 'good' by spaces alone"),
        ("a.jsonl", '{"sentence": "a", "label": [1, 0]}\n', "[1, 0] is not a whole number (a text has several classes"),
        ("a.csv", "sentence,label\na,x\nb,y\nc,z\n", "line 4: 3 labels that are not a whole number are the names"),
        ("a.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": \n', "line 2: not JSON: Expecting value, at column 1"),
        ("a.jsonl", "[1]\n", "line 1: a JSON object was expected, not list: a file with an array is named .json"),
        ("a.jsonl", '{"sentence": "a"}\n', "line 1: there is no column 'label'; there are: sentence"),
        ("a.jsonl", '{"sentence": "a", "label": null}\n', "line 1: the label None is not a whole number"),
        ("a.jsonl", '{"sentence": "a", "label": 0.7}\n', "line 1: the label 0.7 is not a whole number"),
        ("a.jsonl", '{"sentence": "a", "label": true}\n', "the label True is not a whole number (write 1 for true"),
        ("a.jsonl", '{"sentence": "a", "label": 1e999}\n', "line 1: the number '1e999' is larger than any"),
        ("a.jsonl", '\n{"sentence": "a", "label": NaN}\n', "line 2: NaN is not a JSON number"),
        ("a.jsonl", '{"sentence": null, "label": 1}\n', "line 1: sentence must be a string; got None"),
        ("a.jsonl", '{"sentence": 3, "label": 1}\n', "line 1: sentence must be a string; got 3"),
        ("a.jsonl", '{"sentence": "\\ud83d", "label": 1}\n', "line 1: sentence has half of a pair of surrogates"),
        ("a.jsonl", '{"sentence": "a", "label": 1} {}\n', "line 1: not JSON: there is more behind the object: '{}'"),
        ("a.jsonl", '{"sentence": "a", "label": 1, "label": 0}\n', "line 1: the key 'label' stands twice"),
        ("a.jsonl", '{"sentence": "a", "label": 1, "x": [{"y": 1, "y": 1}]}\n', "line 1: the key 'y' stands twice"),
        ("a.jsonl", '{"sentence": ' + "[" * 100_000 + "\n", "line 1: not JSON that can be read: it is nested too"),
        ("a.jsonl", '{"sentence": "a", "label": 1' + "0" * 5000 + "}\n", "line 1: "),
        ("a.json", '[\n {"sentence": "a", "label": 1},\n {"label": 1}\n]', "element 2 (line 3): there is no column"),
        ("a.json", '[\n {"sentence": "a", "label": 1}\n {"label": 1}\n]', "element 1 (line 2): not JSON: the element"),
        ("a.json", '[{"sentence": "a", "label": 1}', "element 1 (line 1): not JSON: the element ends, and neither"),
        ("a.json", '[{"sentence": "a", "label": 1},\n', "line 2: not JSON: the array is not closed"),
        ("a.json", '[{"sentence": "a", "label": 1},]', "element 2 (line 1): not JSON: Expecting value, at column 32"),
        ("a.json", '[\n{"sentence": "a", "label": 1}]\n]', "line 2: not JSON: there is more behind the array"),
        ("a.json", '{"data": [{"sentence": "a"}]}', "element 1 of data: there is no column 'label'"),
        ("a.tsv", b"sentence\tlabel\na\t1\na\xff\t1\n", "line 3: not UTF-8 (byte 0xFF"),
        ("a.csv", "sentence,label\na,1\n".encode("utf-16"), "is UTF-16; convert it: iconv"),
        ("a.csv", "sentence,label\na,1\n".encode("utf-16-le"), "line 1: there is a NUL"),
        ("a.csv.gz", b"sentence,label\na,1\n", "after line 0: not a whole gzip file"),
        ("a.txt", "a\n", "a file of examples ends in .tsv, .csv, .json or .jsonl"),
        ("a.tsv", "label\tsentence\tlabel\n", "line 1: a column stands twice"),
    ],
)  # fmt: skip
def test_a_broken_file_is_an_error_that_names_the_line(file, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as error:
        read_examples(file(name, text), "sentence", "label", num_labels=2)
    assert message in str(error.value) and name in str(error.value) and len(str(error.value)) < 500


@given(
    st.sampled_from(SUFFIXES), st.binary(max_size=80) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))
)
@example(".json", b"[")
@example(".csv", b'a,b\n"')
def test_whatever_a_file_holds_it_is_rows_or_an_error_that_names_it(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"drawn{suffix}"
    path.write_bytes(content)
    for read in (
        lambda: {".tsv": read_tsv, ".csv": read_csv, ".json": read_json, ".jsonl": read_jsonl}[suffix](path),
        lambda: read_examples(path, "a", "b"),
        lambda: read_texts(path, "a"),
    ):
        try:
            assert all(isinstance(example, dict) for example in read())
        except ValueError as error:
            assert f"drawn{suffix}" in str(error)


@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from([None, 2, 5]))
def test_a_label_in_json_is_the_whole_number_it_is_or_an_error_with_its_line(
    folder: Path, labels: list[Any], num_labels: int | None
) -> None:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps({"s": "a", "l": label}) + "\n" for label in labels))
    whole = [type(x) in (int, float) and math.isfinite(x) and x == int(x) and x >= 0 for x in labels]
    fits = [ok and (num_labels is None or x < num_labels) for x, ok in zip(labels, whole, strict=True)]
    if any(isinstance(label, str) for label in labels):
        return
    if all(fits):
        read = read_examples(path, "s", "l", num_labels)["label"]
        assert read == labels and all(type(label) is int for label in read)
        return
    with pytest.raises(ValueError, match=rf"labels\.jsonl, line {fits.index(False) + 1}: |not a JSON number"):
        read_examples(path, "s", "l", num_labels)


@given(st.lists(st.tuples(TEXT, st.integers(0, 5)), max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example([("a\r", 3), ("b", 0)], "\n", False)
def test_every_format_gives_the_same_rows(folder: Path, examples: list[tuple[str, int]], end: str, mark: bool) -> None:
    """With empty lines anywhere, a byte order mark, either end of a line, and columns that nobody asks for."""
    written = io.StringIO()
    # Python before 3.13 quotes a carriage return only where it is part of the line's end.
    returns = any("\r" in text for text, _ in examples)
    writer = csv.writer(written, lineterminator=end, quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerow(["x", "label", "sentence"])
    for text, label in examples:
        written.write(end)
        writer.writerow(["", f"{label}.0" if len(text) % 2 else label, text])
    objects = [{"sentence": text, "x": None, "label": float(label)} for text, label in examples]
    plain = {
        text: " ".join(text.split()) for text, _ in examples
    }  # a tab-separated value has neither tabs nor line ends
    tsv = [f"label\tsentence{end}"] + [f"{label}\t{plain[text]}{end}  {end}" for text, label in examples]
    files = {
        ".csv": written.getvalue(),
        ".tsv": "".join(tsv),
        ".jsonl": f"{end} {end}".join(json.dumps(example) for example in objects),
        ".ndjson": end.join(json.dumps(example, ensure_ascii=False) for example in objects),
        ".json": json.dumps(objects),
        "-pretty.json": json.dumps(objects, indent=2).replace("\n", end),
        "-data.json": json.dumps({"data": objects, "version": 1}, indent=2),
        "-several.json": end.join(json.dumps(example, indent=1) for example in objects),
    }
    for name, content in files.items():
        path = folder / f"examples{name}"
        path.write_bytes(b"\xef\xbb\xbf" * mark + content.encode())
        packed = folder / f"examples{name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        expected = [{"text": plain[text] if name == ".tsv" else text, "label": label} for text, label in examples]
        if objects or name not in (".jsonl", ".ndjson", "-several.json"):
            assert list(read_examples(path, "sentence", "label", 6)) == expected, name
            assert list(read_examples(packed, "sentence", "label", 6)) == expected, name
        assert list(read_texts(path, "sentence")) == [{"text": example["text"]} for example in expected]


def test_a_value_of_any_length_is_read_and_the_csv_modules_limit_stays(file) -> None:
    before, long = csv.field_size_limit(), "ab" * 100_000
    assert read_csv(file("a.csv", f'x,y\n"{long}",1\n'))["x"] == [long]
    with pytest.raises(ValueError, match="line 2: a quote"):
        read_csv(file("b.csv", f'x,y\n"{long},1\n'))
    assert csv.field_size_limit() == before


def test_one_column_may_hold_empty_texts(file) -> None:
    assert read_csv(file("a.csv", 'x\n""\n\nb\n'))["x"] == ["", "b"]
    assert list(read_examples(file("a.tsv", "s\tl\n\t1\n"), "s", "l")) == [{"text": "", "label": 1}]


def test_names_are_classes_in_sorted_order_and_the_mapping_serves_another_file(file) -> None:
    train = read_examples(file("a.csv", "s,l\nx,pos\ny,neg\nz,pos\n"), "s", "l", 2)
    assert train["label"] == [1, 0, 1] and train.label2id == {"neg": 0, "pos": 1}
    assert train.shuffle(seed=1).select([0]).label2id == train.label2id
    more = file("b.jsonl", '{"s": "x", "l": "pos"}\n{"s": "x", "l": "poss"}\n')
    with pytest.raises(
        ValueError, match=r"b\.jsonl, line 2: the label 'poss' is the name of no class; did you mean pos"
    ):
        read_examples(more, "s", "l", label2id=train.label2id)
    with pytest.raises(ValueError, match=r"line 1: the label 'pos' is the name of no class; there are A, B"):
        read_examples(more, "s", "l", label2id={"A": 0, "B": 1})
    stars = {"1": 0, "2": 1, "5": 2}
    assert read_examples(file("c.csv", "s,l\nx,5\ny,1\n"), "s", "l", label2id=stars)["label"] == [2, 0]
    assert read_examples(file("c.jsonl", '{"s": "x", "l": 2}\n'), "s", "l", label2id=stars)["label"] == [1]
    numbers = read_examples(file("d.csv", "s,l\nx,0\ny,1\n"), "s", "l", label2id={"no": 0, "yes": 1})
    assert numbers["label"] == [0, 1] and numbers.label2id == {"no": 0, "yes": 1}
    assert read_examples(file("d.csv", "s,l\nx,0\n"), "s", "l").label2id is None


@given(st.lists(st.sampled_from(["a", "B", "ß", "z 1", "-", "1a"]), min_size=1, max_size=8))
def test_numbers_of_names_do_not_depend_on_the_order_of_rows(folder: Path, names: list[str]) -> None:
    path = folder / "names.jsonl"
    path.write_text("".join(json.dumps({"s": "x", "l": name}) + "\n" for name in names))
    read = read_examples(path, "s", "l")
    assert read.label2id == {name: i for i, name in enumerate(sorted(set(names)))}
    assert [sorted(set(names))[label] for label in read["label"]] == names


def test_labels_to_fit_and_labels_of_several_classes_are_floats(file) -> None:
    path = file("a.csv", "s,l\nx,0.7\ny,-2\n")
    for options in ({"num_labels": 1}, {"problem_type": "regression"}):
        assert read_examples(path, "s", "l", **options)["label"] == [0.7, -2.0]
    for bad in ("high", "inf", "1_0", ""):
        with pytest.raises(ValueError, match=r"b\.csv, line 2: the label .* is not a number to fit"):
            read_examples(file("b.csv", f"s,l\nx,{bad}\n"), "s", "l", 1)
    several = {"problem_type": "multi_label_classification"}
    hot = file("a.jsonl", '{"s": "x", "l": [0, 1, 1]}\n{"s": "y", "l": [1.0, 0, 0]}\n')
    assert read_examples(hot, "s", "l", 3, **several)["label"] == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match=r"line 1: labels are 2 times 0 or 1, one for each class; got \[0, 1, 1\]"):
        read_examples(hot, "s", "l", 2, **several)
    named = read_examples(file("c.jsonl", '{"s": "x", "l": ["b", "a"]}\n{"s": "y", "l": []}\n'), "s", "l", **several)
    assert named["label"] == [[1.0, 1.0], [0.0, 0.0]] and named.label2id == {"a": 0, "b": 1}
    none = read_examples(file("d.jsonl", '{"s": "y", "l": []}\n'), "s", "l", label2id=named.label2id, **several)
    assert none["label"] == [[0.0, 0.0]]
    wide = read_examples(path.with_name("c.jsonl"), "s", "l", 4, **several)
    assert wide["label"] == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match=r"a\.csv, line 2: labels are a JSON list of 0 and 1, or of names; got '0\.7'"):
        read_examples(path, "s", "l", **several)
    with pytest.raises(ValueError, match="problem_type must be one of None, regression"):
        read_examples(path, "s", "l", problem_type="ranking")


def test_pairs_and_rows_without_labels(file) -> None:
    path = file("a.csv", "p,h,l\nit rains,it is wet,1\n")
    assert list(read_examples(path, "p", "l", pair_column="h")) == [
        {"text": "it rains", "text_pair": "it is wet", "label": 1}
    ]
    assert list(read_examples(path, "h", None)) == [{"text": "it is wet"}]
    with pytest.raises(ValueError, match="there is no column 'x'"):
        read_examples(path, "p", "l", pair_column="x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.tsv"):
        read_tsv(tmp_path / "none.tsv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.csv is a directory"):
        read_csv(tmp_path / "folder.csv")


def test_texts_are_strings_with_a_prompt_where_its_column_is_named(file) -> None:
    path = file("a.jsonl", '{"q": "why", "a": "so", "n": 1}\n\n{"q": "", "a": "thus"}\n')
    assert list(read_texts(path, "a")) == [{"text": "so"}, {"text": "thus"}]
    assert list(read_texts(path, "a", "q")) == [{"prompt": "why", "text": "so"}, {"prompt": "", "text": "thus"}]
    assert list(read_texts(file("a.tsv", "q\ta\n1\t2\n"), "a", "q")) == [{"prompt": "1", "text": "2"}]
    with pytest.raises(ValueError, match=r"b\.jsonl, line 2: a must be a string; got None"):
        read_texts(file("b.jsonl", '{"a": "x"}\n{"a": null}\n'), "a")


def test_of_plain_text_each_line_is_one_or_each_paragraph_or_all(file) -> None:
    path = file("a.txt", "one\r\ntwo \n\n \nthree")
    assert read_texts(path, "text")["text"] == ["one", "two ", "three"]
    assert read_texts(path, "text", sample_by="paragraph")["text"] == ["one\r\ntwo ", "three"]
    assert read_texts(path, "text", sample_by="document")["text"] == ["one\r\ntwo \n\n \nthree"]
    assert not read_texts(file("b.txt", "\n\n"), "text", sample_by="document")
    with pytest.raises(ValueError, match=r"a\.txt: a \.txt file has no columns, and so no 'q'"):
        read_texts(path, "text", "q")
    with pytest.raises(ValueError, match="sample_by must be 'line', 'paragraph' or 'document'; got 'word'"):
        read_texts(path, "text", sample_by="word")
    with pytest.raises(ValueError, match=r"sample_by='document' is for \.txt files"):
        read_texts(file("a.csv", "text\na\n"), "text", sample_by="document")


@pytest.mark.parametrize(("name", "text", "lines"), [
    ("a.tsv", "text\tlabel\nx\t0\n\ny\t1\n", (2, 4)), ("a.csv", 'text,label\n"x\nx",0\ny,1\n', (2, 4)),
    ("a.jsonl", '\n{"text": "x"}\n\n{"text": "y"}\n', (2, 4)), ("a.txt", "\nx\n  \ny\n", (2, 4)),
    ("paragraph.txt", "\nx\nx\n\ny\nz", (2, 5)), ("document.txt", "x\n", (1,)),
])  # fmt: skip
def test_an_example_knows_the_line_on_which_it_begins(tmp_path: Path, name: str, text: str, lines: Any) -> None:
    path = tmp_path / name
    path.write_text(text)
    sample = name.partition(".")[0] if len(name) > 7 else "line"
    data = read_texts(path, "text", sample_by=sample)
    assert [data.where(i) for i in range(len(data))] == [f"{path}, line {line}" for line in lines]
    assert data[::-1].where(0) == f"{path}, line {lines[-1]}" and data.map(dict).where(0) == "example 0"


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
def test_how_many_are_read_is_told(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("text\n" + "x\n" * 9)
    monkeypatch.setattr("npora.data.readers._TOLD", 4)
    told: list[int] = []
    read_texts(tmp_path / name, "text", progress=told.append)
    assert told == [4, 8]
    if name == "a.tsv":
        assert len(read_examples(tmp_path / name, "text", None, progress=told.append)) == 9 and told == [4, 8] * 2
