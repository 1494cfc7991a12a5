"""Another name, or another formula, in a place: what is read by mistake, as edits of a formula's source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations

from npora.study.edits import SISTERS, Edit, body_of, copy_of, inside, numpy, parents, text, without_numbers
from npora.study.trees import number

MOST = 12  # formulas of a function that are tried as a factor more


def misread(function: ast.FunctionDef) -> Iterator[Edit]:
    """One place of a function at a time, what stands for the wrong thing there."""
    body = body_of(function)
    for node in body:
        yield from _bare(node)
        yield from _wrapped(node)
    yield from _renamed(function, body)


def _wrapped(node: ast.AST) -> Iterator[Edit]:
    """A function put on what is read or called."""
    if isinstance(node, ast.Name | ast.Call) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        if ast.unparse(node.func if isinstance(node, ast.Call) else node) in ("np", "math", "len"):
            return
        bare = without_numbers(node)
        for words, to in (
            (f"log of {text(node)}", numpy("log", bare)), (f"exp of {text(node)}", numpy("exp", bare)),
            (f"the root of {text(node)}", numpy("sqrt", bare)),
            (f"the square of {text(node)}", ast.BinOp(bare, ast.Pow(), ast.Constant(2))),
            (f"1 over {text(node)}", ast.BinOp(ast.Constant(1), ast.Div(), bare)),
            (f"1 less {text(node)}", ast.BinOp(ast.Constant(1), ast.Sub(), bare)),
            (f"the sign of {text(node)}", numpy("sign", bare)),
            (f"the sum of {text(node)} over the last axis", _along_the_last(bare, "sum")),
            (f"the mean of {text(node)} over the last axis", _along_the_last(bare, "mean")),
            (f"the mean of all of {text(node)}", numpy("mean", bare)),
        ):  # fmt: skip
            yield Edit(f"with {words} in the place of {text(node)}", number(node), to)


def _along_the_last(node: ast.expr, name: str) -> ast.expr:
    call = numpy(name, node)
    assert isinstance(call, ast.Call)
    call.keywords = [ast.keyword("axis", ast.Constant(-1)), ast.keyword("keepdims", ast.Constant(True))]
    return call


def exchanged(function: ast.FunctionDef) -> Iterator[tuple[str, list[Edit]]]:
    """Two names, or sin and cos, in each other's place within one formula."""
    for node in ast.walk(function):
        if not isinstance(node, ast.expr) or isinstance(node, ast.Name | ast.Constant):
            continue
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id not in ("np", "math")]
        for one, other in combinations(dict.fromkeys(n.id for n in names), 2):
            to = {one: other, other: one}
            found = [Edit("", number(n), ast.Name(to[n.id], n.ctx)) for n in names if n.id in to]
            yield f"with {one} and {other} in each other's place in {text(node)}", found
    waves = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.attr in ("sin", "cos")]
    swapped = [Edit("", number(n), ast.Attribute(n.value, SISTERS[n.attr], n.ctx)) for n in waves]
    yield "with sin and cos in each other's place", swapped


def _bare(node: ast.AST) -> Iterator[Edit]:
    """A formula's own argument in its place: σ(z) left at z."""
    if isinstance(node, ast.BinOp | ast.Call | ast.UnaryOp):
        names = dict.fromkeys(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id not in ("np", "math"))
        for name in names:
            words = f"with {name} itself in the place of {text(node)}"
            yield Edit(words, number(node), copy_of(ast.Name(name, ast.Load())))
            if len(names) == 1:
                words = f"with tanh of {name} in the place of {text(node)}"
                yield Edit(words, number(node), numpy("tanh", ast.Name(name, ast.Load())))


def throughout(function: ast.FunctionDef) -> Iterator[tuple[str, list[Edit]]]:
    """One name in the place of another wherever a function reads it."""
    loaded = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names = [*dict.fromkeys([argument.arg for argument in function.args.args] + sorted(stored))]
    for one in names:
        places = [node for node in loaded if node.id == one]
        for other in names if len(places) > 1 else ():
            if other != one:
                found = [Edit("", number(node), ast.Name(other, ast.Load())) for node in places]
                yield f"with {other} in the place of {one} throughout", found


def _renamed(function: ast.FunctionDef, body: list[ast.AST]) -> Iterator[Edit]:
    """Another name, or another of the function's expressions, in the place of a name."""
    given = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    called = {node.func.id for node in body if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    local = [node.id for node in body if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names = [name for name in dict.fromkeys([*given, *local]) if name not in called]
    small = {
        ast.unparse(node): node
        for node in body
        if isinstance(node, ast.expr) and not isinstance(node, ast.Constant | ast.Tuple | ast.Starred | ast.Slice)
        and 1 < sum(isinstance(n, ast.Name | ast.Constant | ast.BinOp) for n in ast.walk(node)) < 9
        and not isinstance(getattr(node, "ctx", None), ast.Store)
    }  # fmt: skip
    around = parents(body)
    for node in body:
        if isinstance(node, ast.Constant) and isinstance(around.get(id(node)), ast.BinOp) and len(small) <= 3 * MOST:
            for other in small.values():
                words = f"with {text(other)} in the place of {text(node)}{inside(around.get(id(node)))}"
                yield Edit(words, number(node), without_numbers(other))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            within = inside(around.get(id(node)))
            for name in names:
                if name != node.id:
                    words = f"with {name} in the place of {node.id}{within}"
                    yield Edit(words, number(node), ast.Name(name, ast.Load()))
            for other in small.values() if len(small) <= 3 * MOST else ():
                words = f"with {text(other)} in the place of {node.id}{within}"
                yield Edit(words, number(node), without_numbers(other))
                if len(small) > MOST:
                    continue
                product = ast.BinOp(ast.Name(node.id, ast.Load()), ast.Mult(), without_numbers(other))
                yield Edit(f"with {text(other)} as one factor more, beside {node.id}{within}", number(node), product)
