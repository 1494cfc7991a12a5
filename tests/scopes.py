"""What can be seen from a node of a syntax tree: what is around it, and what else could have been written there."""

from __future__ import annotations

import ast


class Scope:
    """A file's tree, with each node's parent."""

    def __init__(self, tree: ast.Module) -> None:
        self.parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.functions: dict[int, tuple[dict[str, tuple[int, str]], list[str]]] = {}

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self.parents.get(id(node))

    def around(self, node: ast.AST) -> list[ast.AST]:
        """The nodes that hold this one, the innermost first."""
        found = []
        while (above := self.parent(node)) is not None:
            found.append(node := above)
        return found

    def other_name(self, node: ast.Name) -> str | None:
        """Of the names of the functions around that are of one kind with this, the one that was bound just before it,
        or else just after it and still before this line. Of one kind: parameters with one annotation; local names."""
        functions = [above for above in self.around(node) if isinstance(above, ast.FunctionDef)]
        bound: dict[str, tuple[int, str]] = {}
        for function in reversed(functions):
            bound |= self._bound(function)[0]
        if node.id not in bound:
            return None
        line, kind = bound[node.id]
        alike = sorted((at, name) for name, (at, other) in bound.items() if other == kind and at < node.lineno)
        before = [name for at, name in alike if (at, name) < (line, node.id)]
        after = [name for at, name in alike if (at, name) > (line, node.id)]
        return before[-1] if before else after[0] if after else None

    def other_flag(self, node: ast.expr) -> str | None:
        """Where this is asked for its truth: another name, or another attribute of self, that its function asks so."""
        functions = [above for above in self.around(node) if isinstance(above, ast.FunctionDef)]
        if not functions or not self._is_asked(node):
            return None
        flags = self._bound(functions[0])[1]
        own = ast.unparse(node)
        return next((flag for flag in flags if flag != own), None) if own in flags else None

    def _is_asked(self, node: ast.AST) -> bool:
        above = self.parent(node)
        if isinstance(above, ast.UnaryOp) and isinstance(above.op, ast.Not):
            return self._is_asked(above) or isinstance(node, ast.Name | ast.Attribute)
        if isinstance(above, ast.BoolOp):
            return True
        return isinstance(above, ast.If | ast.IfExp | ast.While) and above.test is node

    def _bound(self, function: ast.FunctionDef) -> tuple[dict[str, tuple[int, str]], list[str]]:
        """(each name that this function binds, with its line and kind; what it asks for its truth)."""
        if id(function) not in self.functions:
            bound: dict[str, tuple[int, str]] = {}
            arguments = function.args
            for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                kind = ast.unparse(argument.annotation) if argument.annotation is not None else "self"
                bound[argument.arg] = (function.lineno - 1, kind)
            flags = [name for name, (_, kind) in bound.items() if kind == "bool"]
            for node in _own(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in bound:
                    above = next((n for n in self.around(node) if isinstance(n, ast.comprehension | ast.stmt)), None)
                    if not isinstance(above, ast.comprehension):
                        bound[node.id] = (node.lineno, "a local name")
                if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                    written = ast.unparse(node)
                    if self._is_asked(node) and written not in flags:
                        flags.append(written)
            bound.pop("self", None)
            bound.pop("_", None)
            self.functions[id(function)] = bound, flags
        return self.functions[id(function)]

    def order_matters(self, first: ast.stmt, second: ast.stmt) -> bool:
        """Both can stand in either order, and it may be seen in which: the second writes what the first reads or
        writes, or the first changes, in place or by a call, what the second reads."""
        simple = (ast.Expr, ast.Assign, ast.AugAssign, ast.If, ast.For, ast.With, ast.Delete)
        if not (isinstance(first, simple) and isinstance(second, simple)) or _is_text(first):
            return False
        if _is_call(first) and _is_call(second):
            return bool(_used(first)[2] & _used(second)[2])
        names, changed, read = _used(first)
        names2, changed2, read2 = _used(second)
        if names & read2:
            return False  # what is not bound yet would be read
        return bool((names2 & read) | (changed & (read2 | changed2)) | (changed2 & read))


def _own(function: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a function, but not of those inside it."""
    found: list[ast.AST] = []
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop(0)
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            left = [*ast.iter_child_nodes(node), *left]
    return found


def _is_call(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _used(statement: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """(names it binds, what it may change otherwise, what it reads): names, and attributes of names."""
    bound, changed, read = set(), set(), set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            changed.add(ast.unparse(node))
        elif isinstance(node, ast.Attribute):
            read.add(ast.unparse(node))
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed.add(ast.unparse(node.value))
        elif isinstance(node, ast.AugAssign):
            changed.add(ast.unparse(node.target))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        if isinstance(function, ast.Attribute):  # a method that is called for its effect changes its object
            changed.add(ast.unparse(function.value))
    return bound, changed, read
