"""Which tests enter which functions, and how long they take.

A test that never enters the mutated function is left out, for it does what it does without the mutant. Each is run
once, in a fork of its own, for what one leaves in a cache another would not enter. What was found is kept in
.pytest_cache for as long as npora, the test's file and the tests' files that it imports stay as they are.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.entered import Function
from tests.forks import KILLED, SURVIVED, Pool
from tests.mutations import ROOT, Key
from tests.suite import Judge, Suite, own_folder

# Seconds of the processor's time: what one judge of a sample takes less than, and what all judges of one mutant do.
SLOW, MOST = 4.0, 60.0
KEPT = ROOT / ".pytest_cache" / "mutants.json"


def digest(*folders: str) -> str:
    """Of all Python files below these folders."""
    return _digest(sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")))


def _digest(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@dataclass
class Survey:
    """Of each test the seconds that it takes, and the functions that it enters by their number among `functions`."""

    tests: dict[str, tuple[float, list[int]]]
    functions: list[Function]

    @cached_property
    def seconds(self) -> dict[str, float]:
        return {test: seconds for test, (seconds, _) in self.tests.items()}

    @cached_property
    def entering(self) -> dict[Function, list[str]]:
        """The tests that enter each function."""
        found: dict[Function, list[str]] = {}
        for test, (_, numbers) in self.tests.items():
            for number in numbers:
                found.setdefault(self.functions[number], []).append(test)
        return found

    def judges(self, path: str, function: Key | None, slowest: float, most: float) -> list[str]:
        """The tests that enter this function, or else any of the file, or whose own file names it: all of the file's
        folder and, of each function of tests elsewhere, the quickest case; then the rest. The quickest go first, those
        of the folder sooner; as many as take `most` seconds together."""
        if function is not None:
            tests = self.entering.get((path, function), [])
        else:
            tests = list(dict.fromkeys(t for (file, _), found in self.entering.items() if file == path for t in found))
            tests += [test for test in self.tests.keys() - set(tests) if _names(test.split("::")[0], path)]
        folder = path.replace("npora/", "tests/", 1).rsplit("/", 1)[0] + "/"
        costs = {test: self.seconds[test] * (1 if test.startswith(folder) else 3) for test in tests}
        tests = sorted((test for test in tests if self.seconds[test] < slowest), key=lambda test: (costs[test], test))
        cases = {test.split("[")[0]: test for test in reversed(tests)}
        tests.sort(key=lambda test: not test.startswith(folder) and cases[test.split("[")[0]] != test)
        total = list(accumulate(self.seconds[test] for test in tests))
        return [test for test, until in zip(tests, total, strict=True) if until < most]


@cache
def _names(test: str, path: str) -> bool:
    """Whether a file of tests names this module: it may read a constant, and enter no function."""
    file = ROOT / test
    return file.is_file() and f"{path.removesuffix('.py').replace('/', '.')} " in file.read_text(encoding="utf-8")


def survey(suite: Suite, session: pytest.Session, jobs: int, say: Callable[[str], None]) -> Survey:
    """Of all tests of the suite; those that the cache does not have are run."""
    said = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {"tests": {}, "functions": []}
    numbers = {_function(found): number for number, found in enumerate(said["functions"])}
    npora = digest("npora")
    names = {test: npora + sources(test.split("::")[0]) for test in suite.items}
    tests = {test: said["tests"][test] for test, name in names.items() if said["tests"].get(test, [""])[0] == name}
    left = [test for test in suite.items if test not in tests]
    folder = session.config._tmp_path_factory.getbasetemp() / "looks"  # type: ignore[attr-defined]
    folder.mkdir()
    if left:
        say(f"which test enters which function: {len(left)} tests are run once")

    def done(test: str, outcome: str) -> None:
        if outcome != SURVIVED:
            say(f"no judge, for without a mutant it is {outcome}: {test}")
            tests[test] = names[test], None, []
        else:
            seconds, entered = json.loads((folder / str(left.index(test))).read_text(encoding="utf-8"))
            functions = [numbers.setdefault(_function(found), len(numbers)) for found in entered]
            tests[test] = names[test], seconds, functions
        if len(tests) % 1000 == 0 or len(tests) == len(names):
            _keep({"tests": tests, "functions": list(numbers)})

    pool = Pool(jobs, done)
    for number, test in enumerate(left):
        pool.add(test, lambda test=test, number=number: _look(suite, session, suite.items[test], folder / str(number)))
    pool.finish()
    return kept()


def kept() -> Survey:
    said = json.loads(KEPT.read_text(encoding="utf-8"))
    tests = {test: (seconds, found) for test, (_, seconds, found) in said["tests"].items() if seconds is not None}
    return Survey(tests, [_function(found) for found in said["functions"]])


def _keep(said: dict[str, Any]) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    unready = KEPT.with_suffix(f".{os.getpid()}")
    unready.write_text(json.dumps(said), encoding="utf-8")
    unready.replace(KEPT)


def _function(said: Any) -> Function:
    path, (line, name) = said
    return path, (line, name)


def _look(suite: Suite, session: pytest.Session, item: pytest.Item, answer: Path) -> str:
    """In a fork: run it, and leave what it takes and enters in a file."""
    judge = Judge(session)
    suite.entered.clear()
    start = time.process_time()
    with own_folder(session):
        passes = judge.passes(item)
    answer.write_text(json.dumps((time.process_time() - start, sorted(suite.entered))), encoding="utf-8")
    return SURVIVED if passes else KILLED


@cache
def sources(file: str) -> str:
    """The digest of a file of tests and of all that it imports from the tests."""
    found, left = set[Path](), {ROOT / file, ROOT / "tests" / "conftest.py"}
    while left:
        path = left.pop()
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
                place = ROOT.joinpath(*str(node.module).split("."))
                near = [place, *(place / alias.name for alias in node.names)]
                files = [file for one in near for file in (one.with_suffix(".py"), one / "__init__.py")]
                left |= {file for file in files if file.is_file()} - found
    return _digest(sorted(found))
