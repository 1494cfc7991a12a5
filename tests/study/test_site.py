"""The pages of `npora study`: what they hold, that their links lead somewhere, and that they show what is wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import webbrowser
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

import npora
from npora import nn, optim
from npora.catalogue import TABLE
from npora.cli import main
from npora.commands import study
from npora.lora.methods import METHODS
from npora.models import auto
from npora.nn import functional
from npora.study.site import tables, verdicts
from npora.study.site.numbers import Numbers
from npora.study.site.pages import Known, html
from npora.study.site.site import build
from npora.study.site.sources import FOLDERS, OTHERS, ROOT, Page, pages, read
from npora.study.site.symbols import legend, letters_of, symbols_of

WITH_EQUATIONS = ("nn", "optim", "lora", "models", "stored", "train", "data", "metrics")
ALONE = {"meta", "link", "br", "wbr"}


class Parsed(HTMLParser):
    """The ids, links, headings and landmarks of a page; what is open at its end, or closed amiss, is `wrong`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.headings: list[int] = []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags[tag] += 1
        if tag == "a" and "a" in self.open:
            self.wrong.append("a link in a link")
        if tag not in ALONE:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Parsed]:
    """All pages, without the verdicts, by their addresses."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "TABLE", ())
        build(folder, folder / "verdicts")
    return {
        path.relative_to(folder).as_posix(): Parsed(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")
    }


def files_with_equations() -> list[Page]:
    return [read(path, ROOT) for folder in WITH_EQUATIONS for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("page", files_with_equations(), ids=lambda page: page.name)
def test_an_equation_has_its_lines_and_a_numbered_line_its_equation(page: Page) -> None:
    assert Numbers(page).missed() == []


def test_numbers_that_miss_each_other_are_found() -> None:
    right = 'def f(x):\n    """y = 2 x.\n\n        dx = 2 dy     (1)\n    """\n    return 2 * dy  # (1) [n]\n'
    assert Numbers(Page("nn/f", right)).missed() == []
    assert Numbers(Page("nn/f", right.replace("# (1)", "#"))).missed() == [
        "nn/f.py: equation (1) of f stands on no line"
    ]
    assert len(Numbers(Page("nn/f", right.replace("# (1)", "# (1), (2)"))).missed()) == 1
    twice = right.replace("     (1)\n", "     (1)\n        dz = 3 dy     (1)\n")
    assert Numbers(Page("nn/f", twice)).missed() == ["nn/f.py: f has two equations (1)"]
    # A base's equation is its class's, and a function's that which uses it.
    used = 'class A:\n    """a = b     (1)"""\n\n    def f(self):\n        g()\n\n\ndef g():\n    pass  # (1)\n'
    assert Numbers(Page("nn/f", used)).equations == {("A", 1): [9]}
    whole = '"""Of a file:\n\n    a = b     (1)\n"""\n\n\ndef f():\n    pass  # (1)\n'
    assert Numbers(Page("nn/f", whole)).equations == {("", 1): [8]}
    assert Numbers(Page("nn/f", whole.replace("  # (1)", ""))).missed() == [
        "nn/f.py: equation (1) of the file stands on no line"
    ]
    based = 'class A:\n    """a = b     (1)"""\n\n\nclass B(A):\n    """b."""\n\n    x = 1  # (1)\n'
    assert Numbers(Page("nn/f", based)).equations == {("A", 1): [8]}


def test_what_is_public_has_a_page() -> None:
    known = Known({page.name: page for page in pages()})
    families = {cls.__name__ for family in auto.FAMILIES for cls in auto.tasks_of(family).values()}
    public = [*functional.__all__, *nn.__all__, *optim.__all__, *(method.__name__ for method in METHODS)]
    names = {name for name in [*public, *families] if name not in ("ACTIVATIONS", "functional")}
    assert not names - known.names.keys() and len(names) > 100
    with_equations = {page.name for page in files_with_equations() if Numbers(page).equations}
    assert {name for name in with_equations if name.split("/")[0] in (*FOLDERS, *OTHERS)} <= known.pages.keys()


def test_pages_are_well_formed_and_each_link_leads_somewhere(site: Mapping[str, Parsed]) -> None:
    assert len(site) > 100
    for address, page in site.items():
        assert not page.wrong, address
        assert len(set(page.ids)) == len(page.ids), address
        assert all(page.tags[tag] == 1 for tag in ("html", "title", "h1", "main", "header", "footer")), address
        assert page.tags["script"] == 0
        steps = zip(page.headings, page.headings[1:], strict=False)
        assert page.headings[0] == 1 and all(after - before <= 1 for before, after in steps), address
        for link in page.links:
            file, _, anchor = link.partition("#")
            if file.endswith(".css"):
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(address), file)) if file else address
            assert target in site, f"{address}: {link}"
            assert not anchor or anchor in site[target].ids, f"{address}: {link}"


def test_a_number_leads_to_its_line_and_back(site: Mapping[str, Parsed]) -> None:
    page = next(page for page in pages() if page.name == "lora/methods/lora")
    lines = {n: found for (name, n), found in Numbers(page).equations.items() if name == "LoRA"}
    assert lines.keys() == {1, 2, 3, 4}
    for number, (line,) in lines.items():
        assert f"({number})" in page.text.splitlines()[line - 1]
        assert f"#L{line}" in site["lora/methods/lora.html"].links
        assert f"#eq-LoRA-{number}" in site["lora/methods/lora.html"].links


def test_a_symbol_says_its_shape_or_its_equation() -> None:
    letters = legend(ROOT)
    assert letters["o"] == "out" and letters["r"] == "rank" and letters["t"] == "query position"
    page = next(page for page in pages() if page.name == "lora/methods/lora")
    symbols = symbols_of(page, next(d for d in page.outer if d.name == "LoRA"), letters)
    assert symbols["A"] == "[r,i] (rank; in)"
    assert symbols["du"] == "= s Bᵀ dy" and symbols["u"] == "[...,r] (leading axes; rank)"


def test_helpers_are_folded_and_what_is_said_to_tools_is_left_out() -> None:
    text = (
        "def _help(x):\n    return x  # type: ignore[misc]  # as it is\n\n\n"
        "def _square(x):\n    return x * x  # (1)\n\n\n"
        'def f(x):\n    """y = x² of x [n] broadcast to [n]\n\n        y = x²     (1)\n    """\n'
        "    return _square(x)  # fmt: skip\n"
    )
    page = Page("nn/f", text)
    made = html(page, Known({"nn/f": page}), {"n": "rows"}, {})
    assert not Parsed(made).wrong
    assert '<details class="helper"><summary><h2 id="h-_help">_help</h2></summary>' in made
    assert '<h2 id="h-_square">_square</h2>\n<div class="pair alone">' in made  # it computes an equation
    assert '<h2 id="h-f">f</h2>\n<div class="pair">' in made and "docstring" not in made
    assert "# as it is" in made and "type: ignore" not in made and "fmt: skip" not in made
    assert symbols_of(page, page.outer[2], {"n": "rows"}).keys() == {"x", "y"}  # and not "to"
    assert letters_of(page.outer[2].doc) == {"x", "y"}


def test_a_row_of_the_catalogue_is_on_the_page_of_what_it_checks() -> None:
    places = verdicts.Homes(pages())
    drawn = {row: row.draw() for row in TABLE}
    home = {row: places.of(row, drawn[row][0]) for row in TABLE}
    homes = {row.name: home[row] for row in TABLE}
    assert homes["linear, in nf4"] == ("nn/linear", "Linear")
    assert homes["scaled_attention, everything"] == ("nn/scaled_attention", "attention")
    assert homes["residual, of a chain"] == ("nn/residual", "residual")
    assert homes["lora_linear, with dropout"] == ("lora/methods/lora", "LoRA")
    assert homes["lora_bert"] == ("models/families/bert", "BertForSequenceClassification")
    methods = {definition for page, definition in homes.values() if page.startswith("lora/methods/")}
    assert methods == {method.__name__ for method in METHODS}
    # Errors are planted on each page that a row stands on: in all its layers, or in one model.
    broken = verdicts._with_experiments(home, drawn)
    assert {home[row][0] for row in broken} == {page for page, _ in homes.values()}
    assert {row.name for row in broken if homes[row.name][0] == "models/families/bert"} == {"bert"}
    assert {"swiglu", "lora_linear"} <= {row.name for row in broken}
    assert {row.name for row in broken if homes[row.name][0] == "models/families/bert_layers"} == {"BertLayer"}
    assert {row.name for row in broken if homes[row.name][0] == "models/families/deberta_v2"} == {"deberta-v2"}
    families = {next(iter(auto.tasks_of(family).values())).__module__ for family in auto.FAMILIES}
    assert families <= {f"npora.{home[row][0].replace('/', '.')}" for row in broken}


def test_verdicts_are_kept_until_a_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "TABLE", [row for row in TABLE if row.name in ("tanh", "tanh, varied")])
    monkeypatch.setattr(verdicts, "curve_of", lambda drawn: None)  # it takes a second
    asked: list[str] = []
    first = verdicts.verdicts_of(pages(), tmp_path, asked.append)
    again = verdicts.verdicts_of(pages(), tmp_path, asked.append)
    assert asked == ["tanh"] and str(first) == str(again)  # with nan in it
    assert first["nn/activation", "tanh"][0][1]["verdict"] == "PASS"
    planted = first["nn/activation", "tanh"][0][1]["planted"]["errors"]
    assert len(planted) > 10 and {found["verdict"] for found in planted} == {"FAIL", "DETACHED"}
    assert planted[0]["error"] == "the sign is wrong" and planted[0]["in"] == "x" and "the sign" in planted[0]["said"]
    page = tables.verdict_html("tanh", first["nn/activation", "tanh"][0][1], True)
    assert not Parsed(page).wrong and f"Break it: {len(planted)} errors" in page
    assert first["optim/adam", "Adam"][0][1]["verdict"] == "PASS"
    monkeypatch.setattr(verdicts, "_digest_of", lambda file: "changed")
    verdicts.verdicts_of(pages(), tmp_path, asked.append)
    assert asked == ["tanh", "tanh"]


def test_an_error_in_a_copy_of_the_sources_is_on_its_page(tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "npora", ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "npora" / "nn" / "activation.py"
    text = source.read_text(encoding="utf-8")
    right, wrong = (
        "return back_activation(dy * up), dy * a  # (2), (1)",
        "return back_activation(dy * up), -dy * a  # (2), (1)",
    )
    assert right in text
    source.write_text(text.replace(right, wrong), encoding="utf-8")
    program = (
        "from pathlib import Path; from npora.study.site.site import build; from npora.study.site import verdicts\n"
        "verdicts.curve_of = lambda drawn: None\n"
        "verdicts.TABLE = [row for row in verdicts.TABLE if row.name in ('swiglu', 'softmax')]\n"
        "print(*build(Path('out'), Path('kept'), only={'nn/activation', 'nn/softmax'})[1])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "FAIL swiglu: nn/activation.html#swiglu\n"
    page = (tmp_path / "out" / "nn" / "activation.html").read_text(encoding="utf-8")
    assert '<summary><b class="FAIL">FAIL</b> swiglu</summary>' in page
    assert re.search(r'<li><b class="FAIL">FAIL</b> up: [^<]*the sign', page)
    other = (tmp_path / "out" / "nn" / "softmax.html").read_text(encoding="utf-8")
    assert '<summary><b class="PASS">PASS</b> softmax</summary>' in other


def test_the_command_writes_a_folder_or_opens_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "build", lambda *given: build(*given, only={"optim/sgd"}))
    monkeypatch.setattr(verdicts, "TABLE", ())
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) is None)
    assert main(["study", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "style.css").is_file() and not opened
    assert main(["study", "LoRA"]) == 0
    assert opened[0].endswith("/cache/study/pages/lora/methods/lora.html#LoRA")
    monkeypatch.setattr(study, "build", lambda *given: (["nn/activation"], ["FAIL swiglu: nn/activation.html#swiglu"]))
    assert main(["study", "LoRA"]) == 1 and "FAIL swiglu" in capsys.readouterr().out
    assert main(["study", "nothing"]) == 2 and "'nothing'" in capsys.readouterr().err
    assert main(["study", "LoRA", "--output", "x"]) == 2
    (tmp_path / "file").touch()
    monkeypatch.setattr(study, "build", lambda *given: pytest.fail("work in vain"))
    for path in ("file", "file/below"):
        assert main(["study", "--output", str(tmp_path / path)]) == 2
    assert capsys.readouterr().err.endswith(f"\nnpora: {tmp_path / 'file' / 'below'}: Not a directory\n")


def test_the_style_is_in_the_package() -> None:
    assert "study/site/style.css" in (Path(npora.__file__).parents[1] / "setup.cfg").read_text(encoding="utf-8")
