"""From the paper to the line: each method has it, its line is there, and what is said of LoRA is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from npora.lora.methods import METHODS
from npora.lora.methods.lora import LoRA
from npora.study.site.claims import Claim, claims, claims_html
from npora.study.site.papers import ORIGINS, departures, line_of
from npora.study.site.sources import pages
from tests.study.test_site import Parsed

HOMES = {d.name: (page, d) for page in pages() if page.name.startswith("lora/methods/") for d in page.outer}


def test_each_method_has_its_paper() -> None:
    assert ORIGINS.keys() == {method.__name__ for method in METHODS}


@pytest.mark.parametrize("name", ORIGINS)
def test_a_methods_line_is_there_and_its_departures_are_said(name: str) -> None:
    page, definition = HOMES[name]
    line = page.text.splitlines()[line_of(page, definition, ORIGINS[name].line) - 1]
    assert ORIGINS[name].line in line and not line.lstrip().startswith("#")
    assert departures(definition, ORIGINS[name])
    with pytest.raises(LookupError, match=rf"no line of {name} has 'no such'"):
        line_of(page, definition, "no such")


def test_sentences_of_the_docstring_about_peft_are_its_departures() -> None:
    _, definition = HOMES["AdaLoRA"]
    told = departures(definition, ORIGINS["AdaLoRA"])
    assert told[1].startswith("The paper scales by α/r as LoRA does; PEFT by the rank at the beginning")
    assert departures(replace(definition, doc="W is. It is good.\n\n    PEFT = 1"), ORIGINS["AdaLoRA"]) == []


@pytest.fixture(scope="module")
def found() -> list[Claim]:
    return list(claims())


def test_what_is_said_of_lora_holds_and_has_its_lines(found: list[Claim]) -> None:
    assert [claim.holds for claim in found] == [True] * 5
    said = " ".join(claim.found for claim in found)
    for number in ("max |B A| = 0", "16,384 are trained", "W has 1,048,576", "64 times", "is 8, and", "the same bits"):
        assert number in said
    page = claims_html(found, lambda address: address)
    assert not Parsed(page).wrong and page.count('"PASS"') == 5
    assert "FAIL" in claims_html([replace(found[0], holds=False)], str)
    page_, definition = HOMES["LoRA"]
    assert f"lora/methods/lora.html#L{line_of(page_, definition, found[0].code)}" in page


def test_a_claim_that_does_not_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LoRA.forward

    def wrong(self: LoRA, x: np.ndarray, *rest: object) -> object:
        y, backward = right(self, x, *rest)  # type: ignore[arg-type]
        return y * 1.001, backward

    monkeypatch.setattr(LoRA, "forward", wrong)
    assert [claim.holds for claim in claims()] == [False, True, True, False, False]
