"""npora imported so that each of its functions notes that it is entered, in every thread, by a `set.add`."""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

from tests.mutations import ROOT, Key, key_of

Function = tuple[str, Key]  # its file, and (first line, name)


class Served(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves modules from trees of one's own."""

    def tree(self, path: str) -> ast.Module | None:
        """That of this file of the project; None leaves it to others."""
        raise NotImplementedError

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] != "npora":
            return None
        place = ROOT.joinpath(*name.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        tree = self.tree(str(file.relative_to(ROOT))) if file.is_file() else None
        if tree is None:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=str(file), is_package=place.is_dir())
        spec.has_location = True
        if place.is_dir():
            spec.submodule_search_locations = [str(place)]
        spec.loader_state = compile(tree, str(file), "exec")
        return spec

    def exec_module(self, module: Any) -> None:
        exec(module.__spec__.loader_state, module.__dict__)


class _Noting(Served):
    def tree(self, path: str) -> ast.Module:
        tree = ast.parse(Path(ROOT, path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                note = ast.parse(f"__entered__({(path, key_of(node))!r})").body[0]
                ast.increment_lineno(note, node.body[0].lineno - 1)
                has_text = ast.get_docstring(node, clean=False) is not None
                node.body.insert(1 if has_text else 0, note)
        return ast.fix_missing_locations(tree)


def note_entered() -> set[Function]:
    """What will hold the functions of npora that have been entered. To be called before npora is imported."""
    entered: set[Function] = set()
    builtins.__entered__ = entered.add  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Noting())
    return entered
