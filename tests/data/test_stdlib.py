"""Text from the standard library: prose that is prose, and source that is still Python."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
from itertools import islice
from pathlib import Path

import pytest

from npora.data import stdlib
from npora.data.stdlib import stdlib_prose, stdlib_source

MODULE = '''#!/usr/bin/env python
"""A module about spam, which is written out here in one paragraph of prose.

    spam(eggs=3) -> {'ham': [1, 2], 'spam': 0x7F}   # an example is not prose

>>> spam(3)
The answer of the function, which looks as if it were a sentence of English prose.

Short label.
"""
import os  # a comment
\f
class Spam(Exception):
    """Raised where there is no spam left, and where there never was any at all."""

def spam(eggs):
    """Return the eggs that were given, after each of them was looked at twice.

    | a | table | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 |
    """
    # another comment
    return eggs, "# no comment", """no
docstring"""

def ham(): "Raised where there is no spam left, and where there never was any at all."
'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of one module."""
    (tmp_path / "spam.py").write_text(MODULE)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_prose_is_the_docstrings_paragraphs_each_once_without_examples_tables_and_labels(library: Path) -> None:
    assert stdlib_prose() == (
        "A module about spam, which is written out here in one paragraph of prose.\n\n"
        "Raised where there is no spam left, and where there never was any at all.\n\n"
        "Return the eggs that were given, after each of them was looked at twice."
    )


def test_source_is_the_code_without_docstrings_comments_and_empty_lines(library: Path) -> None:
    assert stdlib_source().splitlines() == [
        "import os", "class Spam(Exception):", "    pass", "def spam(eggs):", '    return eggs, "# no comment", """no',
        'docstring"""', "def ham(): pass",
    ]  # fmt: skip


def test_what_cannot_be_read_and_what_is_no_part_of_the_library_is_passed_over(library: Path) -> None:
    before = stdlib_source(), stdlib_prose()
    (library / "broken.py").write_text("def :")
    (library / "latin.py").write_bytes(b"# caf\xe9\n")
    (library / "_sysconfigdata__linux_.py").write_text("build_time_vars = {}")
    (library / "site-packages").mkdir()
    (library / "site-packages" / "other.py").write_text("x = 1")
    (library / "again.py").write_text(MODULE)
    assert (stdlib_source(), stdlib_prose()) == before


def test_this_pythons_library_has_enough_of_both_and_gives_the_same_text_each_time() -> None:
    prose, source = stdlib_prose(300_000), stdlib_source(300_000)
    assert len(prose) == len(source) == 300_000
    assert stdlib_prose(50_000) == prose[:50_000] and stdlib_source(50_000) == source[:50_000]
    assert ">>>" not in prose and prose.count(" the ") > 2_000
    assert sum(letter.isalpha() or letter in " \n,.'" for letter in prose) > 0.93 * len(prose)


def test_the_cleaned_source_of_every_module_is_python_without_a_docstring_or_comment() -> None:
    cleaned = [stdlib._without_prose(tree, source) for tree, source in islice(stdlib._modules(), 80)]
    assert sum(map(len, cleaned)) > 100_000
    for code in cleaned:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                assert ast.get_docstring(node) is None
        assert all(token.type != tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(code).readline))
