"""What it saves and costs that a checkpoint in bfloat16 stays so in memory: a LoRA step and generation, three ways.

    python examples/benchmarks/stored.py [--batch 4] [--length 128] [--layers 30] [--steps 5] [--rounds 3]

A Llama of SmolLM2-135M's sizes with weights drawn at random, in a file of bfloat16 that is read as it lies ("stored")
or as float32 ("widened"), and in a file of float32, which is read by memory map ("float32"). Each way runs in processes
of its own, in turn. Memory is the peak of the whole process, files that are mapped included.

What to expect: the matrices take two bytes a number and not four. A step takes some hundredths longer, by what widening
134 million numbers twice takes; a token of generation, which reads each number for one product alone, twice as long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from process import free_to_run, peak_memory

from npora import LoraConfig, get_peft_model
from npora.files import save_file
from npora.models import LlamaConfig, LlamaForCausalLM
from npora.optim import AdamW
from npora.stored import BFloat16

SIZES = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    "vocab_size": 49152, "tie_word_embeddings": True, "rope_theta": 100000.0, "rms_norm_eps": 1e-5,
}  # fmt: skip
WAYS = {"stored": ("narrow", "bfloat16"), "widened": ("narrow", "float32"), "float32": ("wide", "float32")}
TOKENS = 16  # that are generated


def prepare(folder: Path, layers: int) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers), rng=0)
    for place in ("narrow", "wide"):
        model.save_pretrained(folder / place)
    state = {name: BFloat16.rounded(array) for name, array in model.state_dict().items()}
    save_file(state, folder / "narrow" / "model.safetensors", {"format": "pt"})
    save_file({name: array[:] for name, array in state.items()}, folder / "wide" / "model.safetensors")


def run(folder: Path, way: str, steps: int, batch: int, length: int) -> dict[str, Any]:
    place, dtype = WAYS[way]
    model = LlamaForCausalLM.from_pretrained(folder / place, dtype=dtype)
    peft = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    optimizer = AdamW(peft.parameters(), lr=1e-4)
    rng, seconds, losses, busy = np.random.default_rng(0), [], [], []
    for _ in range(1 + steps):
        ids = rng.integers(0, SIZES["vocab_size"], (batch, length))
        start, work = time.perf_counter(), time.process_time()
        output, backward = peft(ids, labels=ids)
        backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - work)
        losses.append(float(output.loss))
    step_bytes = peak_memory()
    start, work = time.perf_counter(), time.process_time()
    peft.generate(ids[:1, :8], max_new_tokens=TOKENS, eos_token_id=-1)
    token, token_busy = (time.perf_counter() - start) / TOKENS, (time.process_time() - work) / TOKENS
    return {
        "step": median(seconds[1:]), "busy": median(busy[1:]), "token": token, "token busy": token_busy,
        "bytes": step_bytes, "losses": losses,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    sizes = {"--batch": 4, "--length": 128, "--layers": 30, "--steps": 5, "--rounds": 3}
    for name, size in sizes.items():
        parser.add_argument(name, type=int, default=size)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder and not options.way:
        prepare(options.folder, options.layers)
        return
    if options.way:
        print(json.dumps(run(options.folder, options.way, options.steps, options.batch, options.length)))
        return
    with tempfile.TemporaryDirectory() as folder:
        own = [sys.executable, __file__, "--folder", folder]
        own += [f"{name}={getattr(options, name[2:])}" for name in sizes]
        subprocess.run(own, check=True, env=free_to_run())
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                result = subprocess.run(
                    [*own, "--way", way], check=True, env=free_to_run(), capture_output=True, text=True
                )
                found[way].append(json.loads(result.stdout))
    losses = np.array([found[way][0]["losses"] for way in WAYS])
    apart = float(np.ptp(losses, axis=0).max() / losses.max())
    print(f"losses differ by {apart:.1e} of themselves; in brackets, how long the processors were busy")
    for way, rounds in found.items():
        names = ("step", "busy", "token", "token busy", "bytes")
        step, busy, token, token_busy, size = (median(one[name] for one in rounds) for name in names)
        print(
            f"{way:8}  a step {step:5.2f} s ({busy:5.2f} s)  a token {1000 * token:4.0f} ms "
            f"({1000 * token_busy:4.0f} ms)  peak {size / 1e6:5.0f} MB"
        )


if __name__ == "__main__":
    main()
