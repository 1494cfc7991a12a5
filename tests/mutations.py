"""Every mutant of a file: what each is called, and its syntax tree."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.mutants import CUTS
from tests.operators import changes
from tests.proven import is_proven
from tests.scopes import Scope

ROOT = Path(__file__).parents[1]
Key = tuple[int, str]
# Keywords of matplotlib: a line of another width is no error.
_LOOKS = {"alpha", "dpi", "fontsize", "linewidth", "markeredgewidth", "markersize"}
SHOWN = 70  # characters of the code that a mutant's name has


@dataclass(frozen=True)
class Mutant:
    """One change of one node.

    name : the function or the name around it, the code, the change: the same wherever the file lies
    first, last : the lines that are changed
    outer, inner : the (first line, name) of the outermost and of the innermost function around it; None where it stands
        in a module or class body
    proven : a sample may take it
    node, change : the number of the node in the file's tree, and of the change among that node's
    """

    path: str
    name: str
    operator: str
    first: int
    last: int
    outer: Key | None
    inner: Key | None
    proven: bool
    node: int
    change: int

    @property
    def identity(self) -> str:
        return f"{self.path.removeprefix('npora/')}: {self.name}"

    def tree(self) -> ast.Module:
        """The file with the change in it."""
        tree = ast.parse((ROOT / self.path).read_text(encoding="utf-8"))
        target = next(node for number, node in enumerate(ast.walk(tree)) if number == self.node)
        change = list(changes(target, Scope(tree)))[self.change][1]
        return ast.fix_missing_locations(_Replace(target, change).visit(tree))


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Any) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> Any:
        return self.change(node) if node is self.target else self.generic_visit(node)


@cache
def mutants(path: str) -> tuple[Mutant, ...]:
    return tuple(_mutants(path))


def _mutants(path: str) -> Iterator[Mutant]:
    """Every mutant of a file. Annotations, messages of errors, docstrings, defaults and looks are left alone."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    skipped, scope = _left_alone(tree), Scope(tree)
    count: Counter[str] = Counter()
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        found = [change for change, _ in changes(node, scope)]
        if not found:
            continue
        around = scope.around(node)
        functions = [above for above in around if isinstance(above, ast.FunctionDef)]
        outer, inner = (key_of(functions[-1]), key_of(functions[0])) if functions else (None, None)
        first, last = _lines(node, around)
        if functions and functions[-1].name in CUTS.get(path, ()):
            continue
        begin = f"{_owner(node, around)}: {_shown(node, around)}: "
        for place, change in enumerate(found):
            count[begin + change] += 1
            name = begin + change + (f" #{number_of}" if (number_of := count[begin + change]) > 1 else "")
            operator = _operator(change)
            proven = is_proven(node, operator, around)
            yield Mutant(path, name, operator, first, last, outer, inner, proven, number, place)


# By what a change says beside the names in it.
OPERATORS = {
    "after: ": "two statements exchanged",
    "the flag ": "another flag",
    " in its place": "another name",
    "argument not passed on": "argument not passed on",
    " not passed on": "keyword not passed on",
    "first two swapped": "first two swapped",
    "operands swapped": "operands swapped",
    " swapped": "two arguments swapped",
    "axis=": "another axis",
    "without its part": "part of a condition left out",
}


def _operator(change: str) -> str:
    """A change without the names in it."""
    return next((kind for said, kind in OPERATORS.items() if said in change), change)


def _lines(node: Any, around: list[ast.AST]) -> tuple[int, int]:
    held: Any = node if hasattr(node, "lineno") else next((n for n in around if hasattr(n, "lineno")), None)
    return (held.lineno, held.end_lineno) if held is not None else (1, 1)


def _owner(node: ast.AST, around: list[ast.AST]) -> str:
    """The class and functions around a node, and outside of functions the name that is given a value."""
    names = [n.name for n in reversed(around) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if not any(isinstance(n, ast.FunctionDef) for n in around):
        given = next((n for n in [node, *around] if isinstance(n, ast.Assign | ast.AnnAssign)), None)
        if given is not None:
            names.append(ast.unparse(given.targets[0] if isinstance(given, ast.Assign) else given.target))
    return ".".join(names) or "module"


def _shown(node: ast.AST, around: list[ast.AST]) -> str:
    """The code; of a number or name, in the expression that it stands in."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module | ast.Try | ast.With):
        return "body"
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"[:SHOWN]
    if isinstance(node, ast.For):
        return f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"[:SHOWN]
    own = ast.unparse(node)
    if isinstance(node, ast.Constant | ast.Name | ast.Attribute | ast.UnaryOp) and isinstance(around[0], ast.expr):
        return f"{own[:SHOWN]} in {ast.unparse(around[0])[:SHOWN]}"
    return own.strip().splitlines()[0][:SHOWN]


def key_of(function: ast.FunctionDef) -> Key:
    """As its code object has them: the first line is that of the first decorator."""
    return min([function.lineno, *(d.lineno for d in function.decorator_list)]), function.name


def _left_alone(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        inside: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            inside += [node.returns, node.args, *node.decorator_list]
        elif isinstance(node, ast.AnnAssign):
            inside.append(node.annotation)
        elif isinstance(node, ast.ClassDef):
            inside += [field.value for field in node.body if isinstance(field, ast.AnnAssign)]  # a config's defaults
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
            inside.append(node)  # the size of a block: any other is slower, and gives the same
        elif isinstance(node, ast.Raise):
            inside += [node.exc, node.cause]  # its message
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("logger.", "warnings.")):
            inside += [*node.args, *node.keywords]  # what it says
        elif isinstance(node, ast.Call):
            inside += [keyword.value for keyword in node.keywords if keyword.arg in _LOOKS]
        elif isinstance(node, ast.Assert) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            inside.append(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            inside.append(node)
        found |= {id(child) for top in inside if top is not None for child in ast.walk(top)}
    return found
