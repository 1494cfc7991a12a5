"""A report, wherever it is shown, says what is wrong in lines that fit; no check of nothing passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import gradcheck
from npora.catalogue import draw
from npora.check import Element, Report, Row, taylor_test, v_curve
from npora.nn import Embedding, Linear
from npora.nn import functional as F
from npora.nn.module import Array

ROOT = Path(__file__).parents[2]
WIDTH = 100
rng = np.random.default_rng(0)


def half(x: Array) -> Any:
    return x * x, lambda dy: x * dy


def wrong_thrice(x: Array, y: Array, z: Array) -> Any:
    return x * y * z, lambda dy: (dy * y, -dy * x * z, 3 * dy * x * y)


def assert_fits(text: str) -> None:
    assert max(len(line) for line in text.splitlines()) <= WIDTH


@pytest.mark.parametrize("method", ["complex", "central", "dot-product"])
def test_every_report_of_the_catalogue_fits_a_terminal(method: str) -> None:
    for name in ("lora_bert", "cross_attention"):
        layer, inputs, keywords = draw(name)
        assert_fits(str(gradcheck(layer, *inputs, method=method, max_elements=3, **keywords)))


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=60)
names = st.lists(words, min_size=1, max_size=4).map(".".join)
numbers = st.floats(allow_nan=True)
places = st.lists(st.integers(0, 3999), max_size=3).map(tuple)
notes = st.lists(st.text(st.characters(codec="ascii", categories=("L",)), min_size=1, max_size=20), max_size=40)
verdicts = st.sampled_from(["PASS", "FAIL", "UNRESOLVED", "VACUOUS", "KINK"])
elements = st.builds(Element, names, places, numbers, numbers, st.floats(0, allow_nan=False))
rows = st.builds(
    Row, names, st.sampled_from(["complex", "central"]), verdicts, notes.map(" ".join), places, st.integers(0, 2000),
    st.none() | elements, st.floats(0, 2),
)  # fmt: skip


@given(st.builds(Report, st.just("Layer"), st.lists(rows, max_size=6).map(tuple), st.lists(elements, max_size=3)))
def test_whatever_was_found_is_told_in_lines_that_fit(report: Report) -> None:
    longest = max([WIDTH, *(len(row.name) + 60 for row in report.rows)])  # a name in a sentence is not cut
    for line in str(report).splitlines():
        assert len(line) <= WIDTH or (len(line) <= longest and " " in line)
    assert len(repr(report)) <= 240 and "\n" not in repr(report) and report.verdict in repr(report)
    shown = report._repr_html_()
    assert shown.count("<tr>") == shown.count("</tr>") and report.verdict in shown
    for row in report.rows:  # nothing is cut from what is wrong
        if row.verdict != "PASS" and row.note:
            assert re.sub(r"\s+", " ", f"{row.name}: {row.note}") in re.sub(r"\s+", " ", str(report))


def test_names_that_leave_no_room_stand_whole_on_a_line_of_their_own() -> None:
    layer, inputs, keywords = draw("lora_bert")
    report = gradcheck(layer, *inputs, **keywords)
    lines = str(report).splitlines()
    assert all(row.name in lines for row in report.rows if len(row.name) > 60 and row.worst is not None)
    assert report.table(verbose=True).count("\n") < len(lines)


def test_an_experiments_table_fits_a_terminal() -> None:
    layer, inputs, keywords = draw("layer_norm")
    assert_fits(str(v_curve(layer, *inputs, **keywords)))
    assert_fits(str(taylor_test(layer, *inputs, **keywords)))


def test_one_line_names_what_is_wrong_gravest_first() -> None:
    x, y, z = rng.standard_normal((3, 5))
    assert repr(gradcheck(half, x)) == "Report(half: FAIL; x: a constant factor 0.5 (1/2))"
    assert "y: a constant factor -1 (the sign); z: a constant factor 3)" in repr(gradcheck(wrong_thrice, x, y, z))
    assert repr(gradcheck(F.tanh, x)).startswith("Report(tanh: PASS, ")


def test_a_report_in_a_notebook_is_a_table() -> None:
    html = gradcheck(lambda x: (x * x, lambda dy: x * dy), rng.standard_normal(3))._repr_html_()
    assert html.count("<tr>") == 2 and "&lt;lambda&gt;: FAIL" in html and "a constant factor 0.5" in html
    assert "<lambda>" not in html


TESTS = """
import numpy as np
from npora import gradcheck

def three(x, y, z):
    return x * y * z, lambda dy: (dy * y, -dy * x * z, 3 * dy * x * y)

def test_bare():
    assert gradcheck(three, *np.random.default_rng(0).standard_normal((3, 4)))

def test_property():
    report = gradcheck(three, *np.random.default_rng(0).standard_normal((3, 4)))
    assert report.ok

def test_raised():
    gradcheck(three, *np.random.default_rng(0).standard_normal((3, 4)), raise_exception=True)

def test_right():
    assert gradcheck(lambda x: (x * x, lambda dy: 2 * x * dy), np.arange(3.0), raise_exception=True)
"""


@pytest.mark.parametrize("plugin", [True, False])
def test_a_failed_assertion_says_what_is_wrong_in_full(tmp_path: Path, plugin: bool) -> None:
    (tmp_path / "test_own.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    command += ["-p", "npora.check.pytest_plugin"] * plugin
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "PYTEST_ADDOPTS": ""}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment.pop("CI", None)  # there pytest cuts nothing
    printed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert "3 failed, 1 passed" in printed
    parts = re.split(r"_{5,} (test_\w+) _{5,}", printed)[1:]
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        for words in ("x: a factor z is missing", "y: a constant factor -1 (the sign)", "z: a constant factor 3"):
            assert words in part, name
        if plugin or name == "test_raised":
            assert part.count("the worst elements") == 1 and "again: npora.gradcheck(three" in part


def test_a_check_of_nothing_does_not_pass() -> None:
    empty = Report("nothing", ())
    assert not empty and empty.verdict == "VACUOUS"
    for layer, inputs in ((Embedding(5, 3, rng=0), np.array([1, 2])), (Linear(4, 3, rng=0), np.arange(4))):
        with pytest.raises(TypeError, match="there is nothing to differentiate by"):
            gradcheck(layer.requires_grad_(False), inputs)
    zero = np.zeros(3)
    assert gradcheck(lambda x: (x**3, lambda dy: 7 * x * x * dy), zero).verdict == "VACUOUS"
    assert taylor_test(lambda x: (x**3, lambda dy: 7 * x * x * dy), zero).verdict == "VACUOUS"
    assert taylor_test(lambda x: (x**2, lambda dy: 7 * x * dy), zero).verdict == "VACUOUS"
    assert taylor_test(lambda x: (x * x + x, lambda dy: 0 * dy), zero).verdict == "FAIL"
