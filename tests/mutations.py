"""The ways to break a line of mathematics, and every mutant of a file, as syntax trees."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Key = tuple[int, str]
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


@dataclass(frozen=True)
class Mutant:
    """outer and inner: the (first line, name) of the outermost and of the innermost function around the change; None
    where it stands in a module or class body."""

    identity: str
    path: str
    tree: ast.Module
    outer: Key | None
    inner: Key | None


def mutants(path: str) -> Iterator[Mutant]:
    """Every mutant of a file. Annotations, raises, docstrings and defaults are left alone."""
    source = (ROOT / path).read_text(encoding="utf-8")
    count: Counter[str] = Counter()
    for number, node in enumerate(ast.walk(ast.parse(source))):
        for place, (name, _) in enumerate(_changes(node)):
            tree = ast.parse(source)
            skipped = _left_alone(tree)
            target = next(n for i, n in enumerate(ast.walk(tree)) if i == number)
            if not _is_code(target, skipped):
                continue
            owners = _owners(tree, target)
            owner = ".".join(node.name for node in owners) or "module"
            identity = f"{path.removeprefix('npora/')}: {owner}: {ast.unparse(target)[:70]}: {name}"
            keys: list[Key | None] = [_key(node) for node in owners if isinstance(node, ast.FunctionDef)] or [None]
            change = list(_changes(target))[place][1]
            tree = ast.fix_missing_locations(_Replace(target, change).visit(tree))
            count[identity] += 1
            numbered = identity if count[identity] == 1 else f"{identity} #{count[identity]}"
            yield Mutant(numbered, path, tree, keys[0], keys[-1])


def _key(function: ast.FunctionDef) -> Key:
    """As its code object has them: the first line is that of the first decorator."""
    return min([function.lineno, *(d.lineno for d in function.decorator_list)]), function.name


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
        elif isinstance(node, ast.ClassDef):
            inside += [field.value for field in node.body if isinstance(field, ast.AnnAssign)]  # a config's defaults
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
            inside.append(node)  # the size of a block: any other is slower, and gives the same
        elif isinstance(node, ast.Raise) or (isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)):
            inside.append(node)  # checks of input have tests of their own
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.append(node)
        found |= {id(child) for top in inside if top is not None for child in ast.walk(top)}
    return found


def _owners(tree: ast.Module, target: ast.AST) -> list[ast.FunctionDef | ast.ClassDef]:
    """The class and the functions around a node, the outermost first."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and any(child is target for child in ast.walk(node))
    ]
