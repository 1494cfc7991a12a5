"""What another program on the machine costs npora: the same work idle, and beside processes that never rest.

    python examples/benchmarks/busy.py [--processes 1] [--rounds 3] [--only step,predict,decode] [--data DIR] [--toy]

Three pieces of work, each timed in turn without and with the other processes: a training step on 16 sentences as long
as SST-2's (MiniLM-L6, some 200 tokens), the prediction of 320 such sentences, and the greedy decoding of 32 tokens by a
Llama of SmolLM2-135M's shape. Of each the median seconds, and by how much the others slow it down. Where c cores are
shared fairly by c threads of npora's and p others, work that could be divided at will would take (c + p) / c times as
long: 1.5 on two cores beside one process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from with_npora import load, start
from workloads import SST2, Batch, Workload, load_batches, prepare, toy

from npora import Trainer, TrainingArguments, get_num_threads

BATCHES = 20
STEP = Workload("step", "a training step on 16 sentences, MiniLM-L6", length=0, **SST2)
DECODE = Workload(
    "decode", "32 tokens of a Llama of SmolLM2-135M's shape", "generate", "smollm2-135m", 1, 32, target=32
)
Work = Callable[[], object]


def step(workload: Workload, folder: Path) -> Iterator[Work]:
    """One training step after another, each on a batch of its own."""
    train = start(workload, folder)[1]
    for batch in load_batches(workload, folder):
        yield lambda batch=batch: train(batch)


def predict(workload: Workload, folder: Path) -> Iterator[Work]:
    """The prediction of the sentences of all batches, again and again."""
    arguments = TrainingArguments(per_device_eval_batch_size=32, disable_tqdm=True)
    trainer = Trainer(load(workload, folder), arguments)
    rows = [row for batch in load_batches(workload, folder) for row in rows_of(batch)]
    while True:
        yield lambda: trainer.predict(rows)


def decode(workload: Workload, folder: Path) -> Iterator[Work]:
    """One prompt after another."""
    generate = start(workload, folder)[1]
    for batch in load_batches(workload, folder):
        yield lambda batch=batch: generate(batch)


def rows_of(batch: Batch) -> Iterator[dict[str, list[int]]]:
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        yield {"input_ids": ids[mask.astype(bool)].tolist()}


KINDS = {"step": (step, STEP, 5), "predict": (predict, STEP, 1), "decode": (decode, DECODE, 2)}  # runs in a round


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Within this block so many processes of Python count without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.2)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(works: Iterator[Work], runs: int) -> list[float]:
    found = []
    for _ in range(runs):
        work = next(works)
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1, help="that never rest (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="idle, busy, idle, busy … (default 3)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--data", type=Path, help="a folder with checkpoints/minilm-l6 and sst2/train.tsv")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try the command")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - set(KINDS):
        parser.error(f"--only knows {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")
    print(f"NumPy {np.__version__}, {get_num_threads()} threads, beside {options.processes} busy")
    print(f"{'':50} {'idle':>9} {'busy':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        for kind in options.only:
            make, workload, runs = KINDS[kind]
            if options.toy:
                workload = toy(workload)
            elif options.data and workload.sentences:
                model, text = options.data / "checkpoints" / "minilm-l6", options.data / "sst2" / "train.tsv"
                workload = replace(workload, checkpoint=str(model), text=str(text))
            prepare(workload, Path(name), max(BATCHES, 2 * runs * options.rounds + 2))
            works = make(workload, Path(name))
            seconds(works, 2)  # not counted
            idle, beside = [], []
            for _ in range(options.rounds):
                idle += seconds(works, runs)
                with busy(options.processes):
                    beside += seconds(works, runs)
            one, two = statistics.median(idle), statistics.median(beside)
            title = workload.title if kind != "predict" else "320 sentences predicted, MiniLM-L6"
            print(f"{title:50.50} {one:8.3f}s {two:8.3f}s {two / one:6.2f}", flush=True)


if __name__ == "__main__":
    main()
