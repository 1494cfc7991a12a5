"""Break every line of npora that computes, decides or counts, one mutant at a time, and see whether the tests notice.

    python -m tests.mutate [PART OF A FILE'S NAME …] [--sample 1500] [--jobs 2] [--record FILE]

Each mutant is one changed node of a syntax tree (tests/operators.py has the ways). It lives in memory, in a fork of
this process, and the suite judges it: the tests that enter its function, the quickest first, until one fails. Nothing
is written to the source tree. Exits 1 on a survivor that SURVIVORS does not explain, and says where an explained one is
killed or gone.

A mutant inside a function is put in place of that function's code where everything is imported already. What that
cannot show, a line outside of functions or a function that importing calls, is imported anew in a fork that has nothing
of npora.

--sample takes so many mutants of the files that SAMPLED names, broken in the ways that PROVEN names: those of changed
lines first, the others by a seed that is the digest of npora's files. Its judges are the tests that take less than four
seconds, and what SURVIVORS explains is not judged again. Of the other files and ways about one mutant in twenty
survives, and nothing explains it: a run without --sample says which. --record keeps each verdict in a file, and goes on
where it ended.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import sys
import tempfile
import time
from functools import partial
from types import CodeType, FunctionType
from typing import Any

# Before NumPy is imported: a mutant a core, and BLAS's own threads would only be in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["HYPOTHESIS_PROFILE"] = "mutants"

# What the tests need, imported before the fork so that no mutant pays for it again. npora must not be among it.
import hypothesis
import numpy as np
import pytest

from tests.chosen import changed_lines, files_of, sampled
from tests.entered import Served
from tests.forks import BROKEN, KILLED, SURVIVED, Pool, unwritten_is_nan
from tests.mutations import ROOT, Mutant, mutants
from tests.outcomes import Record, reason, report
from tests.suite import Suite, judged, place, pytest_main
from tests.survey import MOST, SLOW, Survey, digest, kept, survey

Bounds = tuple[float, float]  # seconds of the processor's time, for one judge and for all of a mutant's


class _Mutated(Served):
    """Serves one module with the mutant in it."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def tree(self, path: str) -> ast.Module | None:
        return self.mutant.tree() if path == self.mutant.path else None


def _codes(body: CodeType) -> list[CodeType]:
    """The functions and methods of a module's body, but not what is nested in them."""
    found = []
    for code in body.co_consts:
        if isinstance(code, CodeType):
            found += [code] if code.co_flags & inspect.CO_OPTIMIZED else _codes(code)
    return found


def _in_place(mutant: Mutant, function: FunctionType, items: list[pytest.Item], session: Any, found: Survey) -> str:
    """Give the imported function the mutant's code, and let these judge it."""
    body = compile(mutant.tree(), str(ROOT / mutant.path), "exec")
    try:
        function.__code__ = next(code for code in _codes(body) if place(code) == (mutant.path, mutant.outer))
    except ValueError:  # it needs other names of what is around it: a class, of which super() was taken away
        return BROKEN
    return judged(session, items, found.seconds)


class _Anew:
    """A plugin that runs the chosen tests, where npora was imported with the mutant in its place."""

    def __init__(self, tests: list[str], found: Survey) -> None:
        self.tests, self.found, self.outcome = tests, found, KILLED

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        chosen = [items[test] for test in self.tests if test in items]
        self.outcome = judged(session, chosen, self.found.seconds) if len(chosen) == len(self.tests) else KILLED
        return True


def _judge_anew(mutant: Mutant, tests: list[str], found: Survey, folder: str) -> str:
    """Import npora with the mutant in its place, where nothing of npora is imported yet. Files of tests a few at a
    time: importing one costs more than most of its tests."""
    sys.meta_path.insert(0, _Mutated(mutant))
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))
    size = 1
    while files:
        now, files = files[:size], files[size:]
        plugin = _Anew([test for test in tests if test.split("::")[0] in now], found)
        pytest_main(plugin, f"{folder}/{os.getpid()}", *now)
        if plugin.outcome != SURVIVED:
            return plugin.outcome
        size *= 3
    return SURVIVED


def main() -> int:
    parser = argparse.ArgumentParser(description=(inspect.getdoc(sys.modules[__name__]) or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only files whose path holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--sample", type=int, metavar="N", help="so many mutants, chosen by the digest of npora's files"
    )
    parser.add_argument("--record", metavar="FILE", help="keep each verdict there, and do not judge again what it has")
    options = parser.parse_args()
    start = time.perf_counter()
    np.seterr(all="ignore")
    unwritten_is_nan()
    hypothesis.settings.register_profile(
        "mutants", max_examples=15, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),  # or a slow machine would kill mutants
    )  # fmt: skip
    files = files_of(options.names, options.sample is not None)
    every = [mutant for path in files for mutant in mutants(path)]
    seed = digest("npora")
    chosen = every if options.sample is None else sampled(every, options.sample, seed, changed_lines())
    explained = [mutant for mutant in chosen if reason(mutant) is not None] if options.sample else []
    record = Record(options.record, seed, start)
    left = [mutant for mutant in chosen if mutant.identity not in record.outcomes and mutant not in explained]
    assert not any(name.split(".")[0] == "npora" for name in sys.modules), "npora was imported before the forks"
    with tempfile.TemporaryDirectory() as folder:
        _judge(left, options.jobs, (SLOW if options.sample else MOST, MOST), record, folder)
    return report(chosen, explained, record.outcomes, time.perf_counter() - start)


def _judge(left: list[Mutant], jobs: int, bounds: Bounds, record: Record, folder: str) -> None:
    """In a fork, with everything imported, what can be judged in place; then, here, what must be imported anew."""
    apart = os.fork()
    if apart == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what pytest says of its collection
            pytest_main(Suite(partial(_judge_in_place, left, jobs, bounds, record, folder)), f"{folder}/in-place")
            code = 0 if os.path.exists(f"{folder}/anew.json") else 1
        finally:
            os._exit(code)
    if os.waitpid(apart, 0)[1]:
        raise SystemExit("the tests cannot be collected, or judging was stopped: run the tests")
    with open(f"{folder}/anew.json", encoding="utf-8") as file:
        anew, outcomes = json.load(file)
    record.outcomes |= outcomes
    found, pool = kept(), Pool(jobs, record.note)
    for mutant in left:
        if mutant.identity in anew:
            tests = found.judges(mutant.path, mutant.inner, *bounds)
            tests += [test for test in found.judges(mutant.path, None, *bounds) if test not in set(tests)]
            pool.add(mutant.identity, partial(_judge_anew, mutant, tests, found, folder))
    pool.finish()


def _judge_in_place(
    left: list[Mutant], jobs: int, bounds: Bounds, record: Record, folder: str, suite: Suite, session: pytest.Session
) -> None:
    """Put each mutant in place in a fork. Leaves the names of those that must be imported anew in a file: what stands
    outside of functions, and what survives in a function that importing npora or the tests enters."""
    found = survey(suite, session, jobs, record.say)
    importing, anew = set[str](), set[str]()

    def note(name: str, outcome: str) -> None:
        if outcome == BROKEN or (outcome == SURVIVED and name in importing):
            anew.add(name)
        else:
            record.note(name, outcome)

    pool = Pool(jobs, note)
    for mutant in left:
        function = suite.functions.get((mutant.path, mutant.outer)) if mutant.outer is not None else None
        if function is None:
            anew.add(mutant.identity)
            continue
        if {(mutant.path, mutant.outer), (mutant.path, mutant.inner)} & suite.importing:
            importing.add(mutant.identity)
        items = [suite.items[test] for test in found.judges(mutant.path, mutant.inner, *bounds)]
        pool.add(mutant.identity, partial(_in_place, mutant, function, items, session, found))
    pool.finish()
    with open(f"{folder}/anew.json", "w", encoding="utf-8") as file:
        json.dump((sorted(anew), record.outcomes), file)


if __name__ == "__main__":
    sys.exit(main())
