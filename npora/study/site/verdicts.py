"""The verdicts of gradcheck on the catalogue's rows, computed when the pages are made, and kept until a source changes;
and those of optimisers, which take no time.

A verdict depends on the files that its layer's modules import, one through another, on the bench, the catalogue,
NumPy and Python: the digest of all these stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from npora.catalogue import TABLE, Drawn, Row
from npora.check import gradcheck
from npora.files.atomic import write_atomically
from npora.lora import PeftModel
from npora.lora.adapted import Adapted
from npora.nn import Module
from npora.study.site.experiments import curve_of, planted
from npora.study.site.rules import rules
from npora.study.site.sources import ROOT, Page, read

Verdict = dict[str, Any]  # a Report as JSON; under "curve" and "planted" what `experiments` has found
Verdicts = dict[tuple[str, str], list[tuple[str, Verdict]]]  # (page, definition) → (row, verdict)
_BENCH = ("check", "catalogue")


def verdicts_of(
    pages: Iterable[Page], folder: Path, step: Callable[[str], None], only: set[str] | None = None
) -> Verdicts:
    """The verdicts of all rows, or of those on the pages `only`. folder: where they are kept; step: told of each row
    that is computed."""
    homes = Homes(pages)
    found: Verdicts = {}
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {row: row.draw() for row in TABLE}
    home = {row: homes.of(row, drawn[row][0]) for row in TABLE}
    experiments = _with_experiments(home, drawn)
    for row in TABLE:
        if only is None or home[row][0] in only:
            verdict = _kept(row, drawn[row], row in experiments, folder, step)
            found.setdefault(home[row], []).append((row.name, verdict))
    found |= {home: rows for home, rows in rules().items() if only is None or home[0] in only}
    return {home: sorted(rows, key=lambda row: "," in row[0]) for home, rows in found.items()}


def _with_experiments(home: Mapping[Row, tuple[str, str]], drawn: Mapping[Row, Drawn]) -> set[Row]:
    """Whose V-curve and planted errors are shown: each layer and function, and on a page that has none the model that
    comes first, or else a part of one."""
    chosen = {row for row in home if row.listed and not _is_of_models(drawn[row][0])}
    pages = {home[row][0] for row in chosen}
    for row in sorted(home, key=lambda row: (not row.listed, not row.name.islower())):
        if home[row][0] not in pages and not isinstance(drawn[row][0], PeftModel):
            pages.add(home[row][0])
            chosen.add(row)
    return chosen


def _is_of_models(layer: Any) -> bool:
    return bool(subject_of(layer).__module__.startswith("npora.models."))


def subject_of(layer: Any) -> Any:
    """The class or function that a row is about: of an adapted layer its adapter, of an adapted model its base."""
    if isinstance(layer, Adapted) and layer.adapters:
        return type(next(iter(layer.adapters.values())))
    if isinstance(layer, PeftModel):
        return type(layer.get_base_model())
    return type(layer) if isinstance(layer, Module) else layer


class Homes:
    """Where the verdict of a row stands: with its class or function, or, where the catalogue wraps that, with the one
    that it is named after or the row that it varies."""

    def __init__(self, pages: Iterable[Page]) -> None:
        places = [(page, definition) for page in pages for definition in page.outer]
        self._defined = {(page.module, d.name): (page.name, d.name) for page, d in places}
        self._named = {d.name: (page.name, d.name) for page, d in places}
        self._rows: dict[str, tuple[str, str]] = {}

    def of(self, row: Row, layer: Any) -> tuple[str, str]:
        """(page, definition). Raises LookupError for a row that has none."""
        subject, base = subject_of(layer), row.name.split(",")[0]
        found = [self._defined.get((subject.__module__, subject.__name__)), self._rows.get(base)]
        found += [self._named.get(word) for word in base.split()]
        home = next((home for home in found if home is not None), None)
        if home is None:
            raise LookupError(f"no page defines what {row.name!r} of the catalogue checks, {subject.__name__}")
        self._rows[row.name] = home
        return home


def _kept(row: Row, drawn: Drawn, experiments: bool, folder: Path, step: Callable[[str], None]) -> Verdict:
    path = folder / f"{hashlib.sha256(row.name.encode()).hexdigest()[:16]}.json"
    digest = _digest(row, drawn[0])
    if path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            kept = {}
        if kept.get("digest") == digest:
            return dict(kept["verdict"])
    step(row.name)
    layer, inputs, keywords = drawn
    verdict: Verdict = json.loads(gradcheck(layer, *inputs, **keywords).to_json())
    if experiments:
        verdict |= {"curve": curve_of(drawn), "planted": planted(drawn)}
    write_atomically(path, [json.dumps({"digest": digest, "verdict": verdict}).encode()])
    return verdict


def _digest(row: Row, layer: Any) -> str:
    modules = {type(m).__module__ for _, m in layer.named_modules()} if isinstance(layer, Module) else set()
    modules |= {subject_of(layer).__module__, type(layer).__module__}
    files = {file for module in modules if module.startswith("npora.") for file in closure(file_of(module) or ROOT)}
    files |= {file for folder in _BENCH for file in (ROOT / folder).rglob("*.py")}
    files |= {Path(__file__), Path(__file__).with_name("experiments.py")}
    sha = hashlib.sha256(f"{row.name} {np.__version__} {platform.python_version()}".encode())
    for file in sorted(files):
        sha.update(f"{file.relative_to(ROOT)} {_digest_of(file)}".encode())
    return sha.hexdigest()


@cache
def _digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def file_of(module: str) -> Path | None:
    """The file of a module of npora, where there is one."""
    place = ROOT.parent.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def closure(file: Path) -> frozenset[Path]:
    """The file, and all files of npora that it imports, one through another."""
    found: set[Path] = set()
    left = [file] if file.is_file() else []
    while left:
        found.add(file := left.pop())
        left += [other for other in _imports(file) if other not in found]
    return frozenset(found)


@cache
def _imports(file: Path) -> frozenset[Path]:
    imported = read(file).imported.values()
    modules = {module for module, _ in imported} | {f"{module}.{name}" for module, name in imported}
    return frozenset(found for module in modules if (found := file_of(module)) is not None and found.parent != ROOT)
