"""The files of PEFT that the pages of methods name are there, with what is said to stand in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npora.study.site.papers import ORIGINS

peft = pytest.importorskip("peft")


@pytest.mark.parametrize("name", ORIGINS)
def test_pefts_file_has_what_is_named(name: str) -> None:
    file, _, inside = ORIGINS[name].peft.partition(": ")
    text = (Path(peft.__file__).parent / "tuners" / file).read_text(encoding="utf-8")
    assert re.search(rf"^ *(class|def) {inside}\b", text, re.MULTILINE)
