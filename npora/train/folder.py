"""The folder of a run: whose it is, which checkpoints are its own, and that one run at a time is in it."""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from npora.files import read_json, write_json
from npora.files.lock import Lock
from npora.train.arguments import TrainingArguments
from npora.train.manifest import MOST_BYTES, read_manifest, verified
from npora.train.plain import plain

logger = logging.getLogger("npora")

RUN_NAME, LOCK_NAME = "run.json", "run.lock"
_FOLDER = re.compile(r"checkpoint-(\d+)")
_UNFINISHED = re.compile(r"(checkpoint-\d+|run\.json|log\.jsonl|log_history\.jsonl)\.tmp-.+")


@contextmanager
def locked(output_dir: str) -> Iterator[None]:
    """Within this block no other run is in the folder, which is made; what a killed one left half-written is removed.

    Raises RuntimeError where another is.
    """
    os.makedirs(output_dir, exist_ok=True)
    with Lock(os.path.join(output_dir, LOCK_NAME), output_dir):
        for name in filter(_UNFINISHED.fullmatch, os.listdir(output_dir)):
            path = os.path.join(output_dir, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        yield


def new_id() -> str:
    return secrets.token_hex(8)


def write_run(output_dir: str, args: TrainingArguments, run: Mapping[str, Any]) -> None:
    """Write run.json: the run's id, what it was told, on what, and with what."""
    dependencies = np.show_config(mode="dicts") or {}
    blas = dependencies.get("Build Dependencies", {}).get("blas", {})
    versions = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform(),
                "blas": f"{blas.get('name')} {blas.get('version')}"}  # fmt: skip
    content = {**run, "arguments": asdict(args), "versions": versions, "process": os.getpid(), "host": platform.node(),
               "command": sys.argv, "began": time.strftime("%Y-%m-%d %H:%M:%S")}  # fmt: skip
    write_json(os.path.join(output_dir, RUN_NAME), plain(content))


def read_about(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """run.json, which has what a manifest has of a run, and the command. Raises as read_json."""
    return read_json(os.path.join(output_dir, RUN_NAME), 2 * MOST_BYTES)


def checkpoints(output_dir: str) -> list[str]:
    """The paths of the checkpoints in a folder, whosoever they are, oldest first."""
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    found = sorted((int(match[1]), name) for name in names if (match := _FOLDER.fullmatch(name)))
    return [os.path.join(output_dir, name) for _, name in found]


def _owner(path: str) -> str:
    """The id of the run whose checkpoint this is. Raises as read_manifest, and ValueError where it is of another step
    than its name says, so that it would be taken for one that is newer or older."""
    manifest = read_manifest(path)
    step, name = manifest["state"].get("global_step"), os.path.basename(path)
    if name != f"checkpoint-{step}":
        raise ValueError(f"{path} is of step {step}: give it back its name, checkpoint-{step}, or pass its path")
    return str(manifest["run"]["id"])


def last_checkpoint(output_dir: str) -> str:
    """The newest whole checkpoint of the run that was last begun in a folder; a damaged one is passed over, and said
    so. Raises ValueError where there is none."""
    whole: dict[str, str] = {}  # the newest of each run
    own = _last_run(output_dir)
    for path in reversed(checkpoints(output_dir)):
        try:
            owner = _owner(path)
            if owner in whole or (own is not None and owner != own):
                whole.setdefault(owner, path)
                continue
            verified(path)
            if owner == own:
                return path
            whole[owner] = path
        except (ValueError, OSError) as error:
            logger.warning("passing over %s: %s", path, error)
    if own is None and len(whole) == 1:
        return next(iter(whole.values()))
    others = f"; name one of the other runs' there: {', '.join(sorted(whole.values()))}" if whole else ""
    raise ValueError(f"there is no checkpoint to resume from in {output_dir}{others}")


def bring_best(output_dir: str, path: str, best: str | None) -> str | None:
    """Where a run goes on in another folder than that of the checkpoint: copy the best one of that folder to it.
    Returns its name; None, and says so, where it is gone."""
    if best is None or os.path.exists(os.path.join(output_dir, best)):
        return best
    source = os.path.join(os.path.dirname(os.path.realpath(path)), best)
    if not os.path.isdir(source):
        logger.warning("%s, the best model so far, is gone: it cannot be given back at the end", source)
        return None
    temporary = os.path.join(output_dir, f"{best}.tmp-{secrets.token_hex(4)}")
    shutil.copytree(source, temporary)
    os.replace(temporary, os.path.join(output_dir, best))
    return best


def leave_later(output_dir: str, path: str, run_id: str) -> None:
    """Set aside the run's checkpoints that are later than this one, from which it goes on another time."""
    here = checkpoints(output_dir)
    if not any(os.path.samefile(path, other) for other in here):
        return
    number = int(os.path.basename(os.path.realpath(path)).rpartition("-")[2])
    for other in own_checkpoints(output_dir, run_id):
        if int(other.rpartition("-")[2]) > number:
            aside = f"{other}.left-{secrets.token_hex(4)}"
            os.replace(other, aside)
            logger.warning("the run goes on from %s: the later %s is set aside as %s", path, other, aside)


def own_checkpoints(output_dir: str, run_id: str) -> list[str]:
    """The paths of a run's checkpoints, oldest first."""
    found = []
    for path in checkpoints(output_dir):
        try:
            if _owner(path) == run_id:
                found.append(path)
        except (ValueError, OSError):
            continue  # whose it was cannot be known, and so nobody may remove it
    return found


def prune(output_dir: str, keep: int | None, best: str | None, run_id: str) -> None:
    """Remove the run's oldest checkpoints until `keep` are left, where that is a number. The newest and the best one
    always are."""
    own = own_checkpoints(output_dir, run_id) if keep else []
    if not keep or not own:
        return
    *older, newest = own
    older = [path for path in older if os.path.basename(path) != best]
    keep -= 1 + (best is not None and os.path.basename(newest) != best)
    for path in older[: max(len(older) - max(keep, 0), 0)]:
        gone = f"{path}.tmp-{secrets.token_hex(4)}"
        os.replace(path, gone)  # so that what is left of it, if this is broken off, is no checkpoint
        shutil.rmtree(gone)


def _last_run(output_dir: str) -> str | None:
    """The id of the run that was last begun or gone on with in a folder; None where that cannot be known."""
    try:
        return str(read_about(output_dir)["id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s cannot be read: %s", os.path.join(output_dir, RUN_NAME), error)
        return None
