"""Does the gradient check cry wolf? Every layer at drawn shapes, values and scales, all of them right.

    python -m tests.holdout [NAME …] [--seeds 500] [--first 1000]

Prints, for each layer, how many verdicts of each kind came, by complex step in float64 and in float32, by central
differences at some elements, and by the dot-product test, and the largest difference as a share of its tolerance. Exits
1 on a FAIL or KINK.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import numpy as np

from npora import gradcheck
from npora.commands.catalogue import CATALOGUE, draw

WAYS = {
    "complex": {"max_elements": 20},
    "float32": {"dtype": "float32", "max_elements": 20},
    "central": {"method": "central", "max_elements": 3},
    "dot product": {"method": "dot-product"},
    "float32 dot product": {"method": "dot-product", "dtype": "float32"},
}


def scale_of(seed: int) -> float:
    """Between 1e-3 and 3, evenly on a logarithmic scale."""
    return float(1e-3 * 3000 ** np.random.default_rng(seed).random())


def run(name: str, seeds: range) -> tuple[dict[str, Counter[str]], dict[str, float], list[str]]:
    verdicts = {way: Counter[str]() for way in WAYS}
    largest = dict.fromkeys(WAYS, 0.0)
    alarms = []
    for seed in seeds:
        layer, inputs, keywords = draw(name, seed, scale_of(seed))
        for way, options in WAYS.items():
            report = gradcheck(layer, *inputs, seed=seed, **options, **keywords)
            verdicts[way][report.verdict] += 1
            passed = [row.worst.ratio for row in report.rows if row.worst is not None and row.verdict == "PASS"]
            largest[way] = max([largest[way], *passed])
            if report.verdict in ("FAIL", "KINK"):
                alarms.append(f"{name}, seed {seed}, scale {scale_of(seed):.3g}, {way}:\n{report}")
    return verdicts, largest, alarms


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=1000)
    options = parser.parse_args()
    total: list[str] = []
    for name in options.names or CATALOGUE:
        start = time.perf_counter()
        verdicts, largest, alarms = run(name, range(options.first, options.first + options.seeds))
        total += alarms
        said = "  ".join(f"{way}: {dict(verdicts[way])} ≤ {largest[way]:.1g}" for way in WAYS)
        print(f"{name:18} {said}  {time.perf_counter() - start:.0f} s", flush=True)
    print("\n\n".join(total))
    print(f"{len(total)} false alarms")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
