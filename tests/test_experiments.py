"""The course is notebooks too, and its experiments measure what they say: figures in characters, or as pictures."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from npora import set_num_threads
from tests.test_readme import EXAMPLES, NUMBERED, ran

FOLDER = EXAMPLES / "experiments"
HELPERS = {"figure.py", "jobs.py"}
EXPERIMENTS = [file for file in sorted(FOLDER.glob("*.py")) if file.name not in HELPERS]
ON_A_MODEL = {"alpha.py", "rank.py", "spectrum.py", "where.py"}
LEAST = ["--steps", "2", "--pretraining", "2"]
by_name = pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)


@pytest.fixture(autouse=True)
def found_beside_them(monkeypatch: pytest.MonkeyPatch) -> object:
    """The experiments' folder is on the path, as where Python runs a script; their threads are given back."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    set_num_threads(None)
    for name in HELPERS:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture
def figure() -> ModuleType:
    import figure

    return figure


def cells(text: str) -> list[tuple[str, str]]:
    """The (kind, source) of each cell, by the marks of jupytext's percent format."""
    before, *parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    assert before == "", "something stands before the first cell"
    return [
        ("markdown" if "[markdown]" in mark else "code", source)
        for mark, source in zip(parts[::2], parts[1::2], strict=True)
    ]


@pytest.mark.parametrize("file", [*NUMBERED, *EXPERIMENTS], ids=lambda file: file.stem)
def test_a_script_is_a_notebook_too(file: Path) -> None:
    first, *others = cells(file.read_text(encoding="utf-8"))
    assert first[0] == "markdown" and len(others) >= 2
    for number, (kind, source) in enumerate([first, *others]):
        assert source.strip()
        if kind == "code":
            compile(source, f"{file.name}, cell {number}", "exec")
        else:  # text in quotes, or in comments
            assert re.fullmatch(r'"""[^"]*"""\s*', source) or all(line[:1] in ("", "#") for line in source.split("\n"))


@by_name
def test_an_experiment_ends_with_a_figure_and_a_sentence(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(tmp_path, monkeypatch, file, *(LEAST if file.name in ON_A_MODEL else []))
    printed, figure_, conclusion = re.split(r"\n\n(?=\S)", capsys.readouterr().out.rstrip())
    assert printed and figure_.count(" |") == 16 and re.search(r"^  a  \w", figure_, re.MULTILINE)
    assert re.search(r"\d.*\.$", conclusion) and not list(tmp_path.iterdir())


@by_name
def test_an_experiment_draws_a_picture_and_finds_what_the_page_says(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    ran(tmp_path, monkeypatch, file, "--plot", "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    conclusion = capsys.readouterr().out.rstrip().rpartition("\n")[2]
    finds = {
        "alpha": "√s η is the nearer to what counts", "where": "does not hold here. The best of the parts is bottom",
        "vacuous": "is VACUOUS at step 0, where ‖dA‖ = 0, and FAIL at 7 of the 7 steps after it",
        "complex_step": "the complex step is off by [1-9]e-16 at most", "rank": "Rank [48] is the least",
        "precision": "a relative error of 1e-1[123], in float32 one of 1e-0[45]",
        "step_size": r"power 1\.0 of h \(forward\) and 2\.0 \(central\)",
        "drift": r"merging loses 1\d% in bfloat16, 2\.\d% in float16", "spectrum": "Cut to rank (8|16), the layers",
    }  # fmt: skip
    assert re.search(finds[file.stem], conclusion), conclusion


def test_every_experiment_is_on_the_map() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(experiments/(\w+\.py)\)", page)) == {file.name for file in EXPERIMENTS}


def test_points_stand_where_their_numbers_say(figure: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    curves = {"up": [(1, 0.1), (10, 10), (100, 1000), (0, 5)], "flat": [(1, 10), (10, 10), (100, math.nan)]}
    figure.show("Title", curves, "across", "up", log="xy")
    _, title, y, *rows, axis, ends, x, first, second = capsys.readouterr().out.rstrip("\n").split("\n")
    assert (title, y) == ("Title", "up (logarithmic)") and x.strip() == "across (logarithmic)"
    assert len(rows) == 16 and axis.count("-") == 66 and ends.split() == ["1", "100"]
    assert rows[0].startswith(" 1e+03 |") or rows[0].startswith("1e+03 |")
    places = {
        (number, at) for number, row in enumerate(rows) for at, mark in enumerate(row.split("|")[1]) if mark != " "
    }
    assert places == {(0, 65), (7, 32), (7, 0), (15, 0)}
    assert rows[7].split("|")[1] == "b" + 31 * " " + "*" and rows[15].split("|") == ["  0.1 ", "a"]
    assert (first, second) == ("  a  up", "  b  flat")


def test_a_figure_of_nothing_says_so(figure: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    figure.show("Title", {"none": [(1, 0.0)]}, "x", "y", log="y")
    assert capsys.readouterr().out == "Title\n  (no point is above zero and finite)\n"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("rank.py", ["model"], "say no file, or MODEL train.tsv dev.tsv; got 1"),
        ("where.py", ["nowhere", "train.tsv", "dev.tsv"], "the model and the sentences cannot be read: "),
        ("drift.py", ["--plot", "nowhere/x.png"], "--plot: "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    name: str, arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as stop:
        ran(tmp_path, monkeypatch, FOLDER / name, *arguments)
    assert str(stop.value.code).startswith(said)


def test_bfloat16_rounds_to_the_nearest_and_to_even(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounded = ran(tmp_path, monkeypatch, FOLDER / "drift.py")["bfloat16"]
    ulp = 2.0**-7
    for x, wanted in (
        (1 + 0.49 * ulp, 1),
        (1 + 0.5 * ulp, 1),
        (1 + 1.5 * ulp, 1 + 2 * ulp),
        (-1 - 0.6 * ulp, -1 - ulp),
    ):
        assert rounded(x) == wanted
