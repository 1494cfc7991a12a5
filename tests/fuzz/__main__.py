"""Try many files: `python -m tests.fuzz --files 20000 --seed 0`. Ends with 1 where one was neither read nor refused."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.fuzz.judge import bound_memory, changed, in_silence, judge
from tests.fuzz.subjects import subjects


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="subjects whose names have this in them")
    options = parser.parse_args()
    chosen = [subject for subject in subjects() if options.only in subject.name]
    bound_memory()
    kinds: dict[str, Counter[str]] = {subject.name: Counter() for subject in chosen}
    worst_seconds, worst_bytes, shown = 0.0, 0, Counter[str]()
    for number in range(options.files):
        subject, seed = chosen[number % len(chosen)], f"{options.seed}/{number}"
        with in_silence():
            outcome = judge(subject, changed(subject, seed))
        kinds[subject.name].update([outcome.kind, *["over"] * outcome.is_over])
        worst_seconds = max(worst_seconds, outcome.seconds)
        worst_bytes = max(worst_bytes, outcome.peak - outcome.size)
        if outcome.kind == "foreign" or outcome.is_over:
            place = outcome.where.strip().splitlines()[-3:-1] if outcome.where else ["over"]
            if shown.update(["".join(place)]) or shown["".join(place)] == 1:
                print(f"{subject.name}, {seed}: {outcome.said} ({outcome.seconds:.2f} s, {outcome.peak:,} bytes)")
                print(outcome.where[-1500:], flush=True)
    for name, counts in kinds.items():
        print(f"{name:22}" + "".join(f"{counts[kind]:7,} {kind}" for kind in ("read", "refused", "foreign", "over")))
    total = sum(kinds.values(), Counter())
    print(
        f"{options.files:,} files: {total['read']:,} read, {total['refused']:,} refused, {total['foreign']:,} foreign "
        f"exceptions, {total['over']:,} over 1 s or 50 MB; at most {worst_seconds:.2f} s, {worst_bytes / 1e6:.1f} MB"
    )
    return 1 if total["foreign"] or total["over"] else 0


sys.exit(main())
