"""What breaks npora's lines is tested: each way to break one, what a sample takes, that no explanation is stale."""

from __future__ import annotations

import ast
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import helpers
from tests.chosen import files_of, sampled
from tests.forks import CODES, KILLED, SURVIVED, fork, unwritten_is_nan
from tests.mutations import Mutant, mutants
from tests.nightly import run
from tests.operators import changes
from tests.scopes import Scope
from tests.survey import Survey
from tests.survivors import SURVIVORS


def broken(source: str) -> dict[str, list[str]]:
    """What each change of a source gives: by the change's name, the lines that differ."""
    found: dict[str, list[str]] = {}
    count = len(list(ast.walk(ast.parse(source))))
    for number in range(count):
        names = [name for name, _ in _changes(ast.parse(source), number)]
        for place, name in enumerate(names):
            tree = ast.parse(source)
            node = list(ast.walk(tree))[number]
            change = _changes(tree, number)[place][1]

            class Replace(ast.NodeTransformer):
                def visit(self, each: ast.AST, node: ast.AST = node, change: Any = change) -> Any:
                    return change(each) if each is node else self.generic_visit(each)

            after = ast.unparse(ast.fix_missing_locations(Replace().visit(tree))).splitlines()
            before = ast.unparse(ast.parse(source)).splitlines()
            found.setdefault(name, []).append("; ".join(line.strip() for line in after if line not in before))
    return found


def _changes(tree: ast.Module, number: int) -> list[Any]:
    return list(changes(list(ast.walk(tree))[number], Scope(tree)))


@pytest.mark.parametrize(
    ("source", "change", "expected"),
    [
        ("y = a + b", "sign", "y = a - b"),
        ("y = a / b", "mult<->div", "y = a * b"),
        ("y = a // b", "left alone", "y = a"),
        ("y = a % b", "right alone", "y = b"),
        ("y = a @ b", "operands swapped", "y = b @ a"),
        ("y = a @ b", "left transposed", "y = a.swapaxes(-1, -2) @ b"),
        ("y = a @ b", "float32 inside", "y = __import__('tests.helpers', fromlist=['_']).narrowed(a) @ b"),
        ("y = x.astype(np.float64)", "float32 inside", "y = x.astype(np.float32)"),
        ("y = -a", "without the sign", "y = a"),
        ("y = W.T", "without .T", "y = W"),
        ("y += a", "other operator", "y -= a"),
        ("y += a", "deleted", "pass"),
        ("self.y = a", "deleted", "pass"),
        ("f(a)", "deleted", "pass"),
        ("if a:\n    b()", "condition turned round", "if not a:"),
        ("if a:\n    raise ValueError", "guard removed", "pass"),
        ("if a:\n    b()\n    raise ValueError\nelse:\n    c()", "not raised", "pass"),
        ("y = a and b", "and<->or", "y = a or b"),
        ("y = a and b", "without its part 1", "y = b"),
        ("y = a < b", "edge", "y = a <= b"),
        ("y = a is None", "opposite", "y = a is not None"),
        ("y = x.sum(axis=1)", "sum -> mean", "y = x.mean(axis=1)"),
        ("y = x.sum(axis=1)", "axis=None", "y = x.sum(axis=None)"),
        ("y = x.max(axis=1, keepdims=True)", "keepdims=False", "y = x.max(axis=1, keepdims=False)"),
        ("y = sum(x)", "first term alone", "y = __import__('tests.helpers', fromlist=['_']).first_of(x)"),
        ("for x in y:\n    f(x)", "all but the last",
         "for x in __import__('tests.helpers', fromlist=['_']).but_last(y):"),
        ("y = f(a, b)", "arguments 1 and 2 swapped", "y = f(b, a)"),
        ("y = f(a, rng=b)", "rng not passed on", "y = f(a)"),
        ("y = f(a, b)", "last argument not passed on", "y = f(a)"),
        ("y = 3", "plus 1", "y = 4"),
        ("y = 3", "minus 1", "y = 2"),
        ("y = 0", "minus 1", "y = -1"),
        ("y = 2.0", "times 1.0001", "y = 2.0002"),
        ("y = True", "the other truth", "y = False"),
        ("def f(a, b):\n    return (a, b)", "first two swapped", "return (b, a)"),
        ("def f(a, b):\n    return a < b", "turned round", "return not a < b"),
        ("def f(a, b):\n    return g(a)", "negated", "return -g(a)"),
        ("def f(a, b):\n    return a", "deleted", "pass"),
        ("def f(a: int, b: str, c: int):\n    return g(c)", "a in its place", "return g(a)"),
        ("def f(a, b):\n    if a:\n        g()\n    if not b:\n        h()", "the flag b in its place", "if b:"),
        ("self.x = f(x)\ng(self.x)", "after: g(self.x)", ""),
    ],
)  # fmt: skip
def test_each_way_to_break_a_line(source: str, change: str, expected: str) -> None:
    assert expected in broken(source)[change]


def test_what_stands_on_both_sides_is_not_swapped() -> None:
    assert "operands swapped" not in broken("y = a @ a") and "arguments 1 and 2 swapped" not in broken("y = f(a, a)")


@pytest.mark.parametrize("source", ["y = f(a)\nz = g(y)", "import a\nimport b", "a = 1\nb = 2"])
def test_statements_whose_order_shows_nothing_are_not_exchanged(source: str) -> None:
    assert not [name for name in broken(source) if name.startswith("after")]


def test_what_mutants_call() -> None:
    assert list(helpers.but_last("abc")) == ["a", "b"] and list(helpers.but_last([])) == []
    assert helpers.first_of(x * x for x in (3, 4)) == 9
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(helpers.first_along(x, 1, False), x[:, 0])
    np.testing.assert_array_equal(helpers.first_along(x, (0, -1), True), x[:1, :1])
    assert helpers.narrowed(np.array(0.1)) == np.float32(0.1) and helpers.narrowed(3) == 3


def test_a_name_stays_the_same_wherever_the_file_lies_and_whatever_is_above() -> None:
    first = [mutant for mutant in mutants("npora/optim/clip.py") if mutant.outer is not None]
    assert all(mutant.name.startswith("clip_") and "optim" not in mutant.name for mutant in first)
    assert len({mutant.name for mutant in first}) == len(first)


def made(number: int, line: int) -> Mutant:
    return Mutant("npora/a.py", f"f: {number}", "sign", line, line, None, None, number != 50, 0, 0)


def test_a_sample_is_the_same_for_a_seed_and_takes_changed_lines_first() -> None:
    every = [made(number, number) for number in range(100)]
    drawn = sampled(every, 10, "seed", {})
    assert drawn == sampled(every, 10, "seed", {}) != sampled(every, 10, "another", {})
    assert sorted(drawn, key=every.index) == drawn and len(drawn) == 10
    changed = sampled(every, 10, "seed", {"npora/a.py": {7, 8, 9}, "npora/b.py": {1}})
    assert {"f: 7", "f: 8", "f: 9"} < {mutant.name for mutant in changed} and len(changed) == 10
    assert len(sampled(every, 1000, "seed", {})) == 99


def test_a_file_whose_tests_would_be_skipped_is_in_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    assert files_of(["files/hash"], True) == ["npora/files/hashes.py"]
    for found in (None, "spec"):
        monkeypatch.setattr("tests.chosen.find_spec", lambda name, found=found: found)
        assert files_of(["files/hub"], True) == (["npora/files/hub.py"] if found else [])
        assert files_of(["files/hub"], False) == ["npora/files/hub.py"]


def test_a_mutant_is_judged_by_what_enters_its_function_the_quick_ones_of_its_folder_first() -> None:
    functions = [("npora/nn/a.py", (1, "f")), ("npora/nn/a.py", (9, "g"))]
    tests = {"tests/x.py::a": (0.1, [0]), "tests/nn/x.py::b": (0.2, [0, 1]), "tests/nn/x.py::c": (2.0, [0]),
             "tests/x.py::d": (0.01, [1])}  # fmt: skip
    survey = Survey(tests, functions)
    assert survey.judges("npora/nn/a.py", (1, "f"), 1.0, 9.0) == ["tests/nn/x.py::b", "tests/x.py::a"]
    assert survey.judges("npora/nn/a.py", (9, "g"), 9.0, 9.0) == ["tests/x.py::d", "tests/nn/x.py::b"]
    assert set(survey.judges("npora/nn/a.py", None, 9.0, 9.0)) == set(tests)
    constants = Survey({"tests/files/test_gguf.py::a": (0.1, []), "tests/files/test_json.py::b": (0.1, [])}, functions)
    assert constants.judges("npora/files/gguf_header.py", None, 9.0, 9.0) == ["tests/files/test_gguf.py::a"]
    assert constants.judges("npora/files/gguf_header.py", (1, "f"), 9.0, 9.0) == []
    assert survey.judges("npora/nn/b.py", (1, "f"), 9.0, 9.0) == []
    cases = {"tests/nn/x.py::b[1]": (0.3, [0]), "tests/nn/x.py::b[2]": (0.2, [0]), "tests/x.py::a[1]": (0.05, [0]),
             "tests/x.py::a[2]": (0.04, [0])}  # fmt: skip
    assert Survey(cases, functions).judges("npora/nn/a.py", (1, "f"), 1.0, 0.58) == [
        "tests/x.py::a[2]", "tests/nn/x.py::b[2]", "tests/nn/x.py::b[1]"
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_is_interrupted_though_whoever_began_it_is_not() -> None:
    def work() -> str:
        signal.raise_signal(signal.SIGINT)
        return SURVIVED

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]) == CODES[KILLED]
    finally:
        signal.signal(signal.SIGINT, before)


class Asked:
    """What NumPy asks in place of an array."""

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        return function


def test_memory_that_nobody_wrote_holds_nan_where_a_mutant_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, getattr(np, name))
    unwritten_is_nan()
    assert np.isnan(np.empty(3)).all() and np.isnan(np.empty_like([1.0, 2.0])).all() and np.empty(2, int).size == 2
    assert np.empty_like(Asked()) is np.empty_like  # type: ignore[call-overload]


def test_every_explanation_is_of_one_mutant() -> None:
    every = [mutant for path in files_of([], False) for mutant in mutants(path)]
    names = Counter(mutant.name for mutant in every)
    identities = {mutant.identity for mutant in every}
    assert len(identities) == len(every) > 30_000
    stale = [key for key in SURVIVORS if names[key] != 1 and key not in identities]
    assert not stale, "no mutant, or more than one, has this name: put the file before it, or mend it"


def test_what_ended_is_not_run_again_until_a_file_is_another(tmp_path: Path) -> None:
    todo = {"a": ["-c", "print('said')"], "b": ["-c", "raise SystemExit(3)"]}
    assert {name: found["code"] for name, found in run(todo, tmp_path, "tree").items()} == {"a": 0, "b": 3}
    assert (tmp_path / "a.txt").read_text() == "said\n"
    again = {name: ["-c", "raise SystemExit(9)"] for name in todo}
    assert {name: found["code"] for name, found in run(again, tmp_path, "tree").items()} == {"a": 0, "b": 3}
    assert {name: found["code"] for name, found in run(again, tmp_path, "other").items()} == {"a": 9, "b": 9}
    assert set(json.loads((tmp_path / "done.json").read_text())) == {"a", "b"}


def test_what_runs_at_night_begins_with_an_empty_cache(tmp_path: Path) -> None:
    said = "import os; folder = os.environ['NPORA_CACHE']; print(os.listdir(folder)); open(folder + '/kept', 'w')"
    for tree in ("tree", "other"):
        run({"a": ["-c", said]}, tmp_path, tree)
        assert (tmp_path / "a.txt").read_text() == "[]\n"


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_night_that_is_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write = f"import os, signal, time; file = open({str(log)!r}, 'a'); first = not file.tell(); "
    told = f"os.fork() and os.kill({os.getpid()}, signal.SIGINT), time.sleep(1), open({str(log)!r}, 'a').write('ended')"
    todo = {"a": ["-c", "pass"], "b": ["-c", f"{write}file.write('b'); file.close(); first and ({told})"]}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(todo, tmp_path, "tree")
        assert set(json.loads((tmp_path / "done.json").read_text())) == {"a"}
        todo["a"] = ["-c", "raise SystemExit(3)"]
        assert {name: found["code"] for name, found in run(todo, tmp_path, "tree").items()} == {"a": 0, "b": 0}
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(1.2)  # for whatever it has forked, were it left
    assert log.read_text() == "bb"
