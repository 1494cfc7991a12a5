"""Read npora: each derivation beside its code, with the gradient checks of both, as pages made from the sources.

Without --output the pages go to `study` in $NPORA_CACHE, or in `npora` in the user's cache folder, and the browser
opens them. NAME opens one of them: nn/linear, or what it defines, as LoRA. Nothing is loaded from the network, and
verdicts are computed again only where a source that they depend on has changed: some minutes the first time.

Exits with 0, or 1 where a check of npora itself does not pass, which stands on its page; 2 on wrong usage.
"""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from npora.catalogue import TABLE
from npora.commands.countdown import Countdown
from npora.commands.output import refuse_file
from npora.files.cache import cache_folder
from npora.study.site.site import build, found_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="the page to open, or what it defines")
    add("--output", metavar="DIR", help="write the pages there, for any web server, and open nothing")


def run(options: argparse.Namespace) -> int:
    if options.output and options.name:
        raise ValueError("--output writes all pages and opens none: leave out NAME")
    start = found_page(options.name) if options.name else "index.html"
    cache = cache_folder() / "study"
    folder = Path(options.output) if options.output else cache / "pages"
    if options.output:
        refuse_file(options.output)
    folder.mkdir(parents=True, exist_ok=True)  # an error now, and not after the work
    progress = Countdown(len(TABLE))
    written, wrong = build(folder, cache / "verdicts", lambda row: progress.step("gradient checks", row))
    page, _, anchor = start.partition("#")
    address = (folder / page).resolve().as_uri() + (f"#{anchor}" if anchor else "")
    print("\n".join([f"{len(written)} pages: {folder / 'index.html'}", *wrong]))
    if not options.output and not webbrowser.open(address):
        print(f"no browser could be opened: open {address}")
    return 1 if wrong else 0
