"""Several files of a folder that belong together are the old ones or the new ones, and never some of each."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from npora.files.atomic import flushed_once, sync_directory


@contextmanager
def together(directory: str | os.PathLike[str], key: str) -> Iterator[str]:
    """Within this block files are written to a folder, which is given; at its end they are in `directory`, in the
    places of those of the same names.

    key : the file without which nobody reads the others. Where it becomes another it is away while they are moved, so
        that whoever is killed meanwhile leaves a folder that does not load, and never one that loads as a mixture; its
        old files and its new ones are then all in `KEY.tmp-…` in it

    On any exception everything is as before; where the last flush fails all is new.
    """
    os.makedirs(directory, exist_ok=True)
    fresh = os.path.join(directory, f"{key}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    os.mkdir(fresh)
    done: list[tuple[str, str]] = []  # (where a file was, where it is now)
    try:
        with flushed_once(fresh):
            yield fresh
        names = sorted(os.listdir(fresh), key=lambda name: name == key)  # the key comes last
        old = os.path.join(fresh, "old")
        os.mkdir(old)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(os.path.join(fresh, name), os.stat(os.path.join(directory, name)).st_mode & 0o777)
        if len(names) == 2 and _is_same(os.path.join(fresh, key), os.path.join(directory, key)):
            names.remove(key)  # what is left is one file, for which a rename is enough
        else:
            for name in reversed(names):
                if os.path.exists(os.path.join(directory, name)):
                    _move(os.path.join(directory, name), os.path.join(old, name), done)
            sync_directory(directory)
        for name in names:
            _move(os.path.join(fresh, name), os.path.join(directory, name), done)
    except BaseException:
        for before, now in reversed(done):
            os.replace(now, before)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(fresh)
    sync_directory(directory)


def _move(source: str, target: str, done: list[tuple[str, str]]) -> None:
    os.replace(source, target)
    done.append((source, target))


def _is_same(one: str, other: str) -> bool:
    if not os.path.exists(other):
        return False
    with open(one, "rb") as first, open(other, "rb") as second:
        return first.read() == second.read()
