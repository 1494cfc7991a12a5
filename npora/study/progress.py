"""What has been solved, and which hints were taken: one small file in the user's cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npora.files.json import read_json, write_json
from npora.study.exercises import EXERCISES


def read(path: Path) -> dict[str, dict[str, Any]]:
    """By exercise, {"right": bool, "tries": int, "hints": int}; empty where there is no file.

    Raises
    ------
    ValueError: the file holds something else; OSError: it cannot be read.
    """
    if not path.exists():
        return {}
    found = read_json(path)
    for name, entry in found.items():
        if not isinstance(entry, dict) or not all(isinstance(x, bool | int) for x in entry.values()):
            raise ValueError(f"{path} is no record of exercises, at {name!r}: remove it, and begin a new one")
    return {name: entry for name, entry in found.items() if name in EXERCISES}


def tried(path: Path, name: str, right: bool) -> None:
    """Write down that an answer was judged. What was right once stays so."""
    _change(path, name, lambda entry: {
        **entry, "right": bool(entry.get("right")) or right, "tries": entry.get("tries", 0) + 1
    })  # fmt: skip


def next_hint(path: Path, name: str, most: int) -> int:
    """The number of the hint that comes next, which is written down as taken; the last one again, where all are."""
    step: int = min(read(path).get(name, {}).get("hints", 0) + 1, most)
    _change(path, name, lambda entry: {**entry, "hints": step})
    return step


def _change(path: Path, name: str, change: Any) -> None:
    found = read(path)
    found[name] = change(found.get(name, {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
