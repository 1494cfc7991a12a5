"""What it saves and costs that a base lies in memory in half precision, in int8 or in NF4: a LoRA step and generation.

    python examples/benchmarks/stored.py [--size small|wide] [--layers N] [--batch 2] [--length 512] [--rounds 5]

A Llama with weights drawn at random: "small" has SmolLM2-135M's sizes, "wide" 16 layers of 2,048, 1.1 thousand million
parameters. One process holds it in all forms and takes a step of each in turn, so that what else the machine does falls
on all alike; a figure is the median over the rounds of the ratio to float32's step of the same round. Memory is that of
the base's parameters, and the peak of a process that holds one form and takes one step. The disk needs eight bytes a
parameter, the memory about ten.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from process import free_to_run, peak_memory
from workloads import MODELS, save_rounded

from npora import LoraConfig, get_peft_model
from npora.machine.heap import keeping_freed_memory
from npora.models import LlamaConfig, LlamaForCausalLM
from npora.optim import AdamW
from npora.stored import Stored

SIZES = {"small": MODELS["smollm2-135m"].config, "wide": MODELS["llama-1b"].config}
# What is read, and how: the numbers of all files are those that bfloat16 has.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "bfloat16": ("bfloat16", {"dtype": "bfloat16"}),
    "float16": ("float16", {"dtype": "float16"}),
    "int8": ("bfloat16", {"quantize": "int8"}),
    "nf4": ("bfloat16", {"quantize": "nf4", "dtype": "bfloat16"}),
}
TOKENS = 8  # that are generated


def prepare(folder: Path, sizes: dict[str, Any]) -> None:
    save_rounded(
        LlamaForCausalLM(LlamaConfig(**sizes), rng=0),
        {form: folder / form for form in ("float32", "float16", "bfloat16")},
    )


class Way:
    """A base in one form, with LoRA of rank 8 on queries and values."""

    def __init__(self, folder: Path, name: str) -> None:
        place, keywords = WAYS[name]
        base = LlamaForCausalLM.from_pretrained(folder / place, **keywords)
        every = [parameter.data for parameter in base.parameters()]
        chosen = [data for data in every if isinstance(data, Stored) and data.form == name]
        self.bytes, self.stored = (sum(int(data.nbytes) for data in some) for some in (every, chosen))
        self.numbers = sum(data.size for data in chosen)
        self.model = get_peft_model(base, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
        self.optimizer = AdamW(self.model.parameters(), lr=1e-4)

    def step(self, ids: Any) -> float:
        output, backward = self.model(ids, labels=ids)
        backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(output.loss)

    def generate(self, ids: Any) -> None:
        self.model.generate(ids[:1, :8], max_new_tokens=TOKENS, eos_token_id=-1)

    def memory(self, ids: Any) -> dict[str, float]:
        """Bytes of the base's parameters; of those that lie in this form, and how many numbers these are; the peak."""
        loss = self.step(ids)
        return {"base": self.bytes, "stored": self.stored, "numbers": self.numbers, "peak": peak_memory(), "loss": loss}


def timed(work: Callable[[Any], Any], ids: Any) -> tuple[float, float]:
    """Seconds, of the clock and of the processors."""
    start, busy = time.perf_counter(), time.process_time()
    work(ids)
    return time.perf_counter() - start, time.process_time() - busy


def times(folder: Path, rounds: int, ids: Any) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """For each way, a step and the tokens of each round; the first round is not counted."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {way: {"step": [], "tokens": []} for way in WAYS}
    with keeping_freed_memory():
        ways = {name: Way(folder, name) for name in WAYS}
        for _ in range(1 + rounds):
            for name, way in ways.items():
                found[name]["step"].append(timed(way.step, ids))
                found[name]["tokens"].append(timed(way.generate, ids))
    return {name: {what: pairs[1:] for what, pairs in parts.items()} for name, parts in found.items()}


def ratio(pairs: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> str:
    """Of the clock's seconds, and in brackets of the processors'."""
    clock, busy = (median(a[k] / b[k] for a, b in zip(pairs, others, strict=True)) for k in (0, 1))
    return f"{clock:5.2f} ({busy:4.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    for name, number in {"--layers": None, "--batch": 2, "--length": 512, "--rounds": 5}.items():
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--part", choices=["prepare", "times", *WAYS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = dict(SIZES[options.size])
    sizes["num_hidden_layers"] = options.layers or sizes["num_hidden_layers"]
    ids = np.random.default_rng(0).integers(0, sizes["vocab_size"], (options.batch, options.length))
    if options.part == "prepare":
        print(json.dumps(prepare(options.folder, sizes)))
    elif options.part == "times":
        print(json.dumps(times(options.folder, options.rounds, ids)))
    elif options.part:
        print(json.dumps(Way(options.folder, options.part).memory(ids)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            report(folder, sizes)


def report(folder: str, sizes: dict[str, Any]) -> None:
    def part(name: str) -> Any:
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder, "--part", name]
        return json.loads(subprocess.run(command, check=True, env=free_to_run(), stdout=subprocess.PIPE).stdout)

    part("prepare")
    memory, seconds = {way: part(way) for way in WAYS}, part("times")
    wide = memory["float32"]
    print(f"{wide['base'] / 4:,.0f} parameters in {sizes['num_hidden_layers']} layers; ratios to float32's, of time "
          "those of the clock, and in brackets of the processors")  # fmt: skip
    for way, found in memory.items():
        alone = found["stored"] / (4 * found["numbers"]) if found["numbers"] else 1
        step, tokens = (ratio(seconds[way][what], seconds["float32"][what]) for what in ("step", "tokens"))
        clock, busy = (median(pair[k] for pair in seconds[way]["step"]) for k in (0, 1))
        print(
            f"{way:8}  base {found['base'] / 1e6:6,.0f} MB {found['base'] / wide['base']:6.3f}, its stored matrices "
            f"{alone:6.3f}  peak {found['peak'] / 1e6:6,.0f} MB  step {step}  {clock:6.2f} s ({busy:6.2f} s)  "
            f"token {tokens}  loss {found['loss']:.4f}"
        )


if __name__ == "__main__":
    main()
