"""How a training step's time and memory grow: with tokens, with their sequences' length, with rank, layers, vocabulary.

    python examples/benchmarks/scaling.py [--only length,rank] [--steps 3] [--plot FILE] [--json FILE]

A GPT-2 of four layers, 256 wide, with LoRA on c_attn; one size is varied at a time, each point in a process of its own.
Memory is the peak above what the process held after a step on two tokens: what the work itself needs. An exponent e
says that a quantity grows as size^e: the slope in a log-log plot, fitted through all points, and from the last but one
to the last.

What to expect: 1 in tokens and in layers, for all else is a constant beside them, but memory no longer grows once a
batch is cut into micro-batches ("uncut" is without); in length time between 1 and 2, for attention alone is quadratic,
and memory 1, for its scores are not kept; about 0 in rank, as long as r (i + o) is small beside i o; below 1 in
vocabulary, which the last product alone sees.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from compare import Failed, process
from process import free_to_run, peak_memory
from report import check_outputs, environment, some_of
from workloads import Workload, load_batches

SIZE = {"n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 8192, "n_positions": 4096}
BASE = Workload("scaling", "", "train", "gpt2", batch=2, length=256, config=SIZE)
AXES: dict[str, tuple[int, ...]] = {
    "tokens": (1, 2, 4, 8, 16),  # the sequences of a batch; shown as tokens
    "uncut": (1, 2, 4, 8, 16),  # the same without micro-batches
    "length": (128, 256, 512, 1024, 2048, 4096),  # of one sequence
    "rank": (2, 8, 32, 128),
    "layers": (2, 4, 8, 16),
    "vocabulary": (4096, 8192, 16384, 32768, 65536),
}


def points(axis: str, toy: bool = False) -> list[tuple[int, Workload]]:
    """The sizes of an axis, each with its workload."""
    base, values = BASE, AXES[axis]
    if toy:
        base = replace(BASE, length=16, config={**SIZE, "n_embd": 8, "n_head": 2, "vocab_size": 64})
        values = values[:3]
    varied = {
        "tokens": lambda n: (n * base.length, replace(base, batch=n)),
        "uncut": lambda n: (n * base.length, replace(base, batch=n, tokens_at_once=0)),
        "length": lambda n: (n, replace(base, batch=1, length=n)),
        "rank": lambda n: (n, replace(base, rank=n)),
        "layers": lambda n: (n, replace(base, config={**base.config, "n_layer": n})),
        "vocabulary": lambda n: (n, replace(base, config={**base.config, "vocab_size": n})),
    }
    return [varied[axis](value) for value in values]


def measure(workload: Workload, folder: Path, steps: int) -> dict[str, float]:
    """What the process of one point does: the median seconds of a step, and the bytes it needs above those at rest."""
    import with_npora

    _, step = with_npora.start(workload, folder)
    batch, *_ = load_batches(workload, folder)
    step({name: array[:1, :2] for name, array in batch.items()})  # reads every weight, and fills BLAS's buffers
    rest = peak_memory()
    seconds = []
    for _ in range(1 + steps):
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds[1:]), "bytes": peak_memory() - rest}


def exponents(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The slope of log(value) over log(size): fitted through all points, and between the last two."""
    x, y = np.log(sizes), np.log(np.maximum(values, 1e-9))
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def run(axis: str, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, list[float]] = {"sizes": [], "seconds": [], "bytes": []}
    print(f"\n{axis:>12}{'s':>10}{'MB':>10}")
    for size, workload in points(axis, options.toy):
        with tempfile.TemporaryDirectory() as folder:
            process(workload, "prepare", Path(folder), steps=0, limit=600)  # whose memory must not count
            command = [sys.executable, __file__, "--point", json.dumps(asdict(workload)), folder]
            command += ["--steps", str(options.steps)]
            done = subprocess.run(command, env=free_to_run(), stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise Failed(f"{axis} {size}: the process ended with exit code {done.returncode}")
        point = {"sizes": size, **json.loads(done.stdout.splitlines()[-1])}
        for name, value in point.items():
            found[name].append(value)
        print(f"{size:12,}{point['seconds']:10.3g}{point['bytes'] / 1e6:10.1f}", flush=True)
    result: dict[str, Any] = {"axis": axis, **found}
    for what in ("seconds", "bytes"):
        result[f"exponents of {what}"] = exponents(found["sizes"], found[what])
    (time_all, time_end), (memory_all, memory_end) = result["exponents of seconds"], result["exponents of bytes"]
    print(f"{'exponent':>12}{time_all:10.2f}{memory_all:10.2f}\n{'at the end':>12}{time_end:10.2f}{memory_end:10.2f}")
    return result


def plot(results: Sequence[dict[str, Any]], path: str) -> None:
    """A column for each axis, time above memory, both on logarithmic scales."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(3 * len(results), 5.5), sharey="row", squeeze=False, layout="constrained"
    )
    for column, result in enumerate(results):
        for row, (what, unit, label) in enumerate((("seconds", 1, "s a step"), ("bytes", 1e6, "MB above rest"))):
            axis = axes[row, column]
            axis.loglog(result["sizes"], np.maximum(result[what], 1e-6) / unit, "o-")
            axis.set_xticks(result["sizes"], [f"{size:,}" for size in result["sizes"]], rotation=45)
            axis.minorticks_off()
            axis.set_title(f"exponent {result[f'exponents of {what}'][0]:.2f}", fontsize=9)
            axis.set_xlabel(result["axis"])
            axis.set_ylabel(label if column == 0 else "")
    figure.savefig(path)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=some_of(AXES), default=list(AXES), help=", ".join(AXES))
    parser.add_argument("--steps", type=int, default=3, help="that are timed at a point, beside two before (default 3)")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the command")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE", help="needs the extra `plot`")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.point:
        description, folder = options.point
        print(json.dumps(measure(Workload(**json.loads(description)), Path(folder), options.steps)))
        return
    check_outputs(options)
    print("\n".join(f"{name}: {value}" for name, value in environment().items()))
    results = [run(axis, options) for axis in AXES if axis in options.only]
    if options.json:
        text = json.dumps({**environment(), "axes": results}, indent=1)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    try:
        main()
    except Failed as why:
        sys.exit(f"not measured: {why}")
