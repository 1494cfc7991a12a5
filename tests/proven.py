"""The ways to break a line that a sample takes on the files of SAMPLED: there an unexplained survivor is news."""

from __future__ import annotations

import ast

PROVEN = {
    "sign", "mult<->div", "left alone", "right alone", "operands swapped", "left transposed", "right transposed",
    "times 1 + 1e-8", "times 1.0005", "without the sign", "without .T", "other operator", "deleted",
    "condition turned round", "edge", "another axis", "keepdims=False", "plus 1", "times 1.0001", "first two swapped",
    "negated", "sum -> mean", "mean -> sum", "max -> min", "exp -> expm1",
}  # fmt: skip


def is_proven(node: ast.AST, operator: str, around: list[ast.AST]) -> bool:
    """Whether a sample takes this way on this node: not in constructors and the like, nor in guards."""
    if operator not in PROVEN or any(isinstance(n, ast.FunctionDef) and n.name.startswith("__") for n in around):
        return False
    if any(isinstance(n, ast.If) and isinstance(n.body[-1], ast.Raise) for n in [node, *around]):
        return False
    if operator == "deleted":
        return isinstance(node, ast.AugAssign | ast.Expr)
    if operator in ("left alone", "right alone"):
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div)
    return not isinstance(node, ast.While) and (operator != "times 1 + 1e-8" or isinstance(node, ast.BinOp))
