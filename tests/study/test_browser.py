"""The pages in a real Chromium: no errors, links that lead where they say, keys, telephones, and axe-core's rules.

It needs Playwright (the extra `browser`) and a Chromium: Playwright's own, or the one that CHROMIUM names, with
what its start needs in CHROMIUM_ARGUMENTS; for accessibility the axe-core of npm, whose axe.min.js AXE names. What of
them is missing is said where a test is skipped.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from npora.study.site import verdicts
from npora.study.site.site import build

sync_api = pytest.importorskip("playwright.sync_api", reason='a browser needs Playwright: pip install "npora[browser]"')

# Pages with a graph, a V-curve and planted errors; a table; a long formula; many definitions; a family.
CHOSEN = (
    "index", "lora/methods/lora", "lora/methods/fourierft", "nn/linear", "nn/activation", "optim/adam",
    "models/families/bert",
)  # fmt: skip
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages; those of tanh and LoRA with verdicts."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        rows = [row for row in verdicts.TABLE if row.name in ("tanh", "lora_linear")]
        patch.setattr(verdicts, "TABLE", rows)
        build(folder, folder / "verdicts")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One, whose pages are all open to its end: some builds of Chromium end with the first page that is closed."""
    path, arguments = os.environ.get("CHROMIUM"), shlex.split(os.environ.get("CHROMIUM_ARGUMENTS", ""))
    with sync_api.sync_playwright() as playwright:
        try:
            yield playwright.chromium.launch(executable_path=path, args=arguments, timeout=30_000)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium starts here (playwright install chromium): {str(error).splitlines()[0]}")


def opened(browser: Any, folder: Path, name: str, theme: str = "light", width: int = 1300) -> tuple[Any, list[str]]:
    """A page with all that is folded open, and what its console says."""
    page = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900}).new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: told.append(asked.url) if not asked.url.startswith("file:") else None)
    page.goto((folder / f"{name}.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    return page, told


@pytest.mark.parametrize("theme", THEMES)
def test_pages_keep_axe_cores_rules(browser: Any, folder: Path, theme: str) -> None:
    if "AXE" not in os.environ:
        pytest.skip("AXE names no axe.min.js (npm install axe-core)")
    axe = Path(os.environ["AXE"]).read_text(encoding="utf-8")
    for name in CHOSEN:
        page, told = opened(browser, folder, name, theme)
        page.evaluate(axe)
        wrong = page.evaluate("axe.run({preload: false})")["violations"]
        assert not told, name
        assert not [(found["id"], found["nodes"][0]["html"]) for found in wrong], name


def test_no_page_is_wider_than_a_telephone_or_asks_for_the_network(browser: Any, folder: Path) -> None:
    page, told = opened(browser, folder, "index", width=390)
    methods = [f"lora/methods/{file.stem}" for file in sorted((folder / "lora/methods").glob("*.html"))]
    assert len(methods) > 15
    for name in [*CHOSEN, *methods]:
        page.goto((folder / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert not told


def test_an_equations_number_leads_to_its_line_and_back(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "lora/methods/lora")
    page.click("#eq-LoRA-2")
    line = page.url.partition("#")[2]
    said = page.inner_text(f"#{line}")
    assert "dB =" in said and "(2)" in said
    assert lit(page, f"#{line}") != lit(page, "#L21")
    page.click(f"#{line} .c a")
    assert page.url.endswith("#eq-LoRA-2")
    page.locator(".graph a", has_text="dB [o,r] (2)").click()
    assert page.url.endswith(f"#{line}")


def test_a_key_reaches_a_symbol_which_says_what_it_is(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "nn/linear")
    page.focus("math abbr[tabindex]")
    said = page.evaluate("getComputedStyle(document.activeElement, '::after').content")
    assert "[...,o]" in said and "out" in said


def test_formulas_are_laid_out_as_formulas(browser: Any, folder: Path) -> None:
    page, _ = opened(browser, folder, "lora/methods/lora")
    heights = page.evaluate(
        "(() => { const s = document.querySelector('.eq msup'); return [...s.children].map("
        "c => c.getBoundingClientRect().top + c.getBoundingClientRect().height / 2) })()"
    )
    assert heights[1] < heights[0] - 3  # what is raised is
    assert page.evaluate("document.querySelectorAll('.eq math').length") >= 4


def lit(page: Any, at: str) -> str:
    return str(page.evaluate(f"getComputedStyle(document.querySelector('{at}')).backgroundColor"))
