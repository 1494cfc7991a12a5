"""The ways to break a line: what may be made of each node of a syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from tests.scopes import Scope

# Changes the node of a tree that is this mutant's own, and returns what stands in its place.
Change = tuple[str, Callable[[Any], ast.AST]]

EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITES = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
             ast.IsNot: ast.Is}  # fmt: skip
AUGMENTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
METHODS = {"sum": "mean", "mean": "sum", "max": "min", "exp": "expm1"}
# Keywords that have operators of their own, or say something to a reader alone.
SPARED = {"axis", "keepdims", "strict", "help", "metavar", "description", "stacklevel", "encoding", "file", "flush"}
TRUTHS = (ast.Compare, ast.BoolOp)


def _with(**fields: Any) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


def _scaled(factor: float) -> Callable[[Any], ast.AST]:
    return lambda node: ast.BinOp(node, ast.Mult(), ast.Constant(factor))


def _helped(name: str, node: Any, *more: ast.expr) -> ast.Call:
    """A call of a function of tests/helpers.py."""
    module = ast.parse("__import__('tests.helpers', fromlist=['_'])", mode="eval").body
    return ast.Call(ast.Attribute(module, name, ast.Load()), [node, *more], [])


def _of_field(field: str, make: Callable[[Any], ast.AST]) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        setattr(node, field, make(getattr(node, field)))
        return node

    return change


def _transposed(node: Any) -> ast.AST:
    return ast.Call(ast.Attribute(node, "swapaxes", ast.Load()), [ast.Constant(-1), ast.Constant(-2)], [])


def _exchanged(field: str, first: int) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        both = getattr(node, field)
        both[first], both[first + 1] = both[first + 1], both[first]
        return node

    return change


def _without(field: str, place: int) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        del getattr(node, field)[place]
        return node

    return change


def _keyword(name: str, value: Any) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        for keyword in node.keywords:
            if keyword.arg == name:
                keyword.value = ast.Constant(value)
        return node

    return change


def _nothing(_: Any) -> ast.AST:
    return ast.Pass()


def _opposite(node: Any) -> ast.AST:
    return ast.UnaryOp(ast.Not(), node)


def changes(node: ast.AST, scope: Scope) -> Iterator[Change]:
    """Every way in which this node may be broken, by name."""
    by_type: dict[type[ast.AST], Callable[[Any, Scope], Iterator[Change]]] = {
        ast.BinOp: _sums_and_products,
        ast.UnaryOp: _signs,
        ast.Attribute: _attributes,
        ast.Name: _names,
        ast.AugAssign: _updates,
        ast.Assign: _assignments,
        ast.Expr: _statements,
        ast.If: _conditions,
        ast.IfExp: _conditions,
        ast.While: _conditions,
        ast.BoolOp: _junctions,
        ast.Compare: _comparisons,
        ast.Call: _calls,
        ast.Constant: _constants,
        ast.Return: _returns,
        ast.Raise: _raises,
        ast.For: _loops,
        ast.comprehension: _loops,
    }
    find = by_type.get(type(node))
    if find is not None:
        yield from find(node, scope)
    for field in ("body", "orelse", "finalbody"):
        yield from _neighbours(node, field, scope)


def _sums_and_products(node: ast.BinOp, scope: Scope) -> Iterator[Change]:
    op = type(node.op)
    if op in (ast.Add, ast.Sub):
        yield "sign", _with(op=ast.Sub() if op is ast.Add else ast.Add())
    if op in (ast.Mult, ast.Div):
        yield "mult<->div", _with(op=ast.Div() if op is ast.Mult else ast.Mult())
    if op in (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow):
        yield "left alone", lambda n: n.left
        yield "right alone", lambda n: n.right
    if op is ast.MatMult:
        if ast.unparse(node.left) != ast.unparse(node.right):
            yield "operands swapped", lambda n: _with(left=n.right, right=n.left)(n)
        yield "left transposed", _of_field("left", _transposed)
        yield "right transposed", _of_field("right", _transposed)
        yield "times 1 + 1e-8", _scaled(1 + 1e-8)
        yield "float32 inside", _of_field("left", lambda n: _helped("narrowed", n))
    if op in (ast.MatMult, ast.Mult):
        yield "times 1.0005", _scaled(1.0005)


def _signs(node: ast.UnaryOp, scope: Scope) -> Iterator[Change]:
    if isinstance(node.op, ast.USub | ast.Not):
        yield "without the sign", lambda n: n.operand


def _attributes(node: ast.Attribute, scope: Scope) -> Iterator[Change]:
    if isinstance(node.ctx, ast.Load):
        if node.attr == "T":
            yield "without .T", lambda n: n.value
        if node.attr in ("float64", "complex128"):
            yield "float32 inside", _with(attr={"float64": "float32", "complex128": "complex64"}[node.attr])
        yield from _other_flag(node, scope)


def _names(node: ast.Name, scope: Scope) -> Iterator[Change]:
    if isinstance(node.ctx, ast.Load):
        other = scope.other_name(node)
        if other is not None:
            yield f"{other} in its place", lambda n: _with(id=other)(n)
        yield from _other_flag(node, scope)


def _other_flag(node: ast.expr, scope: Scope) -> Iterator[Change]:
    other = scope.other_flag(node)
    if other is not None:
        yield f"the flag {other} in its place", lambda n: ast.parse(other, mode="eval").body


def _updates(node: ast.AugAssign, scope: Scope) -> Iterator[Change]:
    if (swapped := AUGMENTED.get(type(node.op))) is not None:
        yield "other operator", _with(op=swapped())
    yield "deleted", _nothing


def _assignments(node: ast.Assign, scope: Scope) -> Iterator[Change]:
    if any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
        yield "deleted", _nothing


def _statements(node: ast.Expr, scope: Scope) -> Iterator[Change]:
    if isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom):
        yield "deleted", _nothing if isinstance(node.value, ast.Call) else lambda n: ast.If(ast.Constant(0), [n], [])


def _conditions(node: ast.If | ast.IfExp | ast.While, scope: Scope) -> Iterator[Change]:
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
        if not node.orelse:
            yield "guard removed", _nothing
    elif isinstance(node, ast.If | ast.IfExp):
        yield "condition turned round", _of_field("test", _opposite)


def _junctions(node: ast.BoolOp, scope: Scope) -> Iterator[Change]:
    yield "and<->or", _with(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for place, value in enumerate(node.values):
        # A value of None before what reads it only asks whether it can be read.
        if not (isinstance(value, ast.Compare) and isinstance(value.ops[0], ast.IsNot | ast.Is)):
            yield f"without its part {place + 1}", _without_part(place)


def _without_part(place: int) -> Callable[[Any], ast.AST]:
    def change(node: Any) -> ast.AST:
        del node.values[place]
        return node if len(node.values) > 1 else node.values[0]

    return change


def _comparisons(node: ast.Compare, scope: Scope) -> Iterator[Change]:
    if len(node.ops) == 1:
        if (edge := EDGES.get(type(node.ops[0]))) is not None:
            yield "edge", lambda n: _with(ops=[edge()])(n)
        other = OPPOSITES.get(type(node.ops[0]))
        if other is not None and not isinstance(scope.parent(node), ast.If | ast.IfExp | ast.Return):
            yield "opposite", lambda n: _with(ops=[other()])(n)


def _calls(node: ast.Call, scope: Scope) -> Iterator[Change]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if isinstance(node.func, ast.Attribute):
        if (other := METHODS.get(name)) is not None:
            yield f"{name} -> {other}", lambda n: _with(func=ast.Attribute(n.func.value, other, ast.Load()))(n)
        for axis in (0, None):
            if keywords.get("axis", str(axis)) != str(axis):
                yield f"axis={axis}", _keyword("axis", axis)
        if "keepdims" in keywords:
            yield "keepdims=False", _keyword("keepdims", False)
    if name == "product":
        yield "times 1 + 1e-8", _scaled(1 + 1e-8)
    if name == "sum" and isinstance(node.func, ast.Name) and len(node.args) == 1:
        yield "first term alone", lambda n: _helped("first_of", n.args[0])
    if name == "sum" and isinstance(node.func, ast.Attribute) and "axis" in keywords and not node.args:
        yield "first term alone", lambda n: _helped("first_along", n.func.value, *_axis_and_keepdims(n))
    plain = [not isinstance(argument, ast.Starred) for argument in node.args]
    for place, pair in enumerate(pairwise(node.args)):
        kinds = {type(argument) for argument in pair}
        if all(plain[: place + 2]) and len(kinds) == 1 and ast.unparse(pair[0]) != ast.unparse(pair[1]):
            yield f"arguments {place + 1} and {place + 2} swapped", _exchanged("args", place)
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in SPARED:
            yield f"{keyword.arg} not passed on", _without("keywords", place)
    if len(node.args) > 1 and plain[-1] and isinstance(node.args[-1], ast.Name):
        yield "last argument not passed on", _without("args", -1)


def _axis_and_keepdims(node: ast.Call) -> list[ast.expr]:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    return [given["axis"], given.get("keepdims", ast.Constant(False))]


def _constants(node: ast.Constant, scope: Scope) -> Iterator[Change]:
    if type(node.value) in (int, float):
        yield "plus 1", _with(value=node.value + 1)
        if type(node.value) is int:
            # As its parts are, so that what is unparsed reads -1 again.
            less = ast.Constant(node.value - 1) if node.value else ast.UnaryOp(ast.USub(), ast.Constant(1))
            yield "minus 1", lambda n: less
        elif node.value:
            yield "times 1.0001", _with(value=node.value * 1.0001)
    elif type(node.value) is bool:
        yield "the other truth", _with(value=not node.value)


def _returns(node: ast.Return, scope: Scope) -> Iterator[Change]:
    value = node.value
    if value is None or isinstance(value, ast.Constant | ast.Name | ast.Attribute):
        yield "deleted", _nothing
    elif isinstance(value, ast.Tuple):
        if len(value.elts) > 1:
            yield "first two swapped", _of_field("value", _exchanged("elts", 0))
        yield "deleted", _nothing
    elif (
        isinstance(value, TRUTHS)
        or (isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not))
        or (
            isinstance(value, ast.Call)
            and getattr(value.func, "id", "") in ("any", "all", "isinstance", "bool", "hasattr")
        )
    ):
        yield "turned round", _of_field("value", _opposite)
    else:
        yield "negated", _of_field("value", lambda n: ast.UnaryOp(ast.USub(), n))


def _raises(node: ast.Raise, scope: Scope) -> Iterator[Change]:
    parent = scope.parent(node)
    alone = isinstance(parent, ast.If) and not parent.orelse and parent.body[-1] is node
    if not alone:  # else the guard's removal is as much
        yield "not raised", _nothing


def _loops(node: ast.For | ast.comprehension, scope: Scope) -> Iterator[Change]:
    yield "all but the last", _of_field("iter", lambda n: _helped("but_last", n))


def _neighbours(node: ast.AST, field: str, scope: Scope) -> Iterator[Change]:
    statements = getattr(node, field, None)
    if not isinstance(statements, list):
        return
    for place, (first, second) in enumerate(pairwise(statements)):
        if scope.order_matters(first, second):
            yield f"after: {ast.unparse(second).splitlines()[0][:50]}", _exchanged(field, place)
