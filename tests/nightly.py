"""All that takes hours, one after the other; what is done is kept, and the next call goes on where this one ended.

    python -m tests.nightly [FOLDER] [--jobs 2] [--only NAME …]

Each begins with an empty cache of npora's, so that the pages of `npora study` are made whole.

FOLDER (out/nightly) has what each part said, NAME.txt, and once it has ended done.json, with its exit code and seconds.
Parts that ended are not run again until a file of npora or of the tests is another. Exits 1 where one of them failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.mutations import ROOT
from tests.survey import digest


def parts(folder: Path, jobs: int) -> dict[str, list[str]]:
    """The quickest first. The mutants keep their verdicts themselves, one at a time."""
    return {
        "self-test": ["-m", "npora", "gradcheck", "--self-test"],
        "study": ["-m", "npora", "study", "--output", str(folder / "study")],
        "corpus": ["-m", "tests.corpus"],
        "kills": ["-m", "tests.kills", "300", "7"],
        "long": ["-m", "pytest", "-q", "-m", "long"],
        "fuzz": ["-m", "tests.fuzz", "--files", "200000"],
        "holdout": ["-m", "tests.holdout", "--jobs", str(jobs)],
        "mutants": ["-m", "tests.mutate", "--jobs", str(jobs), "--record", str(folder / "mutants.jsonl")],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "out" / "nightly")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="of self-test, study, corpus, kills, long, fuzz, holdout, mutants"
    )
    options = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # also where a shell has begun it in the background, or kills it
        signal.signal(each, signal.default_int_handler)
    options.folder.mkdir(parents=True, exist_ok=True)
    todo = parts(options.folder, options.jobs)
    if unknown := set(options.only or ()) - set(todo):
        parser.error(f"--only takes {', '.join(todo)}, not {', '.join(sorted(unknown))}")
    try:
        results = run({name: todo[name] for name in options.only or todo}, options.folder, digest("npora", "tests"))
    except KeyboardInterrupt:
        raise SystemExit("interrupted: what is done is kept, and the next call goes on from there") from None
    for name, result in results.items():
        print(f"{name:12} {'passed' if result['code'] == 0 else 'FAILED':8}{result['seconds']:8.0f} s")
    return 1 if any(result["code"] for result in results.values()) else 0


def run(todo: dict[str, list[str]], folder: Path, tree: str) -> dict[str, Any]:
    """Python with these arguments, one after the other: the code and seconds of each. What ended on this tree is not
    run again."""
    kept = folder / "done.json"
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name, arguments in todo.items():
        if done.get(name, {}).get("tree") == tree:
            continue
        start = time.monotonic()
        with open(folder / f"{name}.txt", "w", encoding="utf-8") as said, TemporaryDirectory() as cache:
            part = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "NPORA_CACHE": cache}, stdout=said,
                stderr=said, start_new_session=True,
            )  # fmt: skip
            try:
                code = part.wait()
            finally:  # where this is interrupted, with what it has forked
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(part.pid, signal.SIGKILL)
                part.wait()
        done[name] = {"tree": tree, "code": code, "seconds": round(time.monotonic() - start)}
        unready = kept.with_suffix(".new")
        unready.write_text(json.dumps(done, indent=1), encoding="utf-8")
        unready.replace(kept)
    return {name: done[name] for name in todo}


if __name__ == "__main__":
    sys.exit(main())
