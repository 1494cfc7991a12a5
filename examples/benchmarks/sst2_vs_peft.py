"""npora against torch with PEFT: the same model, sentences, order and recipe, in turn, each in a process of its own.

    python examples/benchmarks/sst2_vs_peft.py --model DIR --train train.tsv [--steps 100] [--rounds 3]

Needs the extras `hf` and `parity`. Prints the median time of a training step (forward, backward, clipping, AdamW; the
first five steps are left out) and the peak memory of the whole process, and npora's share of PEFT's, with PEFT's
sentences padded to 128 tokens, as its recipe pads them, and to the longest of the batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH, LENGTH = 16, 128
KINDS = ("npora", "PEFT, padded to 128", "PEFT, padded to the longest")


def batches(model: str, train: str, steps: int) -> list[list[dict[str, Any]]]:
    """The same rows for all, tokenized."""
    from npora import AutoTokenizer
    from npora.data import read_tsv

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = read_tsv(train).shuffle(seed=42).select(range(5000)).shuffle(seed=1).select(range(BATCH * steps))
    encoded = [
        {**tokenizer(row["sentence"], truncation=True, max_length=LENGTH), "labels": int(row["label"])} for row in rows
    ]
    return [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]


def npora_step(directory: str) -> Callable[[list[dict[str, Any]]], float]:
    import numpy as np

    from npora import AutoModelForSequenceClassification, LoraConfig, get_peft_model
    from npora.data import collate
    from npora.optim import AdamW, clip_grad_norm

    base = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, task_type="SEQ_CLS")
    model = get_peft_model(base, config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(parameters, 5e-4, weight_decay=0.0)
    rng = np.random.default_rng(0)

    def step(rows: list[dict[str, Any]]) -> float:
        optimizer.zero_grad()
        batch = collate(rows, {"input_ids", "attention_mask", "token_type_ids", "labels"})
        output, backward = model(**batch, rng=rng)
        backward()
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
        return float(output.loss)

    return step


def peft_step(directory: str, fixed: bool) -> Callable[[list[dict[str, Any]]], float]:
    import peft
    import torch
    import transformers

    base = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    config = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, task_type="SEQ_CLS"
    )
    model = peft.get_peft_model(base, config).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 5e-4, weight_decay=0.0)

    def step(rows: list[dict[str, Any]]) -> float:
        optimizer.zero_grad()
        length = LENGTH if fixed else max(len(row["input_ids"]) for row in rows)
        batch = {
            key: torch.tensor([row[key] + [0] * (length - len(row[key])) for row in rows])
            for key in ("input_ids", "attention_mask", "token_type_ids")
        }
        loss = model(**batch, labels=torch.tensor([row["labels"] for row in rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(loss)

    return step


def measure(kind: str, options: argparse.Namespace) -> None:
    """What one process does: print its median seconds and its peak memory."""
    from npora.train.measure import peak_memory

    data = batches(options.model, options.train, options.steps)
    step = npora_step(options.model) if kind == KINDS[0] else peft_step(options.model, fixed=kind == KINDS[1])
    seconds, losses = [], []
    for rows in data:
        start = time.perf_counter()
        losses.append(step(rows))
        seconds.append(time.perf_counter() - start)
    result = {"seconds": statistics.median(seconds[5:]), "bytes": peak_memory(), "loss": sum(losses) / len(losses)}
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a BERT: config.json, model.safetensors, tokenizer.json")
    parser.add_argument("--train", required=True, help="a TSV with the columns sentence and label")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, options)
        return
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, "--model", options.model, "--train", options.train]
            command += ["--steps", str(options.steps), "--only", kind]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            results[kind].append(json.loads(printed.stdout.splitlines()[-1]))
    print(f"{'':30}{'s a step':>10}{'npora / it':>12}{'peak MB':>10}{'npora / it':>12}{'mean loss':>11}")
    median = {
        kind: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for kind, runs in results.items()
    }
    ours = median[KINDS[0]]
    for kind, run in median.items():
        time_share, memory_share = ours["seconds"] / run["seconds"], ours["bytes"] / run["bytes"]
        print(
            f"{kind:30}{run['seconds']:10.3f}{time_share:12.2f}{run['bytes'] / 1e6:10.0f}{memory_share:12.2f}", end=""
        )
        print(f"{run['loss']:11.4f}")


if __name__ == "__main__":
    main()
