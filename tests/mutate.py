"""Break every line of npora's mathematics, one mutant at a time, and see whether the tests notice.

    python -m tests.mutate [PART OF A FILE'S NAME …] [--jobs 2]

Each mutant is one changed node of a syntax tree: a sign, a dropped term or factor, a transpose, the order of operands,
a factor 1.0005 or 1 + 1e-8, an axis, a sum for a mean, a constant, a condition, a deleted statement, swapped returns.
It is compiled in memory, in a fork of this process that has imported no npora yet, and judged by the contracts and
properties of this folder. Nothing is written to the source tree. Exits 1 on a survivor that SURVIVORS does not explain,
and where an explained one is killed or gone.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import inspect
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What the judge needs, imported before the fork so that no mutant pays for it again. npora must not be among it.
import hypothesis
import numpy as np
import pytest

from tests.mutants import FILES, SURVIVORS, judges

ROOT = Path(__file__).parents[1]
SECONDS = 120  # for one mutant; a loop that never ends is stopped there
Change = tuple[str, Callable[[Any], ast.AST]]


def _scaled(factor: float) -> Callable[[Any], ast.AST]:
    return lambda node: ast.BinOp(node, ast.Mult(), ast.Constant(factor))


def _transposed(name: str) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        call = ast.Call(ast.Attribute(getattr(node, name), "swapaxes", ast.Load()), [], [])
        call.args = [ast.Constant(-1), ast.Constant(-2)]
        setattr(node, name, call)
        return node

    return change


def _with(**fields: Any) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


def _swap(node: Any) -> ast.AST:
    node.left, node.right = node.right, node.left
    return node


def _keyword(name: str, value: Any) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        for keyword in node.keywords:
            if keyword.arg == name:
                keyword.value = ast.Constant(value)
        return node

    return change


def _changes(node: ast.AST) -> Iterator[Change]:
    """Every way in which this node may be broken."""
    if isinstance(node, ast.BinOp):
        op = type(node.op)
        if op in (ast.Add, ast.Sub):
            yield "sign", _with(op=ast.Sub() if op is ast.Add else ast.Add())
        if op in (ast.Mult, ast.Div):
            yield "mult<->div", _with(op=ast.Div() if op is ast.Mult else ast.Mult())
        if op in (ast.Add, ast.Sub, ast.Mult, ast.Div):
            yield "left alone", lambda n: n.left
            yield "right alone", lambda n: n.right
        if op is ast.MatMult:
            yield "operands swapped", _swap
            yield "left transposed", _transposed("left")
            yield "right transposed", _transposed("right")
            yield "times 1 + 1e-8", _scaled(1 + 1e-8)
        if op in (ast.MatMult, ast.Mult):
            yield "times 1.0005", _scaled(1.0005)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "without the sign", lambda n: n.operand
    elif isinstance(node, ast.Attribute) and node.attr == "T" and isinstance(node.ctx, ast.Load):
        yield "without .T", lambda n: n.value
    elif isinstance(node, ast.AugAssign):
        swapped = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}.get(type(node.op))
        if swapped:
            yield "other operator", _with(op=swapped())
        yield "deleted", lambda n: ast.Pass()
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "deleted", lambda n: ast.Pass()
    elif isinstance(node, ast.If | ast.IfExp):
        yield "condition turned round", lambda n: _with(test=ast.UnaryOp(ast.Not(), n.test))(n)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        edge = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}.get(type(node.ops[0]))
        if edge:
            yield "edge", lambda n: _with(ops=[edge()])(n)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        other = {"sum": "mean", "mean": "sum", "max": "min", "exp": "expm1"}.get(node.func.attr)
        if other:
            yield (
                f"{node.func.attr} -> {other}",
                lambda n: _with(func=ast.Attribute(n.func.value, other, ast.Load()))(n),
            )
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        for axis in (0, None):
            if keywords.get("axis", str(axis)) != str(axis):
                yield f"axis={axis}", _keyword("axis", axis)
        if "keepdims" in keywords:
            yield "keepdims=False", _keyword("keepdims", False)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "plus 1", _with(value=node.value + 1)
        if type(node.value) is float and node.value:
            yield "times 1.0001", _with(value=node.value * 1.0001)
    elif isinstance(node, ast.Return) and node.value is not None:
        if isinstance(node.value, ast.Tuple) and len(node.value.elts) > 1:
            yield (
                "first two swapped",
                lambda n: _with(elts=[n.value.elts[1], n.value.elts[0], *n.value.elts[2:]])(n.value) and n,
            )
        elif not isinstance(node.value, ast.Constant | ast.Name | ast.Tuple):
            yield "negated", lambda n: _with(value=ast.UnaryOp(ast.USub(), n.value))(n)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Callable[[Any], ast.AST]) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> Any:
        return self.change(node) if node is self.target else self.generic_visit(node)


def _is_code(node: ast.AST, skipped: set[int]) -> bool:
    return id(node) not in skipped and hasattr(node, "lineno")


def mutants(path: str) -> Iterator[tuple[str, ast.Module]]:
    """(identity, tree) of every mutant of a file. Annotations, raises, docstrings and defaults are left alone."""
    source = (ROOT / path).read_text(encoding="utf-8")
    count: Counter[str] = Counter()
    for number, node in enumerate(ast.walk(ast.parse(source))):
        for place, (name, _) in enumerate(_changes(node)):
            tree = ast.parse(source)
            skipped = _left_alone(tree)
            target = next(n for i, n in enumerate(ast.walk(tree)) if i == number)
            if not _is_code(target, skipped):
                continue
            identity = f"{path.removeprefix('npora/')}: {_owner(tree, target)}: {ast.unparse(target)[:70]}: {name}"
            change = list(_changes(target))[place][1]
            tree = ast.fix_missing_locations(_Replace(target, change).visit(tree))
            count[identity] += 1
            yield (identity if count[identity] == 1 else f"{identity} #{count[identity]}"), tree


def _left_alone(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        inside: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            inside += [node.returns, node.args, *node.decorator_list]
            if node.name.startswith("__"):
                inside.append(node)  # constructors are seen by every forward
        elif isinstance(node, ast.AnnAssign):
            inside.append(node.annotation)
        elif isinstance(node, ast.Raise) or (isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)):
            inside.append(node)  # checks of input have tests of their own
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.append(node)
        found |= {id(child) for top in inside if top is not None for child in ast.walk(top)}
    return found


def _owner(tree: ast.Module, target: ast.AST) -> str:
    """The names of the class and the functions around a node."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and any(child is target for child in ast.walk(node)):
            names.append(node.name)
    return ".".join(names) or "module"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module from a changed tree."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self.name, self.path, self.code = name, path, compile(tree, path, "exec")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self, origin=self.path) if name == self.name else None

    def exec_module(self, module: Any) -> None:
        exec(self.code, module.__dict__)


KILLED, SURVIVED, BROKEN, LATE = "killed", "survived", "does not import", "timed out"


def _judge(path: str, tree: ast.Module | None) -> str:
    """In a fork: import npora with the mutant in its place and run what must notice it."""
    if tree is not None:
        name = path.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, _Finder(name, path, tree))
    try:
        checks = list(judges(path))
    except Exception:
        return BROKEN
    for check in checks:
        try:
            check()
        except BaseException:
            return KILLED
    return SURVIVED


def _fork(path: str, tree: ast.Module | None) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        code = 3
        with contextlib.suppress(BaseException):
            code = (SURVIVED, KILLED, BROKEN).index(_judge(path, tree))
        os._exit(code)
    return child


def main() -> int:
    parser = argparse.ArgumentParser(description=(inspect.getdoc(sys.modules[__name__]) or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only files whose path holds one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    assert not any(name.split(".")[0] == "npora" for name in sys.modules), "npora was imported before the forks"
    np.seterr(all="ignore")
    hypothesis.settings.register_profile("mutants", max_examples=15, derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    files = [path for path in FILES if not options.names or any(name in path for name in options.names)]
    for path in files:  # the judge must pass what is not broken, or it would kill everything
        if os.waitstatus_to_exitcode(os.waitpid(_fork(path, None), 0)[1]) != 0:
            print(f"the judge of {path} fails without a mutant")
            return 1
    outcomes: dict[str, str] = {}
    running: dict[int, str] = {}
    start = time.perf_counter()

    def collect() -> None:
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        outcomes[running.pop(child)] = LATE if code == -signal.SIGALRM else (SURVIVED, KILLED, BROKEN, LATE)[code]

    for path in files:
        for identity, tree in mutants(path):
            running[_fork(path, tree)] = identity
            if len(running) >= options.jobs:
                collect()
    while running:
        collect()
    return _report(files, outcomes, time.perf_counter() - start)


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
    return 0 if outcomes and survivors == expected else 1


if __name__ == "__main__":
    assert pytest  # imported for the judges
    sys.exit(main())
