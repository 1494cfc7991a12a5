"""Text that every machine with Python has: the standard library, as English prose and as source."""

from __future__ import annotations

import ast
import inspect
import io
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Tests, tables, texts in strings, and what is not installed everywhere.
_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "encodings", "pydoc_data"}
_SHORTEST = 60  # characters of a paragraph; most shorter ones are labels
_PLAIN = 0.93  # the share of letters, spaces and ,.' in prose; signatures, tables and examples have less

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def stdlib_prose(most: int | None = None) -> str:
    """Paragraphs of prose from the docstrings of the standard library, each once; `most` characters, or all."""
    paragraphs = (part for tree, _ in _modules() for doc in _docstrings(tree) for part in _paragraphs(doc))
    return _joined(paragraphs, most)


def stdlib_source(most: int | None = None) -> str:
    """The code of the standard library without docstrings, comments and empty lines; `most` characters, or all."""
    return _joined((_without_prose(tree, source) for tree, source in _modules()), most)


def _joined(parts: Iterator[str], most: int | None) -> str:
    chosen: dict[str, None] = {}  # without repetitions, in order
    size = 0
    for part in parts:
        if part and part not in chosen:
            chosen[part] = None
            size += len(part) + 2
            if most is not None and size >= most:
                break
    return "\n\n".join(chosen)[:most]


def _modules() -> Iterator[tuple[ast.Module, str]]:
    """In an order that is drawn, always the same: any stretch of the text is a sample of the whole library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if not _SKIPPED & set(path.relative_to(root).parts))
    for index in np.random.default_rng(0).permutation(len(paths)):
        if paths[index].name.startswith("_sysconfigdata"):  # this machine's paths and flags
            continue
        try:
            source = paths[index].read_text(encoding="utf-8")
            yield ast.parse(source), source
        except (OSError, SyntaxError, ValueError):
            continue


def _documented(tree: ast.Module) -> Iterator[tuple[_Documented, ast.Expr]]:
    """Modules, classes and functions, each with the statement that is its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, _Documented) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                yield node, first


def _docstrings(tree: ast.Module) -> Iterator[str]:
    return (inspect.cleandoc(ast.literal_eval(statement.value)) for _, statement in _documented(tree))


def _paragraphs(doc: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n", doc):
        text = "\n".join(line.strip() for line in part.splitlines())
        plain = sum(letter.isalpha() or letter in " \n,.'" for letter in text)
        if len(text) >= _SHORTEST and plain >= _PLAIN * len(text) and text[-1] in ".:!?" and ">>>" not in text:
            yield text


def _without_prose(tree: ast.Module, source: str) -> str:
    lines = source.split("\n")  # as tokens count them: splitlines() would split at form feeds too
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):
        return ""
    for node, statement in _documented(tree):
        start, end = statement.lineno - 1, statement.end_lineno or statement.lineno
        body = "pass" if len(node.body) == 1 and not isinstance(node, ast.Module) else ""
        lines[start:end] = [lines[start][: statement.col_offset] + body] + [""] * (end - start - 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
