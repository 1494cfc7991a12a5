"""The folder of a run: what finetune writes there, and that one run does not write over another."""

from __future__ import annotations

import os
import re
import shutil

from npora.files.lock import Lock
from npora.lora import read_record
from npora.train.folder import LOCK_NAME, RUN_NAME
from npora.train.history import HISTORY_NAME
from npora.train.log import LOG_NAME

_PARTS = re.compile(
    rf"adapter|last-good|checkpoint-\d+|{'|'.join(map(re.escape, (LOG_NAME, HISTORY_NAME, RUN_NAME)))}"
)  # fmt: skip


def adapter_of(output: str) -> str:
    """Where finetune puts the adapter."""
    return os.path.join(output, "adapter")


def claim(output: str, *, resume: bool = False, overwrite: bool = False, demonstration: bool = False) -> None:
    """Make sure that no other run's files are in `output`: with `overwrite` they are removed, and they alone.

    demonstration : what finetune makes without arguments may replace what it made before

    Raises
    ------
    NotADirectoryError: it is a file.
    RuntimeError: a run trains there now.
    FileExistsError: a run is there, and neither `resume` nor `overwrite` says what to do.
    """
    refuse_file(output)
    found = sorted(name for name in _names(output) if _PARTS.fullmatch(name))
    if not found or resume:
        return
    if overwrite or (demonstration and _is_demonstration(output, found)):
        with Lock(os.path.join(output, LOCK_NAME), output):
            for name in found:
                path = os.path.join(output, name)
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
        return
    ways = "pass another --output, or --overwrite to remove them"
    if not demonstration and any(name.startswith("checkpoint-") for name in found):
        ways += ", or --resume to go on from the newest checkpoint"
    raise FileExistsError(f"{output} holds a run already ({', '.join(found)}): {ways}")


def refuse_file(output: str) -> None:
    """Raise NotADirectoryError for the name of a file."""
    if os.path.exists(output) and not os.path.isdir(output):
        raise NotADirectoryError(f"--output {output} is a file: name a folder")


def _names(output: str) -> list[str]:
    return os.listdir(output) if os.path.isdir(output) else []


def _is_demonstration(output: str, found: list[str]) -> bool:
    try:
        return found == ["adapter"] and bool(read_record(adapter_of(output))["notes"].get("demonstration"))
    except (OSError, ValueError):
        return False
