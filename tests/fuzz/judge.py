"""What came of reading a changed file."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from tests.fuzz.mutations import mutate
from tests.fuzz.subjects import Subject

MOST_SECONDS = 1.0  # of the processor's
MOST_BYTES = 50_000_000  # over the size of the files
_HANGS = 20  # seconds, where the processor works
_PATIENCE = 6  # times as many where it waits: a machine may have stood still


class Hang(BaseException):
    """No Exception, so that no reader takes it for one of its own."""


@dataclass
class Outcome:
    """kind : "read", "refused" or "foreign"; the last with what was raised"""

    kind: str
    seconds: float
    peak: int
    size: int
    said: str = ""
    where: str = ""

    @property
    def is_over(self) -> bool:
        return self.seconds > MOST_SECONDS or self.peak > self.size + MOST_BYTES


def changed(subject: Subject, seed: str) -> dict[str, bytes]:
    """The subject's files, one of them changed."""
    rng = Random(seed)
    name = rng.choice(subject.changed)
    return {**subject.files, name: mutate(rng, name, subject.files[name])}


def judge(subject: Subject, files: dict[str, bytes], memory: bool = True) -> Outcome:
    """Read the files, from a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        outcome = _read(subject, folder, memory)
        if memory and outcome.seconds > MOST_SECONDS:  # the measuring of memory takes its own time
            outcome.seconds = _read(subject, folder, False).seconds
        outcome.size = sum(map(len, files.values()))
        return outcome
    finally:
        shutil.rmtree(folder)


def _read(subject: Subject, folder: Path, memory: bool) -> Outcome:
    kind, said, where = "read", "", ""
    if memory:
        gc.collect(0)
        tracemalloc.start()
    start = time.process_time()
    try:
        with _an_end(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.read(folder)
    except (ValueError, OSError) as error:
        said, kind = f"{type(error).__name__}: {error}", "refused"
        if str(folder) not in said:
            kind, where = "foreign", traceback.format_exc()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said, kind, where = f"{type(error).__name__}: {error}", "foreign", traceback.format_exc()
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1] if memory else 0
    if memory:
        tracemalloc.stop()
    return Outcome(kind, seconds, peak, 0, said.replace(str(folder), "FOLDER")[:300], where)


@contextmanager
def _an_end() -> Iterator[None]:
    """Raise Hang inside, where it takes too long."""

    began, alarms = time.process_time(), 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal alarms
        alarms += 1
        if alarms == _PATIENCE or time.process_time() - began > MOST_SECONDS:
            raise Hang(f"after {alarms * _HANGS} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _HANGS, _HANGS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def bound_memory() -> None:
    """Let this process have 4 GB at most: who asks for more gets a MemoryError, and the others on the machine live."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def in_silence() -> Iterator[None]:
    """Without what npora logs, and what Rust writes when it panics."""
    logging.disable(logging.CRITICAL)
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        logging.disable(logging.NOTSET)
