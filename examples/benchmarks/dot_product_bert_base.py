"""The dot-product test on a BERT-base of 110 million parameters, all of them trained: its time and memory.

    python examples/benchmarks/dot_product_bert_base.py [--batch 8] [--length 64]

Each part runs in a process of its own, on a checkpoint of drawn values. Prints the time of the check over that of a
forward pass (the median of five), and its peak memory over that of a training step (forward, backward, AdamW).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from npora import gradcheck, no_grad
from npora.models import BertConfig, BertForSequenceClassification
from npora.optim import AdamW


def part(name: str, checkpoint: str, batch: int, length: int) -> dict[str, float]:
    model = BertForSequenceClassification.from_pretrained(checkpoint)
    rng = np.random.default_rng(0)
    rows = {"input_ids": rng.integers(1, 30_000, (batch, length)), "labels": rng.integers(0, 2, batch)}
    model(**rows)  # touches every page, and fills BLAS's buffers
    seconds = []
    if name == "forward":
        for _ in range(5):
            start = time.perf_counter()
            with no_grad():
                model(**rows)
            seconds.append(time.perf_counter() - start)
    elif name == "step":
        optimizer = AdamW(list(model.parameters()), lr=1e-5)
        for _ in range(2):
            start = time.perf_counter()
            optimizer.zero_grad()
            _, backward = model(**rows)
            backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
    else:
        start = time.perf_counter()
        report = gradcheck(model, rows, dtype="float32", randomize=False)
        seconds.append(time.perf_counter() - start)
        print(report, file=sys.stderr)
        if report.verdict == "FAIL":
            sys.exit("the check, whose time was to be measured, failed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(seconds), "peak MB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(part(*options.part, options.batch, options.length)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as checkpoint:
        BertForSequenceClassification(BertConfig(num_labels=2), rng=0).save_pretrained(checkpoint)
        for name in ("forward", "step", "check"):
            command = [sys.executable, __file__, "--part", name, checkpoint]
            command += ["--batch", str(options.batch), "--length", str(options.length)]
            done = subprocess.run(command, stdout=subprocess.PIPE)
            if done.returncode:
                sys.exit(f"not measured: {name}: the process ended with exit code {done.returncode}")
            found[name] = json.loads(done.stdout)
            print(f"{name:8} {found[name]['seconds']:8.2f} s  {found[name]['peak MB']:8.0f} MB")
    print(f"the check takes {found['check']['seconds'] / found['forward']['seconds']:.1f} forward passes' time")
    print(f"and {found['check']['peak MB'] / found['step']['peak MB']:.2f} of a training step's memory")


if __name__ == "__main__":
    main()
