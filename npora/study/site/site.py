"""All pages, and where they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path

from npora.check.verdict.comparison import PASS
from npora.files.atomic import flushed_once, write_atomically
from npora.study.site import pages as page_of
from npora.study.site.claims import CLAIMED, claims, claims_html
from npora.study.site.formulas import Typesetter
from npora.study.site.sources import BESIDE, FOLDERS, LOSSES, ROOT, Page, pages
from npora.study.site.symbols import legend
from npora.study.site.verdicts import Verdicts, verdicts_of

STYLE = "style.css"
_GROUPS = (FOLDERS["nn"], LOSSES, *list(FOLDERS.values())[1:], BESIDE)


def build(
    folder: Path, cache: Path, step: Callable[[str], None] = lambda row: None, only: set[str] | None = None
) -> tuple[list[str], list[str]]:
    """Write all pages into `folder`, or those that `only` names, as nn/linear. Return the names of those written, and a
    line for each check that does not pass.

    cache : where verdicts are kept
    step : told of each row of the catalogue whose verdict is computed
    """
    found = pages()
    known = page_of.Known({page.name: page for page in found})
    letters = legend(ROOT)
    chosen = [page for page in found if only is None or page.name in only]
    verdicts = verdicts_of(found, cache, step, only)
    claimed = list(claims()) if any(page.name == CLAIMED[0] for page in chosen) else []
    folder.mkdir(parents=True, exist_ok=True)
    with flushed_once(folder):
        for page in chosen:
            target = folder / f"{page.name}.html"
            target.parent.mkdir(parents=True, exist_ok=True)
            own = {name: rows for (home, name), rows in verdicts.items() if home == page.name}
            said = (
                {CLAIMED[1]: claims_html(claimed, partial(page_of.relative, page))} if page.name == CLAIMED[0] else {}
            )
            write_atomically(target, [page_of.html(page, known, letters, own, said).encode()])
        write_atomically(folder / "index.html", [_index(found, verdicts).encode()])
        write_atomically(folder / STYLE, [(Path(__file__).parent / STYLE).read_bytes()])
    wrong = [
        f"{verdict['verdict']} {row}: {page}.html#{name}"
        for (page, name), rows in verdicts.items() for row, verdict in rows if verdict["verdict"] != PASS
    ]  # fmt: skip
    wrong += [f"FAIL {claim.says}: {CLAIMED[0]}.html#{CLAIMED[1]}" for claim in claimed if not claim.holds]
    return [page.name for page in chosen], wrong


def found_page(name: str) -> str:
    """The address of what a name means: a page, as nn/linear, or a definition, as LoRA.

    Raises
    ------
    ValueError: there is none; says how to see all.
    """
    known = page_of.Known({page.name: page for page in pages()})
    if name in known.pages:
        return f"{name}.html"
    if name in known.names:
        return known.names[name]
    raise ValueError(f"no page is called {name!r}, and none defines it; npora study without a name opens the index")


def _index(found: Sequence[Page], verdicts: Verdicts) -> str:
    by_page: dict[str, list[str]] = {}
    for (name, _), rows in verdicts.items():
        by_page.setdefault(name, []).extend(verdict["verdict"] for _, verdict in rows)
    set_ = Typesetter({}, {}, lambda n: f"({n})", lambda name: "")
    parts = []
    for group in _GROUPS:
        members = [page for page in found if page.group == group]
        items = []
        for page in members:
            names = ", ".join(
                f'<a href="{page.name}.html#{d.name}">{escape(d.name)}</a>' for d in page.outer if d.is_public
            )  # fmt: skip
            summary = set_.line(" ".join(page.doc.split("\n\n")[0].split()))
            items.append(
                f'<li><a href="{page.name}.html"><code>{page.name}</code></a> {_counted(by_page.get(page.name, []))}'
                f'<p>{summary}</p><p class="names">{names}</p></li>'
            )
        slug = group.split()[0].lower()
        parts.append(
            f'<section aria-labelledby="{slug}"><h2 id="{slug}">{group}</h2>'
            f'<ul class="index">{"".join(items)}</ul></section>'
        )
    return page_of.DOCUMENT.substitute(
        title="npora study", up="", style="", trail="", heading="The derivations of npora, each beside its code",
        lead=(
            "<p>An equation's number leads to the line that computes it, and the number on the line back. Pointing at "
            "a letter shows what it is. Each page has the verdicts of <code>npora gradcheck</code>, computed when it "
            "was made.</p>"
        ),
        main="\n".join(parts), footer="<footer><p>Made by <code>npora study</code> from the sources.</p></footer>",
    )  # fmt: skip


def _counted(found: list[str]) -> str:
    """How many verdicts there are of each kind."""
    kinds = sorted(set(found), key=lambda kind: (kind == "PASS", kind))
    return " ".join(f'<b class="{kind}">{found.count(kind)} {kind}</b>' for kind in kinds)
