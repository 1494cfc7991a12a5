"""The suite as a judge of mutants: pytest's items, each run in a fork as pytest would itself."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.entered import Function, note_entered
from tests.forks import KILLED, PROCESSOR, SECONDS, SURVIVED
from tests.mutations import ROOT

# No captured file descriptor that forks would share, nothing that writes to the source tree; and the references, which
# not every machine has, are no judges.
OPTIONS = ["-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--ignore=tests/parity",
           "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip


class Judge:
    """Runs one item after the other, and says whether one of them failed."""

    def __init__(self, session: pytest.Session) -> None:
        self.failed = False
        session.config.pluginmanager.register(self)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or report.failed

    def passes(self, item: pytest.Item, seconds: float | None = None) -> bool:
        """The process ends where it takes many times these seconds: of the processor, in a loop that never ends, and of
        the clock, where it waits for what never comes."""
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR if seconds is None else 10 + 20 * seconds)
        signal.alarm(SECONDS if seconds is None else int(40 + 60 * seconds))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self.failed


class own_folder:
    """A folder of this fork's own for tmp_path: two forks must not number their folders alike."""

    def __init__(self, session: pytest.Session) -> None:
        self.factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self.folder: Path = self.factory.getbasetemp() / str(os.getpid())

    def __enter__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # of a fork that was ended, and had this number
        self.folder.mkdir()
        self.factory._basetemp = self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def judged(session: pytest.Session, items: list[pytest.Item], seconds: dict[str, float]) -> str:
    """In a fork: the items one after the other, until one fails."""
    judge = Judge(session)
    with own_folder(session):
        return SURVIVED if all(judge.passes(item, seconds[item.nodeid]) for item in items) else KILLED


class Suite:
    """A plugin that collects the whole suite, and then hands over to `work` in place of running it.

    items : the tests by name
    functions : npora's functions and methods, but not what is nested in them
    entered : notes what is entered
    importing : what importing npora and the tests enters
    """

    def __init__(self, work: Callable[[Suite, pytest.Session], None]) -> None:
        self.work, self.items = work, dict[str, pytest.Item]()
        self.functions, self.importing = dict[Function, FunctionType](), set[Function]()
        self.entered = note_entered()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.importing = set(self.entered)
        self.items = {item.nodeid: item for item in session.items}
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        gc.unfreeze()  # or get_objects would not tell of what tests/conftest.py froze
        for found in gc.get_objects():
            if isinstance(found, FunctionType) and found.__code__.co_filename.startswith(str(ROOT / "npora")):
                self.functions[place(found.__code__)] = found
        gc.collect()
        gc.freeze()  # or each fork's collector would touch, and so copy, everything
        self.work(self, session)
        return True


def place(code: CodeType) -> Function:
    return os.path.relpath(code.co_filename, ROOT), (code.co_firstlineno, code.co_name)


def pytest_main(plugin: object, folder: str, *tests: str) -> None:
    """pytest with this plugin, which does its work in place of pytest's."""
    pytest.main([*OPTIONS, f"--basetemp={folder}", *tests], plugins=[plugin])
