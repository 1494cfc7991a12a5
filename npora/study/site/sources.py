"""Which files of npora are pages, and what they define. Sources are read, and nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import npora

ROOT = Path(npora.__file__).parent
# Whole folders; of other files those that have a layer, or an equation with a number.
FOLDERS = {
    "nn": "Layers and functions", "lora/methods": "Adapter methods", "lora/starts": "Where adapters start",
    "optim": "Optimisers", "models/families": "Model families",
}  # fmt: skip
OTHERS = ("lora", "models", "stored")
LOSSES, BESIDE = "Losses", "Beside them"
EQUATION = re.compile(r"(?<=  )\((\d+)\)(?=\s|$)")

Node = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Definition:
    """A class or function.

    name : with the classes or functions around it, as `LoRA.forward`
    first, last : its lines, decorators among them
    doc : its docstring, without the indentation
    doc_lines : the lines of the docstring; empty where there is none
    bases : the names of a class's bases
    names : all names that it reads
    """

    name: str
    first: int
    last: int
    doc: str
    doc_lines: range
    bases: tuple[str, ...]
    names: frozenset[str]

    @property
    def is_inner(self) -> bool:
        return "." in self.name

    @property
    def is_public(self) -> bool:
        return bool(self.doc) and not self.name.startswith("_")


@dataclass(frozen=True)
class Page:
    """A file: `name` is its path without the suffix, as nn/linear."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @property
    def module(self) -> str:
        return f"npora.{self.name.replace('/', '.')}"

    @property
    def group(self) -> str:
        """What the index lists it under."""
        folder = self.name.rpartition("/")[0]
        if folder == "nn" and not any(d.name in public_names() for d in self.definitions):
            return BESIDE
        losses = folder == "nn" and any(re.search(r"_loss|entropy", d.name) for d in self.definitions)
        return LOSSES if losses else FOLDERS.get(folder, BESIDE)

    @cached_property
    def definitions(self) -> tuple[Definition, ...]:
        """Those of the file, and behind each those inside it."""
        return tuple(_definitions(self.tree, ""))

    @property
    def outer(self) -> list[Definition]:
        return [definition for definition in self.definitions if not definition.is_inner]

    def around(self, line: int) -> list[Definition]:
        """The definitions around a line, the innermost first."""
        found = [d for d in self.definitions if d.first <= line <= d.last]
        return sorted(found, key=lambda d: d.last - d.first)

    @cached_property
    def imported(self) -> Mapping[str, tuple[str, str]]:
        """(module, name) of each name that is imported from npora."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        return {
            alias.asname or alias.name: (node.module, alias.name)
            for node in nodes if node.module is not None and node.module.startswith("npora")
            for alias in node.names
        }  # fmt: skip


def _definitions(node: ast.AST, prefix: str) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Node):
            yield from _definitions(child, prefix)
            continue
        name = prefix + child.name
        first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
        doc, lines = ast.get_docstring(child), range(0)
        if doc is not None:
            lines = range(child.body[0].lineno, (child.body[0].end_lineno or 0) + 1)
        bases = child.bases if isinstance(child, ast.ClassDef) else []
        names = frozenset(found.id for found in ast.walk(child) if isinstance(found, ast.Name))
        yield Definition(
            name, first, child.end_lineno or first, doc or "", lines, tuple(map(ast.unparse, bases)), names
        )
        yield from _definitions(child, f"{name}.")


@cache
def pages(root: Path = ROOT) -> tuple[Page, ...]:
    """The pages, by folder and name."""
    found: list[Page] = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.py")):
            page = read(path, root)
            if page.definitions and path.name != "__init__.py":
                found.append(page)
    known = {page.name for page in found}
    for folder in OTHERS:
        for path in sorted((root / folder).rglob("*.py")):
            page = read(path, root)
            if page.name not in known and any(_derives(definition, page) for definition in page.definitions):
                found.append(page)
    return tuple(found)


def _derives(definition: Definition, page: Page) -> bool:
    is_layer = any(page.imported.get(base, ("", ""))[0].startswith("npora.nn.") for base in definition.bases)
    return is_layer or definition.name.endswith(".forward") or EQUATION.search(definition.doc) is not None


@cache
def public_names(root: Path = ROOT) -> frozenset[str]:
    """What npora.nn and npora.nn.functional offer."""
    return frozenset(
        name for file in ("__init__", "functional") for name in read(root / "nn" / f"{file}.py", root).imported
    )


@cache
def read(path: Path, root: Path = ROOT) -> Page:
    return Page(path.relative_to(root).with_suffix("").as_posix(), path.read_text(encoding="utf-8"))
