"""Break every line of npora's mathematics, one mutant at a time, and see whether the tests notice.

    python -m tests.mutate [PART OF A FILE'S NAME …] [--jobs 2]

Each mutant is one changed node of a syntax tree: a sign, a dropped term or factor, a transpose, the order of operands,
a factor 1.0005 or 1 + 1e-8, an axis, a sum for a mean, a constant, a condition, a deleted statement, swapped returns.
It lives in memory, in a fork of this process, and is judged by the contracts and properties of this folder. Nothing is
written to the source tree. Exits 1 on a survivor that SURVIVORS does not explain, and says where an explained one is
killed or gone.

Two things save time, and change no verdict. A mutant inside a function is put in place of that function's code where
everything is imported already, unless importing alone calls the function: then, as for a line of a module, the fork
imports npora anew with the mutant in it. And a check that never enters the mutated function is left out, for it does
what it does without the mutant.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.abc
import importlib.machinery
import inspect
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FrameType, FunctionType
from typing import Any

# Before NumPy is imported: a mutant a core, and BLAS's own threads would only be in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What the judge needs, imported before the fork so that no mutant pays for it again. npora must not be among it.
import hypothesis
import numpy as np
import pytest

from tests.forks import BROKEN, KILLED, LATE, SURVIVED, fork, told, unwritten_is_nan
from tests.mutants import CUTS, FILES, SURVIVORS, judges_of
from tests.mutations import ROOT, Key, Mutant, mutants

Check = Callable[[], object]
Judges = Callable[[], Iterator[Check]]
Entered = set[tuple[str, Key]]  # functions, by file


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module from a changed tree."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self.name, self.path = path.removesuffix(".py").replace("/", "."), path
        self.code = compile(tree, path, "exec")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, origin=self.path) if name == self.name else None

    def exec_module(self, module: Any) -> None:
        exec(self.code, module.__dict__)


def _run(checks: list[Check]) -> str:
    for check in checks:
        try:
            check()
        except BaseException:
            return KILLED
    return SURVIVED


def _judge_anew(mutant: Mutant, judges: Judges, order: list[int]) -> str:
    """Import npora with the mutant in its place, where nothing of npora is imported yet."""
    sys.meta_path.insert(0, _Finder(mutant.path, mutant.tree))
    try:
        checks = list(judges())
    except Exception:
        return BROKEN
    return _run([checks[place] for place in order])


def _judge_in_place(mutant: Mutant, function: FunctionType, checks: list[Check]) -> str:
    """Give the imported function the mutant's code."""
    body = compile(mutant.tree, mutant.path, "exec")
    function.__code__ = next(code for code in _codes(body) if _key(code) == mutant.outer)
    return _run(checks)


def _codes(body: CodeType) -> Iterator[CodeType]:
    """The functions and methods of a module's body, but not what is nested in them."""
    for code in body.co_consts:
        if isinstance(code, CodeType):
            if code.co_flags & inspect.CO_OPTIMIZED:
                yield code
            else:
                yield from _codes(code)


def _key(code: CodeType) -> Key:
    return code.co_firstlineno, code.co_name


def _place(code: CodeType) -> tuple[str, Key]:
    return os.path.relpath(code.co_filename, ROOT), _key(code)


def _entering(check: Check) -> Entered:
    """The functions of npora that a check calls."""
    codes: dict[int, CodeType] = {}  # by identity: a code object's own hash reads all of it

    def note(frame: FrameType, *_: Any) -> None:
        codes[id(frame.f_code)] = frame.f_code

    sys.settrace(note)
    try:
        check()
    finally:
        sys.settrace(None)
    return {place for place in map(_place, codes.values()) if place[0].startswith("npora")}


Look = tuple[int, float, Entered]  # a check's place among its judges', the seconds it takes, the functions it enters


def _survey(judges: Judges, jobs: int) -> tuple[Entered, list[Look]]:
    """(what importing npora and building the checks enters, what each check does, the quickest first).

    Found in forks: this process must not import npora before the mutants that importing runs into have been judged.
    """

    def share(first: int) -> Any:
        called = _entering(lambda: list(judges()))
        checks = list(judges())
        # A fork a check, for what one leaves in a cache another would not enter.
        looks = [(place, *told(partial(_look, checks[place]))()) for place in range(first, len(checks), jobs)]
        return sorted(called), looks

    parts = [answer() for answer in [told(partial(share, first)) for first in range(jobs)]]
    looks = [(place, seconds, _entered(said)) for _, share in parts for place, seconds, said in share]
    return _entered(parts[0][0]), sorted(looks, key=lambda look: look[1])


def _look(check: Check) -> Any:
    start = time.perf_counter()
    entered = _entering(check)
    return time.perf_counter() - start, sorted(entered)


def _entered(said: list[Any]) -> Entered:
    return {(path, (line, name)) for path, (line, name) in said}


class _Pool:
    """At most `jobs` forks at a time."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.running, self.outcomes = jobs, dict[int, str](), dict[str, str]()

    def add(self, identity: str, work: Callable[[], str]) -> None:
        if len(self.running) >= self.jobs:
            self._collect()
        self.running[fork(work)] = identity

    def _collect(self) -> None:
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        outcome = LATE if code == -signal.SIGALRM else (SURVIVED, KILLED, BROKEN, LATE)[code]
        self.outcomes[identity := self.running.pop(child)] = outcome
        if outcome == LATE or (outcome == SURVIVED and identity not in SURVIVORS) or len(self.outcomes) % 200 == 0:
            print(f"{len(self.outcomes):6} judged; {outcome}: {identity}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        while self.running:
            self._collect()


def main() -> int:
    parser = argparse.ArgumentParser(description=(inspect.getdoc(sys.modules[__name__]) or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only files whose path holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    np.seterr(all="ignore")
    unwritten_is_nan()
    hypothesis.settings.register_profile(
        "mutants", max_examples=15, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),  # or a slow machine would kill mutants
    )  # fmt: skip
    hypothesis.settings.load_profile("mutants")
    start, pool = time.perf_counter(), _Pool(options.jobs)
    files = [path for path in FILES if not options.names or any(name in path for name in options.names)]
    groups = {judges: [path for path in files if judges_of(path) is judges] for judges in map(judges_of, files)}
    assert not any(name.split(".")[0] == "npora" for name in sys.modules), "npora was imported before the forks"
    try:
        surveys = {judges: _survey(judges, options.jobs) for judges in groups}
    except AssertionError as error:
        print(error)
        return 1
    inside = {judges: _judge_outside(judges, own, *surveys[judges], pool) for judges, own in groups.items()}
    for judges, left in inside.items():
        _judge_inside(judges, left, surveys[judges][1], pool)
    return _report(files, pool.outcomes, time.perf_counter() - start)


def _judge_outside(judges: Judges, files: list[str], called: Entered, looks: list[Look], pool: _Pool) -> list[Mutant]:
    """Every mutant that importing npora runs into, each in a fork that imports it anew; returns the others. The checks
    that enter the mutated file come first."""
    left = []
    for path in files:
        order = sorted(looks, key=lambda look: all(entered != path for entered, _ in look[2]))
        places = [place for place, _, _ in order]
        for mutant in mutants(path):
            if mutant.outer and mutant.outer[1] in CUTS.get(path, ()):
                continue
            if mutant.inner is None or {(path, mutant.outer), (path, mutant.inner)} & called:
                pool.add(mutant.identity, partial(_judge_anew, mutant, judges, places))
            else:
                left.append(mutant)
    pool.finish()
    return left


def _judge_inside(judges: Judges, mutants: list[Mutant], looks: list[Look], pool: _Pool) -> None:
    """Import npora, and put each mutant in place in a fork. The checks that enter its function judge it, the quickest
    first."""
    checks = list(judges())
    gc.unfreeze()  # what an earlier group froze is to be found again
    functions = {_place(f.__code__): f for f in gc.get_objects() if isinstance(f, FunctionType)}
    gc.freeze()  # or each fork's collector would touch, and so copy, everything
    for mutant in mutants:
        entering = [checks[place] for place, _, entered in looks if (mutant.path, mutant.inner) in entered]
        pool.add(mutant.identity, partial(_judge_in_place, mutant, functions[mutant.path, mutant.outer], entering))
    pool.finish()


def _report(files: list[str], outcomes: dict[str, str], seconds: float) -> int:
    for path in files:
        own = [outcome for name, outcome in outcomes.items() if name.startswith(path.removeprefix("npora/") + ":")]
        counts = Counter(own)
        print(f"{path:36}{len(own):5} mutants  " + "  ".join(f"{counts[kind]:4} {kind}" for kind in sorted(counts)))
    survivors = {name for name, outcome in outcomes.items() if outcome == SURVIVED}
    expected = {name for name in SURVIVORS if any(name.startswith(f.removeprefix("npora/") + ":") for f in files)}
    for name in sorted(survivors - expected):
        print(f"NEW SURVIVOR  {name}")
    for name in sorted(expected - survivors):
        print(f"EXPLAINED, BUT {outcomes.get(name, 'not there').upper()}  {name}")
    print(f"{len(outcomes)} mutants, {len(survivors)} survivors, {len(expected)} of them explained; {seconds:.0f} s")
    missed = {name for name in expected - survivors if outcomes.get(name) != LATE}  # a slow machine proves nothing
    return 0 if outcomes and survivors <= expected and not missed else 1


if __name__ == "__main__":
    assert pytest  # imported for the judges
    sys.exit(main())
