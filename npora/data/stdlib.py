"""Text that every machine with Python has: the standard library, as English prose and as source."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "encodings"}
_SHORTEST = 80  # characters of a docstring; most shorter ones are labels


def stdlib_prose() -> str:
    """The docstrings of the standard library, one after another."""
    return "\n\n".join(doc for tree, _ in _modules() for doc in _docstrings(tree))


def stdlib_source() -> str:
    """The code of the standard library without its docstrings and comments."""
    return "\n\n".join(code for tree, source in _modules() if (code := _without_prose(tree, source)))


def _modules() -> Iterator[tuple[ast.Module, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED & set(path.relative_to(root).parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            yield ast.parse(source), source
        except (OSError, SyntaxError, ValueError):
            continue


def _documented(tree: ast.Module) -> Iterator[ast.Expr]:
    """The statements that are docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                yield first


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for statement in _documented(tree):
        text = str(ast.literal_eval(statement.value))
        lines = [line.strip() for line in text.strip().splitlines()]
        if len(text) >= _SHORTEST and ">>>" not in text:  # an example is code
            yield "\n".join(lines)


def _without_prose(tree: ast.Module, source: str) -> str:
    lines = source.splitlines()
    for statement in _documented(tree):
        for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
            lines[number] = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column].rstrip()
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return ""
    return "\n".join(line for line in lines if line.strip())
