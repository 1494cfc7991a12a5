"""Axis letters mean the same everywhere: those of the legend in `nn/functional.py`, and no others."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import npora
from npora.nn import functional

ROOT = Path(npora.__file__).parent
FILES = sorted(path for name in ("nn", "machine", "lora", "models", "optim") for path in (ROOT / name).rglob("*.py"))
_AXIS = re.compile(r"\d*[a-z]?(?:[·/](?:\d*[a-z]|\d+))*|\d+|[a-z0-9]\|\d*[a-z]|[a-z] ?[+−] ?[a-z0-9]|\.\.\.|…")
_SHAPE = re.compile(r"\[([^\[\]\n]+)\]")


def legend() -> set[str]:
    """The letters that the legend explains, each between backquotes."""
    return set(re.findall(r"`([a-z])`", functional.__doc__ or ""))


def said(text: str) -> Iterator[str]:
    """The comments and docstrings of a file."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def shapes(text: str) -> Iterator[str]:
    """What stands between brackets and is a shape: axes, of which each is a letter, a number or a product of these."""
    for found in _SHAPE.finditer(text):
        axes = [axis.strip() for axis in found[1].split(",")]
        if all(_AXIS.fullmatch(axis) and axis for axis in axes) and re.search("[a-z]", found[1]):
            yield found[1]


def test_the_legend_explains_letters() -> None:
    assert {"b", "t", "s", "h", "g", "d", "i", "o", "m", "f", "r", "v", "n"} <= legend()
    assert list(shapes("x [n,h·d], y [...,i/2] and [name] or [0], W [o,i], [1|b,h,t,s]")) == [
        "n,h·d", "...,i/2", "o,i", "1|b,h,t,s",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_uses_the_letters_of_the_legend(path: Path) -> None:
    for text in said(path.read_text(encoding="utf-8")):
        for shape in shapes(text):
            assert set(re.findall("[a-z]", shape)) <= legend(), f"[{shape}]"
