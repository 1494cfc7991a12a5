"""What a mutant lives in: a fork of this process, where memory that nobody wrote holds nan."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 120  # for one mutant; a loop that never ends is stopped there
KILLED, SURVIVED, BROKEN, LATE = "killed", "survived", "does not import", "timed out"


def fork(work: Callable[[], str], seconds: int = SECONDS) -> int:
    """Run it in a fork, for so many seconds at most where not 0, and leave what it returns as the exit code."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        code = 3
        with contextlib.suppress(BaseException):
            code = (SURVIVED, KILLED, BROKEN).index(work())
        os._exit(code)
    return child


def told(work: Callable[[], Any]) -> Callable[[], Any]:
    """Begin this work in a fork; the function that waits for its answer."""
    reading, writing = os.pipe()

    def write() -> str:
        answer = json.dumps(work())
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
        return SURVIVED

    child = fork(write, seconds=0)
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        assert said, "a check fails without a mutant, and so would kill everything: run the tests"
        return json.loads(said)

    return wait


def unwritten_is_nan() -> None:
    """Let `np.empty` give nan, for a mutant that leaves an element unwritten could find the right number there."""

    def filled(make: Callable[..., Any]) -> Callable[..., Any]:
        def make_filled(*args: Any, **keywords: Any) -> Any:
            made = make(*args, **keywords)
            if made.dtype.kind in "fc":
                made.fill(np.nan)
            return made

        return make_filled

    np.empty, np.empty_like = filled(np.empty), filled(np.empty_like)
