"""Does the gradient check cry wolf? Every layer at drawn shapes, values and scales, all of them right.

    python -m tests.holdout [NAME …] [--seeds 500] [--first 1000] [--jobs 2]

Prints, for each layer, how many verdicts of each kind came, by complex step in float64 and in float32, by central
differences at some elements, and by the dot-product test, and the largest difference as a share of its tolerance. Of a
model, which has tens of tensors, fewer elements are taken, and central differences at every tenth seed. Exits 1 on a
FAIL or KINK.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any

# Before NumPy is imported: a share of the seeds a core, and BLAS's own threads would only be in their way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from npora import PeftModel, gradcheck
from npora.catalogue import CATALOGUE, draw
from npora.models.pretrained import PretrainedModel

WAYS: dict[str, dict[str, Any]] = {
    "complex": {},
    "float32": {"dtype": "float32"},
    "central": {"method": "central"},
    "dot product": {"method": "dot-product"},
    "float32 dot product": {"method": "dot-product", "dtype": "float32"},
}
Found = tuple[dict[str, Counter[str]], dict[str, float], list[str]]


def scale_of(seed: int) -> float:
    """Between 1e-3 and 3, evenly on a logarithmic scale."""
    return float(1e-3 * 3000 ** np.random.default_rng(seed).random())


def elements(layer: object, way: str, seed: int) -> int:
    """Of each tensor, how many to look at."""
    if isinstance(layer, PretrainedModel | PeftModel):
        return 2 if way != "central" or seed % 10 == 0 else 0
    return 3 if way == "central" else 20


def run(name: str, seeds: range) -> Found:
    verdicts = {way: Counter[str]() for way in WAYS}
    largest = dict.fromkeys(WAYS, 0.0)
    alarms = []
    for seed in seeds:
        layer, inputs, keywords = draw(name, seed, scale_of(seed))
        for way, options in WAYS.items():
            if not (most := elements(layer, way, seed)):
                continue
            report = gradcheck(layer, *inputs, seed=seed, max_elements=most, **options, **keywords)
            verdicts[way][report.verdict] += 1
            passed = [row.worst.ratio for row in report.rows if row.worst is not None and row.verdict == "PASS"]
            largest[way] = max([largest[way], *passed])
            if report.verdict in ("FAIL", "DETACHED", "KINK"):
                alarms.append(f"{name}, seed {seed}, scale {scale_of(seed):.3g}, {way}:\n{report}")
    return verdicts, largest, alarms


def together(parts: list[Found]) -> Found:
    verdicts = {way: sum((part[0][way] for part in parts), Counter[str]()) for way in WAYS}
    largest = {way: max(part[1][way] for part in parts) for way in WAYS}
    return verdicts, largest, [alarm for part in parts for alarm in part[2]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    total: list[str] = []
    last = options.first + options.seeds
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in options.names or CATALOGUE:
            start = time.perf_counter()
            shares = [range(first, min(first + 10, last)) for first in range(options.first, last, 10)]
            verdicts, largest, alarms = together(list(pool.map(run, [name] * len(shares), shares)))
            total += alarms
            said = "  ".join(f"{way}: {dict(verdicts[way])} ≤ {largest[way]:.1g}" for way in WAYS)
            print(f"{name:18} {said}  {time.perf_counter() - start:.0f} s", flush=True)
    print("\n\n".join(total))
    print(f"{len(total)} false alarms")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
