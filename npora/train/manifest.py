"""What a checkpoint says of itself: its files, each with its digest, and the digest of what it says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from npora.files import write_atomically
from npora.files.digest import sha256_of
from npora.files.json import parse_json
from npora.files.refusal import shortened
from npora.files.regular import read_regular

NAME = "trainer_state.json"
_FORMAT = 3
_BLANK = "0" * 64
MOST_BYTES = 50_000_000  # it has a line for each pattern of an adapter, and does not grow with a run


def write_manifest(folder: str, content: Mapping[str, Any]) -> None:
    """Write what a folder is, with the digests of all of its files and of itself: SHA-256 over its own bytes, where 64
    zeros stand in the place of the digest."""
    files = {name: sha256_of(os.path.join(folder, name)) for name in _files_below(folder)}
    whole = {**content, "files": files, "format": _FORMAT, "sha256": _BLANK}
    text = json.dumps(whole, indent=2, sort_keys=True, allow_nan=False).encode()
    own = hashlib.sha256(text).hexdigest()
    write_atomically(os.path.join(folder, NAME), [text.replace(_said(_BLANK), _said(own), 1)])


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a folder says it is.

    Raises
    ------
    FileNotFoundError: it says nothing, so that it is no checkpoint.  ValueError: what it says is not what was written,
    or was written by another version of npora.
    """
    path = os.path.join(folder, NAME)
    try:
        text = read_regular(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{os.fspath(folder)} is no checkpoint: there is no file {path}") from None
    content = parse_json(text, path)
    own = content.get("sha256")
    if "format" not in content and isinstance(own, Mapping):
        raise _earlier(folder)
    if not isinstance(own, str) or hashlib.sha256(text.replace(_said(own), _said(_BLANK), 1)).hexdigest() != own:
        raise ValueError(f"{path} is not the file that was saved: its SHA-256 differs from the one in it")
    if content.get("format") == 2:
        raise _earlier(folder)
    if content.get("format") != _FORMAT:
        said = shortened(content.get("format"))
        raise ValueError(f"{path} has the format {said}; this version of npora reads {_FORMAT}")
    _check_parts(content, path)
    return content


def _earlier(folder: str | os.PathLike[str]) -> ValueError:
    return ValueError(
        f"{os.fspath(folder)} is of an earlier version of npora, which did not note all of the base, the adapter and "
        "the data that it belongs to: it cannot be gone on from. PeftModel.from_pretrained(base, folder, "
        "is_trainable=True) loads its adapter, to begin another run with"
    )


def _check_parts(content: Mapping[str, Any], path: str) -> None:
    """Raise ValueError where what is said is not what a checkpoint says: its own digest anyone can write."""
    parts = [("", content, name) for name in ("files", "run", "state", "optimizer")]
    for owner, whole, name in parts:
        if not isinstance(whole.get(name), dict):
            raise ValueError(f"{path}: {owner}{name} must be an object; got {shortened(whole.get(name))}")
        if name == "run":
            parts += [("run.", whole[name], part) for part in ("arguments", "adapter", "model", "data")]
        if name == "optimizer":
            parts.append(("optimizer.", whole[name], "numbers"))
    run, groups = content["run"], content["optimizer"].get("param_groups")
    if not (isinstance(run.get("id"), str) and isinstance(run.get("base_sha256"), str)):
        raise ValueError(f"{path}: run must have an id and a base_sha256")
    if not (isinstance(groups, list) and all(isinstance(group, dict) for group in groups)):
        raise ValueError(f"{path}: optimizer.param_groups must be a list of objects; got {shortened(groups)}")
    for name, digest in content["files"].items():
        if not isinstance(digest, str) or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
            raise ValueError(f"{path}: {shortened(name)} is no file of a checkpoint, with its digest")


def verified(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a folder says it is, after a look at every byte of its files. Raises as read_manifest, and ValueError for a
    file that is not the one that was saved."""
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise ValueError(f"there is no file {path}, which was saved")
        if sha256_of(path) != expected:
            raise ValueError(f"{path} is not the file that was saved: its SHA-256 differs")
    return manifest


def _said(digest: str) -> bytes:
    return f'"sha256": "{digest}"'.encode()


def _files_below(folder: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names
    )
