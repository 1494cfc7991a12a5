"""One thing changed in a formula: what people do by mistake, as edits of its source.

A factor or a term left out, a sign turned, another sum, another axis, another array in a place: each such edit of each
place is one hypothesis of what a wrong answer may be.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from npora.study.trees import number

LONGEST = 24  # characters of a formula that are shown, so that an answer does not show the solution
REDUCTIONS = ("sum", "mean", "max")
_OPPOSITE: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Div: ast.Mult(), ast.FloorDiv: ast.Mod(), ast.Mod: ast.FloorDiv(),
}  # fmt: skip
_COMPARED: dict[type[ast.cmpop], tuple[ast.cmpop, ...]] = {
    ast.Gt: (ast.Lt(), ast.GtE()), ast.Lt: (ast.Gt(), ast.LtE()), ast.GtE: (ast.LtE(), ast.Gt()),
    ast.LtE: (ast.GtE(), ast.Lt()), ast.Eq: (ast.NotEq(),), ast.NotEq: (ast.Eq(),),
}  # fmt: skip
SISTERS = {"sin": "cos", "cos": "sin", "exp": "log", "log": "exp"}


class Edit(NamedTuple):
    """An Edit says in words what is changed, and which node, by its number, becomes what."""

    words: str
    place: int
    to: ast.expr


def body_of(function: ast.FunctionDef) -> list[ast.AST]:
    return [node for statement in function.body for node in ast.walk(statement)]


def parents(body: list[ast.AST]) -> dict[int, ast.expr]:
    """The formula that each node stands in, by the node's id."""
    return {id(child): node for node in body if isinstance(node, ast.expr) for child in ast.iter_child_nodes(node)}


def inside(parent: ast.expr | None) -> str:
    """' in `x.T @ y`', where that is short"""
    return f" in {text(parent)}" if parent and len(ast.unparse(parent)) <= LONGEST else ""


def edits(function: ast.FunctionDef) -> Iterator[Edit]:
    """The usual mistakes at each place of a function."""
    body = body_of(function)
    around = parents(body)
    for node in body:
        for words, to in _at(node):
            parent = around.get(id(node)) if isinstance(node, ast.Constant) else None
            within = inside(around.get(id(parent)) if isinstance(parent, ast.UnaryOp) else parent)
            yield Edit(words + within, number(node), to)


def numpy(name: str, argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(ast.Name("np", ast.Load()), name, ast.Load()), [argument], [])


def copy_of(node: ast.expr) -> ast.expr:
    """An array of its own, which may be written to."""
    return numpy("array", node)


def axes(function: ast.AST) -> Iterator[tuple[str, list[Edit]]]:
    """Every sum and mean of a function over another axis, all at once."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _reduction(node)]
    first = function.args.args[0].arg if isinstance(function, ast.FunctionDef) and function.args.args else ""
    of_first = [node for node in calls if first in {n.id for n in ast.walk(node.func) if isinstance(n, ast.Name)}]
    for axis in (0, -1, None):
        for words, some in (("every sum", calls), (f"every sum of {first}", of_first)):
            found = [Edit("", number(node), _called(node, axis=ast.Constant(axis))) for node in some]
            yield f"with {words} {_over(axis)}", found
    for name, other in (("sum", "mean"), ("mean", "sum")):
        yield f"with every {name} a {other}", [_other_method(node, other) for node in calls if _method(node) == name]
    repeats = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _method(node) == "repeat"]
    yield "with whole copies (tile) where each is repeated (repeat)", [_tiled(node) for node in repeats]


def _method(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _other_method(node: ast.Call, name: str) -> Edit:
    assert isinstance(node.func, ast.Attribute)
    to = ast.Call(ast.Attribute(node.func.value, name, ast.Load()), node.args, node.keywords)
    return Edit("", number(node), to)


def _tiled(node: ast.Call) -> Edit:
    """x.repeat(n, axis) as n copies of x one behind the other."""
    assert isinstance(node.func, ast.Attribute)
    copies = ast.BinOp(ast.List([node.func.value], ast.Load()), ast.Mult(), node.args[0])
    joined = ast.Attribute(ast.Name("np", ast.Load()), "concatenate", ast.Load())
    return Edit("", number(node), ast.Call(joined, [copies], node.keywords))


def augmented(function: ast.FunctionDef) -> Iterator[Edit]:
    """What is added to a place, or taken from it, left out or with the other sign."""
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign):
            value = node.value
            yield Edit(f"without {text(value)} added or taken away", number(value), ast.Constant(0))
            yield Edit(f"with the sign of {text(value)} turned", number(value), ast.UnaryOp(ast.USub(), value))


def _at(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.BinOp):
        yield from _of_two(node)
    elif isinstance(node, ast.UnaryOp):
        yield (
            f"without the {'sign' if isinstance(node.op, ast.USub) else 'not'} before {text(node.operand)}",
            node.operand,
        )
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in _COMPARED.get(type(node.ops[0]), ()):
            other = ast.Compare(node.left, [op], node.comparators)
            yield f"where {text(other)}, and not {text(node)},", other
    elif isinstance(node, ast.Call):
        yield from _of_a_call(node)
    elif isinstance(node, ast.Attribute) and node.attr in SISTERS:
        yield f"with {SISTERS[node.attr]}, not {node.attr},", ast.Attribute(node.value, SISTERS[node.attr], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr == "inf":
        yield "with 0 where infinity is meant", ast.Constant(0.0)
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"with {text(node.value)} not transposed", node.value
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield from _of_a_number(node)


def _of_two(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    left, right, op = node.left, node.right, node.op
    if isinstance(op, ast.Mult | ast.Div):
        for bracket in (left, right):
            if isinstance(bracket, ast.BinOp) and isinstance(bracket.op, ast.Add | ast.Sub):
                one, two = bracket.left, bracket.right
                opened = (
                    ast.BinOp(one, bracket.op, ast.BinOp(two, op, right))
                    if bracket is left
                    else ast.BinOp(ast.BinOp(left, op, one), bracket.op, two)
                )
                yield f"without the bracket around {text(bracket)}", opened
    if isinstance(op, ast.Mult):
        yield f"without the factor {text(right)}", left
        yield f"without the factor {text(left)}", right
        yield f"with the factor {text(right)} twice", ast.BinOp(node, op, right)
        yield f"with the factor {text(left)} twice", ast.BinOp(left, op, node)
        yield f"with +, not a product, before {text(right)}", ast.BinOp(left, ast.Add(), right)
        yield from _doubled(node)
    elif isinstance(op, ast.Div):
        yield f"not divided by {text(right)}", left
        yield f"divided by {text(right)} twice", ast.BinOp(node, op, right)
        yield f"with {text(right)} alone in the place of the quotient", right
        yield from _doubled(node)
    elif isinstance(op, ast.Add | ast.Sub):
        if isinstance(right, ast.BinOp) and isinstance(right.op, ast.Pow):
            whole = ast.BinOp(ast.BinOp(left, op, right.left), ast.Pow(), right.right)
            yield f"with the power of the whole, not of {text(right.left)},", whole
        yield f"without the term {text(right)}", left
        signed = right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right)
        yield f"without the term {text(left)}", signed
        yield f"with the sign of {text(node)} alone", numpy("sign", node)
    elif isinstance(op, ast.Pow):
        yield f"with {text(left)} without its power", left
        yield f"with {text(left)} in the absolute", _function("abs", left)
        yield f"with {text(left)} times {text(right)}, not to that power,", ast.BinOp(left, ast.Mult(), right)
    elif isinstance(op, ast.MatMult):
        yield f"with {text(left)} transposed in a product", ast.BinOp(ast.Attribute(left, "T", ast.Load()), op, right)
    if type(op) in _OPPOSITE:
        sign = {ast.Add: "−, not +,", ast.Sub: "+, not −,", ast.Div: "a product, not a quotient,"}.get(
            type(op), "//, %,"
        )
        yield f"with {sign} before {text(right)}", ast.BinOp(left, _OPPOSITE[type(op)], right)


def _doubled(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    yield f"with twice {text(node)}", ast.BinOp(ast.Constant(2), ast.Mult(), node)
    yield f"with half of {text(node)}", ast.BinOp(node, ast.Div(), ast.Constant(2))


def _of_a_call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    method = node.func if isinstance(node.func, ast.Attribute) else None
    name = method.attr if method else node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "len" or name == "sum":
        for op, word in ((ast.Add(), "more"), (ast.Sub(), "less")):
            yield f"with one {word} than {text(node)}", ast.BinOp(node, op, ast.Constant(1))
    if method and _reduction(node):
        what = method.value
        yield f"with {text(what)} not summed", what
        for other in REDUCTIONS[:2]:
            if other != name:
                yield (
                    f"with a {other} where a {name} is meant",
                    ast.Call(ast.Attribute(what, other, ast.Load()), node.args, node.keywords),
                )
        for axis in (0, 1, -1, None):
            yield f"with a {name} {_over(axis)}", _called(node, axis=ast.Constant(axis))
        for place, number in (("first", 0), ("last", -1)):
            for words, part in _taken(node, number):
                yield f"with the {place} of the {name}{words} alone", part
    elif name == "where" and len(node.args) == 3:
        condition, one, two = node.args
        yield f"with {text(one)} everywhere", one
        yield (
            f"with the cases of {text(condition)} in each other's place",
            ast.Call(node.func, [condition, two, one], []),
        )
    elif name == "arange":
        yield (
            f"with every row in the place of each ({text(node)})",
            ast.Call(ast.Name("slice", ast.Load()), [ast.Constant(None)], []),
        )
    elif name in ("slice", "range"):
        for k, bound in enumerate(node.args):
            for op, word in ((ast.Add(), "more"), (ast.Sub(), "less")):
                moved = [*node.args[:k], ast.BinOp(bound, op, ast.Constant(1)), *node.args[k + 1 :]]
                yield f"with one {word} than {text(bound)} in a {name}", ast.Call(node.func, moved, node.keywords)
    elif name in ("tri", "tril", "triu", "eye"):
        size = node.args[0] if name in ("tri", "eye") else None
        for shift in (1, -1) if size else ():
            words = f"with the edge of the mask 1 too far {'right' if shift > 0 else 'left'}"
            arguments = [*node.args[:1], *(node.args[1:] or node.args[:1]), ast.Constant(shift)]
            yield words, ast.Call(node.func, arguments, [])
    elif len(node.args) == 1 and isinstance(node.args[0], ast.BinOp) and isinstance(node.args[0].op, ast.Add):
        inner, added = node.args[0].left, node.args[0].right
        outside = ast.BinOp(ast.Call(node.func, [inner], node.keywords), ast.Add(), added)
        yield f"with {text(added)} added to the {name}, not within it,", outside
        yield f"with {text(node.args[0])} itself in the place of {name or 'a function'} of it", copy_of(node.args[0])
    elif node.args and name not in ("zeros_like", "zeros", "arange", "len", "range", "enumerate", "zip"):
        yield f"with {text(node.args[0])} itself in the place of {name or 'a function'} of it", copy_of(node.args[0])
    elif method and name in ("repeat", "reshape", "swapaxes", "transpose"):
        yield f"without {name}", method.value


def _taken(node: ast.Call, number: int) -> Iterator[tuple[str, ast.expr]]:
    """The first or the last along the axis of a sum, in its place."""
    assert isinstance(node.func, ast.Attribute)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    axis = keywords.get("axis")
    if axis is None:
        return
    take = ast.Attribute(node.func.value, "take", ast.Load())
    if isinstance(axis, ast.Tuple):
        for k in range(len(axis.elts)):
            one = ast.Call(take, [ast.Constant(number)], [ast.keyword("axis", ast.Constant(k))])
            yield (
                f" over axis {k}",
                ast.Call(ast.Attribute(one, "sum", ast.Load()), [], [ast.keyword("axis", ast.Constant(0))]),
            )
        return
    index: ast.expr = ast.Constant(number)
    if "keepdims" in keywords:
        index = ast.List([index], ast.Load())
    yield "", ast.Call(take, [index], [ast.keyword("axis", axis)])


def _of_a_number(node: ast.Constant) -> Iterator[tuple[str, ast.expr]]:
    value = node.value
    assert isinstance(value, int | float)
    others = {1, -value, value + 1, value - 1, 2 * value, value / 2, 10 * value, value / 10} if value else {1, -1}
    for other in sorted(others - {value}):
        if type(value) is float or float(other).is_integer():
            yield f"with {other:g}, not {value:g},", ast.Constant(type(value)(other))


def without_numbers(node: ast.expr) -> ast.expr:
    """A copy that no further edit touches."""
    copied: ast.expr = ast.parse(ast.unparse(node), mode="eval").body
    return copied


def _reduction(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in REDUCTIONS


def _called(node: ast.Call, **keywords: ast.expr) -> ast.expr:
    """The same call, with keywords of other values."""
    kept = [keyword for keyword in node.keywords if keyword.arg not in keywords]
    return ast.Call(node.func, node.args, [*kept, *(ast.keyword(name, value) for name, value in keywords.items())])


def _function(name: str, argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [argument], [])


def _over(axis: int | None) -> str:
    return "over all elements" if axis is None else "over the last axis" if axis == -1 else f"over axis {axis}"


def text(node: ast.expr) -> str:
    """A formula as it is written, where that is short; of a long one, what it is made of."""
    written = ast.unparse(node).replace("np.", "")
    if len(written) <= LONGEST:
        return f"`{written}`"
    names = dict.fromkeys(
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id not in ("np", "math") and n.id[0] != "_"
    )
    return f"what is made of {', '.join(names)}"
