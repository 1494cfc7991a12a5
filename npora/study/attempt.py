"""Code that is not npora's: loaded, called within a time, and told of by file and line where it fails."""

from __future__ import annotations

import _thread
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

SECONDS = 20.0  # that an attempt may take: it is judged in well under one


class NotRun(Exception):
    """It cannot be judged: the text says why, with file and line."""


def load(path: str) -> dict[str, Any]:
    """The names that a Python file defines.

    Raises
    ------
    OSError: no such file.  NotRun: not Python, or it raises something.
    """
    text = Path(path).read_bytes()
    try:
        code = compile(text, path, "exec")
    except SyntaxError as error:
        raise NotRun(f"{path}{f', line {error.lineno}' if error.lineno else ''}: {error.msg}") from None
    except ValueError as error:  # a null byte
        raise NotRun(f"{path} is not Python: {error}") from None
    names: dict[str, Any] = {"__name__": Path(path).stem, "__file__": path}
    with told_of(path):
        exec(code, names)
    return names


@contextmanager
def told_of(filename: str, seconds: float | None = None) -> Iterator[None]:
    """Run the block, which calls code from that file; NotRun where that raises, or does not end in time."""
    try:
        with _within(SECONDS if seconds is None else seconds) as late:
            yield
    except NotRun:
        raise
    except KeyboardInterrupt as stop:
        if not late:
            raise
        raise NotRun(f"{where(stop, filename)}: no end after {SECONDS if seconds is None else seconds:g} s") from None
    except BaseException as error:
        if _line(error, filename) is None:
            raise
        said = "to be written" if isinstance(error, NotImplementedError) else f"{type(error).__name__}: {error}"
        raise NotRun(f"{where(error, filename)}: {said}") from None


def where(error: BaseException, filename: str) -> str:
    """The file, with the last of its lines that the error came through."""
    line = _line(error, filename)
    return filename if line is None else f"{filename}, line {line}"


def _line(error: BaseException, filename: str) -> int | None:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    return lines[-1] if lines else None


@contextmanager
def _within(seconds: float) -> Iterator[list[bool]]:
    """Interrupt the block after so long, as Ctrl-C would; the list is then not empty. On the main thread alone."""
    late: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield late
        return
    lock, over = threading.Lock(), list[bool]()

    def interrupt() -> None:
        with lock:
            if not over:
                late.append(True)
                _thread.interrupt_main()

    def heard(signum: int, frame: Any) -> None:
        if late:
            raise KeyboardInterrupt

    # A shell's background jobs ignore SIGINT, and an ignored signal interrupts nothing. The user's stays ignored.
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if is_ignored:
        signal.signal(signal.SIGINT, heard)
    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        if is_ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with lock:
            over.append(True)


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of a function that Python can show; None of another callable."""
    return getattr(function, "__code__", None)
