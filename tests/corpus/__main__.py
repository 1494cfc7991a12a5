"""Does the gradient check tell right from wrong? Right functions of every kind, and wrong ones of every kind.

    python -m tests.corpus [NAME …] [--seeds 20] [--first 0] [--jobs 2] [--method auto]

Prints, for the right functions and the wrong ones, how many verdicts of each kind came; every FAIL of a right one;
every PASS of a wrong one whose gradient is off by more than 1e-6; and the wrong ones that could not be told, with how
far off they are and how far the gradient moves when its inputs move by an ulp. Exits 1 on a FAIL of a right one, a PASS
of such a wrong one, or an error of the check's own. A NAME is a part of a function's name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

# Before NumPy is imported: the functions are small, and BLAS's own threads would only be in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.corpus import RIGHT, WRONG
from tests.corpus.judge import Judged, judge


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--method", default="auto", help="gradcheck's")
    options = parser.parse_args()
    names = [name for name in (*RIGHT, *WRONG) if not options.names or any(part in name for part in options.names)]
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.jobs) as pool:
        found = [
            one
            for some in pool.map(partial(judge, seeds=seeds, method=options.method), names, chunksize=4)
            for one in some
        ]
    alarms = [one for one in found if not one.wrong and one.verdict in ("FAIL", "DETACHED")]
    raised = [one for one in found if one.verdict == "RAISED"]
    missed = [one for one in found if one.missed]
    untold = [
        one
        for one in found
        if one.wrong and one.matters and one.verdict not in ("FAIL", "DETACHED", "REFUSED", "RAISED", "PASS")
    ]
    open_ones = [one for one in found if not one.wrong and one.verdict not in ("FAIL", "RAISED", "PASS")]
    _print("right ones that are called wrong", alarms)
    _print("ones at which the check itself raises an error", raised)
    _print("wrong ones that pass", missed)
    _print("wrong ones that are not told", untold)
    _print("right ones of which the check says that it cannot tell", open_ones)
    for title, side in (("right", False), ("wrong", True)):
        ones = [one for one in found if one.wrong == side]
        print(f"{title}: {len({one.name for one in ones})} functions, {len(ones)} checks: {_counted(ones)}")
    for size in ("above 1e-2", "1e-2 to 1e-4", "1e-4 to 1e-6", "below 1e-6"):
        ones = [one for one in found if one.wrong and one.size == size]
        print(f"    off by {size}: {len(ones)} checks: {_counted(ones)}")
    resolvable = [one for one in untold if one.resolvable]
    print(
        f"{len(alarms)} false alarms, {len(missed)} missed, {len(raised)} errors of the check, {len(untold)} not told, "
        f"{len(resolvable)} of them well above the rounding"
    )
    return 1 if alarms or missed or raised else 0


def _counted(ones: list[Judged]) -> str:
    return "  ".join(f"{verdict} {count}" for verdict, count in Counter(one.verdict for one in ones).most_common())


def _print(title: str, ones: list[Judged]) -> None:
    print(f"{title}: {len(ones)}")
    by_name: dict[str, list[Judged]] = {}
    for one in ones:
        by_name.setdefault(one.name, []).append(one)
    for name, those in by_name.items():
        print(f"  {name}: {_counted(those)}, seeds {', '.join(str(one.seed) for one in those)}")
        print(f"      {those[0].said}")


if __name__ == "__main__":
    sys.exit(main())
