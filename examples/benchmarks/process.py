"""What one process does: run one side of one workload, and print what it took as a line of JSON.

    python process.py '{"name": …}' SIDE FOLDER STEPS

SIDE "prepare" writes the model and the batches instead. The parent stays small: a process's peak memory counts what its
parent had when it was started.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Batch, Workload, load_batches, plain, prepare

# A side's module, and keywords of its `start`.
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "npora": ("with_npora", {}),
    "PEFT": ("with_peft", {}),
    "PEFT bfloat16": ("with_peft", {"form": "bfloat16"}),
    "compiled PEFT": ("with_peft", {"compiled": True}),
    "JAX": ("with_jax", {}),
    "floor": ("floor", {}),
}
# They bind a library to the instructions of an older processor, or to another's cache.
BINDING = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
)
WARM_UP = 1  # steps that are not timed, beside the check


def run(workload: Workload, side: str, folder: Path, steps: int) -> dict[str, Any]:
    """Seconds of each step, peak memory in bytes, the mean loss, and when the first step ended.

    The first step is the check: what it found goes to a file for the parent to compare. Where the start itself is
    measured, it is a whole training step, of which the loss is compared.
    """
    module, keywords = SIDES[side]
    check, step = import_module(module).start(workload, folder, **keywords)
    first, *batches = load_batches(workload, folder)
    if workload.kind == "start":
        found, batches = {"loss": step(first)}, []
    else:
        found = check(first)
    ended = time.time()
    np.savez(found_by(side, workload, folder), **{plain(name): array for name, array in found.items()})
    seconds, losses = [], []
    for number, batch in enumerate(batches[: WARM_UP + steps]):
        start = time.perf_counter()
        loss = step(batch)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start)
            losses.append(loss)
    mean = sum(losses) / len(losses) if losses and isinstance(losses[0], float) else None
    return {
        "seconds": seconds, "bytes": peak_memory(), "loss": mean, "tokens": tokens(workload, [first, *batches]),
        "first step ended": ended,
    }  # fmt: skip


def tokens(workload: Workload, batches: list[Batch]) -> float:
    """Of a step, in the mean: those that are real, or that are generated."""
    if workload.kind == "layer":
        return 0
    if workload.kind == "generate":
        return workload.batch * workload.target
    masks = [batch.get("attention_mask", np.ones_like(batch["input_ids"])) for batch in batches]
    return float(np.mean([mask.sum() for mask in masks])) + workload.batch * workload.target


def found_by(side: str, workload: Workload, folder: Path) -> Path:
    return folder / f"{workload.name} {side}.npz"


def free_to_run() -> dict[str, str]:
    """An environment in which every library uses all cores and chooses its own kernels; torch takes OMP_NUM_THREADS."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    free = {name: value for name, value in os.environ.items() if name not in BINDING}
    return {**free, **dict.fromkeys(names, str(os.cpu_count()))}


def peak_memory() -> int:
    """The most that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    description, side, folder, steps = sys.argv[1:]
    workload = Workload(**json.loads(description))
    if side == "prepare":
        prepare(workload, Path(folder), 1 + WARM_UP + int(steps))
        print(json.dumps({}))
    else:
        print(json.dumps(run(workload, side, Path(folder), int(steps))))


if __name__ == "__main__":
    main()
