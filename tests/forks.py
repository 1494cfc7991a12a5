"""What a mutant lives in: a fork of this process, where memory that nobody wrote holds nan."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy._core.overrides import array_function_dispatch

SECONDS = 900  # of the clock, for one mutant
PROCESSOR = 60  # of the processor's time, until what it runs sets another bound
MEMORY = 8 << 30
KILLED, SURVIVED, BROKEN, LATE, ENDLESS = "killed", "survived", "does not import", "timed out", "never ends"
CODES = {SURVIVED: 61, KILLED: 62, BROKEN: 63}  # what a fork exits with: another number, and the mutant ended it


def fork(work: Callable[[], str], seconds: int = SECONDS) -> int:
    """Run it in a fork, for so many seconds at most where not 0, and leave what it returns as the exit code."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # what it starts ends with it
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs pass it over
        signal.alarm(seconds)
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nowhere, standard)
        code = CODES[KILLED]
        with contextlib.suppress(BaseException):
            code = CODES[work()]
        os._exit(code)
    return child


class Pool:
    """At most `jobs` forks at a time; `done` hears of each that ends."""

    def __init__(self, jobs: int, done: Callable[[str, str], None] = lambda name, outcome: None) -> None:
        self.jobs, self.done = jobs, done
        self.running, self.outcomes = dict[int, str](), dict[str, str]()

    def add(self, name: str, work: Callable[[], str]) -> None:
        while len(self.running) >= self.jobs:
            self._collect()
        self.running[fork(work)] = name

    def _collect(self) -> None:
        child, status = os.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        said = {code: outcome for outcome, code in CODES.items()} | {-signal.SIGPROF: ENDLESS, -signal.SIGALRM: LATE}
        outcome = said.get(code, KILLED)
        name = self.running.pop(child)
        self.outcomes[name] = outcome
        self.done(name, outcome)

    def finish(self) -> dict[str, str]:
        while self.running:
            self._collect()
        return self.outcomes

    def stop(self) -> None:
        for child in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)


def unwritten_is_nan() -> None:
    """Let `np.empty` give nan, for a mutant that leaves an element unwritten could find the right number there."""

    def filled(make: Callable[..., Any]) -> Callable[..., Any]:
        def make_filled(*args: Any, **keywords: Any) -> Any:
            made = make(*args, **keywords)
            if made.dtype.kind in "fc":
                made.fill(np.nan)
            return made

        return make_filled

    # What an array of another kind is asked by, its __array_function__, is then np.empty_like itself.
    like = array_function_dispatch(lambda prototype, *_, **__: (prototype,), verify=False)
    np.empty, np.empty_like = filled(np.empty), like(filled(np.empty_like))
