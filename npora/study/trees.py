"""The syntax tree of a function, of which each node has a number and can be replaced."""

from __future__ import annotations

import ast
import operator
from typing import Any


def numbered(tree: ast.AST, first: int = 0) -> int:
    """Number the nodes of a tree from `first` on, for good, each before what is in it; return the next number."""
    after = first + 1
    for child in ast.iter_child_nodes(tree):
        after = numbered(child, after)
    tree.number, tree.after = first, after  # type: ignore[attr-defined]
    return after


def replaced(node: ast.AST, by: dict[int, ast.expr]) -> ast.AST:
    """The tree with some nodes, by their numbers, replaced; what is put there may contain nodes that are replaced.

    What is not changed is shared with the tree; by loses what was found.
    """
    while number(node) in by:
        node = ast.fix_missing_locations(by.pop(number(node)))
    after = getattr(node, "after", None)
    if after and not any(number(node) < place < after for place in by):
        return node
    changed: dict[str, Any] = {}
    for field, old in ast.iter_fields(node):
        if isinstance(old, list):
            new = [replaced(x, by) if isinstance(x, ast.AST) else x for x in old]
            changed |= {} if all(map(operator.is_, new, old)) else {field: new}
        elif isinstance(old, ast.AST) and (one := replaced(old, by)) is not old:
            changed[field] = one
    if not changed:
        return node
    copied = type(node)(**{**dict(ast.iter_fields(node)), **changed})
    return ast.copy_location(copied, node)


def number(node: ast.AST) -> int:
    found: int = getattr(node, "number", -1)
    return found
