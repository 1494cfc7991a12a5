"""Gradients that were wrong in public are caught, and most of them are named."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "examples" / "checking" / "museum.py"
NAMES = runpy.run_path(str(FILE))


@pytest.mark.parametrize("exhibit", NAMES["MUSEUM"], ids=lambda exhibit: exhibit.source)
def test_an_exhibit_is_caught_and_named(exhibit: Any) -> None:
    verdict, words = NAMES["seen"](exhibit)
    assert verdict in ("FAIL", "DETACHED", "KINK") and exhibit.says in words, f"{verdict} {words}"


def test_the_museum_counts_what_is_caught_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    NAMES["main"]()
    count, named = len(NAMES["MUSEUM"]), sum(exhibit.says != "" for exhibit in NAMES["MUSEUM"])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{count} exhibits: {count} are caught; of {named} ")
    assert count >= 30 and named >= 25
    assert len({exhibit.source for exhibit in NAMES["MUSEUM"]}) == count
