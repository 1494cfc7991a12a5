"""For pytest: beside a test that failed stands every gradient check in it that did not pass, its report in full.

`assert gradcheck(f, x)` says what is wrong in 240 characters, which is all that pytest gives to a value. For the rest
put `pytest_plugins = ["npora.check.pytest_plugin"]` into the conftest.py at the top, or run pytest with
`-p npora.check.pytest_plugin`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from npora.check.verdict.report import Report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, Any]:
    outcome = yield
    if outcome.failed and call.excinfo is not None:
        shown: list[str] = []
        for entry in call.excinfo.traceback:
            for value in entry.frame.f_locals.values():
                text = str(value) if isinstance(value, Report) and not value.ok else ""
                if text and text not in shown and text not in str(call.excinfo.value):
                    shown.append(text)
                    outcome.sections.append(("gradcheck", text))
    return outcome
