"""The modules of examples/benchmarks, which is no package, and their workloads at toy sizes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
sys.path.insert(0, str(FOLDER))
bridged, busy, compare, floor, generation, gradcheckers, process, report, scaling, stored, with_npora, workloads = map(
    import_module,
    (
        "bridged",
        "busy",
        "compare",
        "floor",
        "generation",
        "gradcheckers",
        "process",
        "report",
        "scaling",
        "stored",
        "with_npora",
        "workloads",
    ),
)
NAMES = [workload.name for workload in workloads.WORKLOADS]


def toy(name: str) -> Any:
    return workloads.toy(next(workload for workload in workloads.WORKLOADS if workload.name == name))


def start(workload: Any, side: Any, folder: Path) -> tuple[Any, Any]:
    """`side.start`, on a prepared folder; skips the test where npora has no such family yet."""
    try:
        workloads.prepare(workload, folder, 2)
        started: tuple[Any, Any] = side.start(workload, folder)
    except LookupError as why:
        pytest.skip(str(why))
    return started
