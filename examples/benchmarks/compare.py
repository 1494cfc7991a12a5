"""npora against its peers on one machine: the same work, in turn, each in a process of its own.

    python examples/benchmarks/compare.py [--only a,c] [--data DIR] [--rounds 3] [--steps 5] [--folder DIR]
        [--json FILE] [--plot FILE]

Peers are those that are installed: transformers with PEFT on torch, eagerly and under torch.compile, and JAX for (a).
All work in float32 on all cores, but in (i) and (j), where npora's base lies in memory in bfloat16, "PEFT bfloat16",
which computes in it. The first step of every process is the check: its loss and all its gradients must equal npora's;
of PEFT in bfloat16, whose numbers have three digits, it is said by how much they differ. Nothing is dropped out, since
the peers' masks would differ, but in the timed steps of (b), whose recipe has it.

For each side: the median seconds of a step and the peak memory of its process; npora's share of both, the median over
the rounds; and the floor's share. The floor is the time of the matrix products that nobody can do without (floor.py),
measured in the same rounds.

What could not be measured is said, with the reason, in its row and again at the end. The exit code is 1 where that is
npora, a side that --sides names, or a peer that is installed; a peer that is not may be missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
from process import SIDES, found_by, free_to_run
from report import environment, table
from workloads import WORKLOADS, Workload, toy

NEEDS = {"npora": ("npora",), "floor": ("npora",), "PEFT": ("torch", "transformers", "peft"), "JAX": ("jax",)}
NEEDS["compiled PEFT"] = NEEDS["PEFT bfloat16"] = NEEDS["PEFT"]


class Failed(Exception):
    """A process did not do its work; says why."""


class Missing(Failed):
    """A package is not installed."""


def sides_of(workload: Workload) -> list[str]:
    """Who takes part, npora first and the floor last."""
    if workload.base != "float32":
        return ["npora", "PEFT", f"PEFT {workload.base}", "floor"]
    compiled = ["compiled PEFT"] if workload.kind in ("train", "infer", "layer") else []
    jax = ["JAX"] if workload.kind == "train" and workload.name.startswith("a") else []
    return ["npora", "PEFT", *compiled, *jax, *([] if workload.kind == "start" else ["floor"])]


def process(workload: Workload, side: str, folder: Path, steps: int, limit: float) -> dict[str, Any]:
    """Run process.py. Raises Failed."""
    for package in NEEDS.get(side, ()):
        if importlib.util.find_spec(package) is None:
            raise Missing(f"{package} is not installed")
    # torch.compile's code is kept between rounds, and generated in the process that is measured.
    inductor = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    script, description = Path(__file__).with_name("process.py"), json.dumps(asdict(workload))
    command = [sys.executable, str(script), description, side, str(folder), str(steps)]
    started = time.time()
    try:
        done = subprocess.run(command, env={**free_to_run(), **inductor}, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"it took more than {limit:.0f} s") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if workload.kind == "start" and side != "prepare":
        result["seconds"] = [result["first step ended"] - started]
    return result


def difference(workload: Workload, side: str, folder: Path) -> tuple[str, float]:
    """What differs most from npora's: its name, and by what share of its largest element."""
    worst = ("", 0.0)
    with np.load(found_by("npora", workload, folder)) as ours, np.load(found_by(side, workload, folder)) as theirs:
        if missing := set(ours) ^ set(theirs):
            raise Failed(f"npora and {side} do not both have {sorted(missing)[0]}")
        for name in ours:
            size = max(float(np.abs(theirs[name]).max(initial=0)), 1e-30)
            off = float(np.abs(ours[name] - theirs[name]).max(initial=0)) / size
            if not off <= worst[1]:
                worst = (name, off)
    return worst


def measure(workload: Workload, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one workload: for each side its runs, and what was found by the check."""
    asked = options.sides or SIDES
    sides: dict[str, dict[str, Any]] = {side: {"runs": []} for side in sides_of(workload) if side in asked}
    process(workload, "prepare", folder, options.steps, options.limit)
    for _ in range(options.rounds):
        for side, found in sides.items():
            if "failed" in found:
                continue
            try:
                found["runs"].append(process(workload, side, folder, options.steps, options.limit))
                if side not in ("npora", "floor"):
                    name, off = difference(workload, side, folder)
                    if not off <= workload.tolerance and side != "PEFT bfloat16":
                        sys.exit(f"({workload.name}) npora and {side} disagree: {name} by {off:.1e} of its largest")
                    found["differs"] = max(found.get("differs", 0.0), off)
            except Failed as why:
                if side == "npora":
                    raise
                found["failed"], found["missing"] = str(why), isinstance(why, Missing)
    return {"name": workload.name, "title": workload.title, "kind": workload.kind, "sides": sides}


def chosen(options: argparse.Namespace) -> Iterator[Workload]:
    for workload in WORKLOADS:
        if options.only and workload.name not in options.only and workload.name[0] not in options.only:
            continue
        if options.toy:
            workload = toy(workload)
        elif options.data and workload.sentences:
            model, text = options.data / "checkpoints" / "minilm-l6", options.data / "sst2" / "train.tsv"
            workload = replace(workload, checkpoint=str(model), text=str(text))
        yield workload


def not_measured(workloads: Sequence[dict[str, Any]], named: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is an error, and what may be missing: (workload) side, and why. named : the sides that were asked for."""
    errors, excused = [], []
    for result in workloads:
        sides = {"npora": result} if "failed" in result else result["sides"]
        for side, found in sides.items():
            if "failed" in found:
                is_excused = found.get("missing", False) and side not in named
                (excused if is_excused else errors).append(f"({result['name']}) {side}: {found['failed']}")
    return errors, excused


def compare(workloads: Sequence[Workload], options: argparse.Namespace) -> int:
    """Measure, and print each workload's table as soon as it is there. Returns the exit code."""
    if not workloads:
        sys.exit("nothing was measured: no workload was chosen")
    if importlib.util.find_spec("npora") is None:
        sys.exit(f"nothing was measured: npora is not installed for {sys.executable}, and every row is beside npora's")
    report.check_outputs(options)
    results: dict[str, Any] = {**environment(), "rounds": options.rounds, "steps": options.steps, "workloads": []}
    print("\n".join(f"{name}: {value}" for name, value in environment().items()))
    with tempfile.TemporaryDirectory() as made:
        for workload in workloads:
            try:
                result = measure(workload, options.folder or Path(made), options)
            except Failed as why:
                result = {"name": workload.name, "title": workload.title, "failed": str(why)}
            results["workloads"].append(result)
            print(table(result), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    errors, excused = not_measured(results["workloads"], options.sides or ())
    for line in (*errors, *excused):
        print(f"not measured: {line}", file=sys.stderr)
    measured = any("failed" not in result for result in results["workloads"])
    if options.plot and measured:
        report.plot(results, options.plot)
    return 1 if errors or not measured else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = " ".join(workload.name for workload in WORKLOADS)
    known = {name for workload in WORKLOADS for name in (workload.name, workload.name[0])}
    made.add_argument("--only", type=report.some_of(sorted(known)), help=f"workloads, by name or first letter: {names}")
    made.add_argument("--sides", type=report.some_of(SIDES), help=f"{', '.join(SIDES)} (default all that there are)")
    made.add_argument("--data", type=Path, help="a folder with checkpoints/minilm-l6 and sst2/train.tsv: for b, f")
    made.add_argument("--rounds", type=int, default=3, help="A B A B: how often each side runs (default 3)")
    made.add_argument("--steps", type=int, default=5, help="that are timed in a run, beside two before (default 5)")
    made.add_argument("--limit", type=float, default=900, help="seconds for a process, its compiling too (default 900)")
    made.add_argument("--folder", type=Path, help="that keeps the models which are drawn, for the next call")
    made.add_argument("--toy", action="store_true", help="tiny sizes, to try the command")
    made.add_argument("--json", metavar="FILE")
    made.add_argument("--plot", metavar="FILE", help="needs the extra `plot`")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    return compare(list(chosen(options)), options)


if __name__ == "__main__":
    sys.exit(main())
