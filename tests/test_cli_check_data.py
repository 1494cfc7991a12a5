"""npora check-data names every example that finetune would stop at, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from npora.cli import main
from npora.commands.labels import learn_classes
from npora.commands.tasks import Classes, Columns
from npora.data import read_examples, read_texts, read_tsv

BAD: dict[str, tuple[bytes, list[str], list[str]]] = {
    "a.tsv": (
        b"sentence\tlabel\ngood\t0\none value\nnot utf-8 \xff\t1\nfine\t1\na\tb\tc\nnul \0\t1\nlast\t0\n", [],
        ["line 3: 1 values, where", "line 4: not UTF-8", "line 6: 3 values", "line 7: there is a NUL"],
    ),
    "labels.tsv": (
        b"sentence\tlabel\na\t0\nb\t-1\nc\t7\nd\t-1\ne\t1\nf\t-1\n", ["--num-labels", "2"],
        ["line 3: the label -1 is out of range; labels are 0 … 1; and so in 2 more examples", "line 4: the label 7 is"],
    ),
    "numbers.csv": (
        b"sentence,label\na,0.5\nb,much\nc,nan\nd,1\n", ["--num-labels", "1"],
        ["line 3: the label 'much' is not a number to fit", "line 4: the label 'nan' is not a number to fit"],
    ),
    "quotes.csv": (
        b'sentence,label\n"a"b,0\nc,1\nd,1,2\n"e,1\n', [],
        ["line 2: ',' expected after '\"'", "line 4: 3 values", 'line 5: a quote (") opens a value'],
    ),
    "a.jsonl": (
        b'{"sentence": "a", "label": 0}\n[1]\n{"sentence": 3, "label": 0}\nnot json\n{"sentence": "b", "label": true}\n'
        b'{"sentence": "c"}\n{"sentence": "\\ud800", "label": 0}\n{"sentence": "d", "label": 1}\n', [],
        ["line 2: a JSON object was expected", "line 3: sentence must be a string", "line 4: not JSON",
         "line 6: there is no column 'label'", "line 7: sentence has half of a pair", "line 5: the label True is not"],
    ),
    "a.json": (
        b'[{"sentence": "a", "label": 0}, 7, {"sentence": null, "label": 0}, {"sentence": "b", "label": 1}]', [],
        ["element 2 (line 1): a JSON object", "element 3 (line 1): sentence must be a string"],
    ),
    "lists.jsonl": (
        b'{"sentence": "a", "label": [0, 1]}\n{"sentence": "b", "label": [2, 1]}\n{"sentence": "c", "label": 1}\n',
        ["--problem-type", "multi_label_classification"],
        ["line 3: labels are a JSON list", "line 2: labels are 2 times 0 or 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_every_bad_row_is_named_and_no_good_one(name: str, tmp_path: Path, capsys: Any) -> None:
    content, more, expected = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["check-data", str(path), *more]) == 1
    *faults, summary = capsys.readouterr().out.splitlines()
    assert len(faults) == len(expected)
    for fault, part in zip(faults, expected, strict=True):
        assert fault.startswith(f"{path}, {part}"), fault
    assert summary.endswith(f"; {len(expected)} faults")


def test_finetune_stops_at_the_first_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(BAD["a.tsv"][0])
    with pytest.raises(ValueError, match="line 3: 1 values"):
        read_examples(path, "sentence", "label")


def test_a_good_file_is_said_to_be_good_with_its_classes(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("sentence\tlabel\na\tred\nb\tgreen\nc\tred\n")
    assert main(["check-data", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 3 examples of 2 classes (green: 1, red: 2), all good\n"
    text = tmp_path / "a.txt"
    text.write_bytes(b"one\n\xff\ntwo\n")
    assert main(["check-data", "--task", "causal-lm", str(text)]) == 1
    assert capsys.readouterr().out.endswith(f"{text}: 2 examples; 1 faults\n")
    text.write_bytes(b"\n")
    assert main(["check-data", "--task", "causal-lm", str(text)]) == 1
    assert main(["check-data", str(tmp_path / "none.tsv")]) == 2
    assert main(["check-data", "--label-column", "kind", str(path)]) == 2  # of the whole file, and no example


WHOLE: dict[str, tuple[str, list[str], str]] = {
    "no examples": ("", [], "0 examples, and so nothing to learn"),
    "one name": ("a\tred\nb\tred\n", [], "every example has the label red"),
    "one number": ("a\t0\nb\t0\n", [], "every example has the label 0"),
    "a gap": ("a\t0\nb\t2\n", [], "no example has the label 1, though one has 2: pass --num-labels 3"),
    "too few names": ("a\tred\nb\tgreen\n", ["--num-labels", "3"], "has 2 classes (green, red), --num-labels 3"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_wrong_with_the_rows_as_a_whole_is_said_as_finetune_says_it(
    kind: str, tmp_path: Path, capsys: Any
) -> None:
    content, more, expected = WHOLE[kind]
    path = tmp_path / "a.tsv"
    path.write_text(f"sentence\tlabel\n{content}")
    assert main(["check-data", str(path), *more]) == 1
    out = capsys.readouterr().out
    assert expected in out and out.endswith("1 faults\n")
    with pytest.raises(ValueError, match="has no examples" if kind == "no examples" else re.escape(expected)):
        learn_classes(str(path), Columns(), Classes(int(more[1]) if more else None), {})


def test_what_is_asked_for_is_what_finetune_can_learn(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("sentence\tlabel\na\t0\nb\t2\n")
    assert main(["check-data", str(path), "--num-labels", "3"]) == 0
    assert main(["check-data", str(path), "--problem-type", "regression"]) == 0
    assert capsys.readouterr().out.endswith(f"{path}: 2 examples, all good\n")
    for more, message in ((["0"], "must be at least 1"), (["2", "--problem-type", "regression"], "learns one number")):
        assert main(["check-data", str(path), "--num-labels", *more]) == 2
        assert message in capsys.readouterr().err


def test_lines_may_end_in_a_carriage_return_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"sentence\tlabel\ra\t1\r\nb\t0\r")
    assert [example["sentence"] for example in read_tsv(path)] == ["a", "b"]
    path.rename(tmp_path / "a.txt")
    assert read_texts(tmp_path / "a.txt", "text")["text"] == ["sentence\tlabel", "a\t1", "b\t0"]


def test_a_label_that_is_true_is_no_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"sentence": "a", "label": 1}\n{"sentence": "b", "label": true}\n')
    with pytest.raises(ValueError, match=r"line 2: the label True is not a whole number \(write 1"):
        read_examples(path, "sentence", "label")


def test_a_file_of_bad_examples_alone_has_as_many_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tsv").write_text("sentence\tlabel\none value\na\tb\tc\n")
    assert main(["check-data", str(tmp_path / "a.tsv")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'a.tsv'}: 0 examples; 2 faults"
