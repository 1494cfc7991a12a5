"""Every adapter method on one task: what each trains, how well it does, and what a step and a file of it cost.

    python examples/methods.py MODEL train.tsv dev.tsv OUTPUT_DIR [--steps 150] [--seeds 3] [--only NAME …] [--stored]

MODEL and the TSVs are those of 09_the_recipe_on_bert.py, and so is the task: sentences of SST-2 with a frozen BERT, of
which the head is trained, and beside it one method on the queries and values of all layers, but where the table below
says where. (Trained tokens are not among them, since SST-2 has no words that a BERT lacks.) A seed draws the head, the
adapter and the sentences; all methods have the same ones.

A run is some hundred steps, its result one line of OUTPUT_DIR/runs.jsonl. Who calls again with the same OUTPUT_DIR goes
on with what is missing there, and a method whose row of the table was changed is run anew. Needs the extra `hf`.

It prints for each method: the parameters trained beside the head; the accuracy on dev.tsv, mean and range over the
seeds; the processor's time of a step on one thread, in the median, which other programs on the machine change little;
the most that one step allocates, the optimiser's state with it; and the size of the file, with the head. The whole
takes about 40 minutes of one core. With --stored it is LoRA alone, on the base in each form in which it may lie in
memory, and the base's size is printed too. methods.md has what it found, and of the forms benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import npora
from npora import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
from npora.data import read_tsv
from npora.optim import AdamW, create_lorafa_optimizer, create_loraplus_optimizer

HEAD_RATE = 2e-3  # of the head, beside whichever method; LoRA+ and LoRA-FA are optimisers that give it theirs


class Method(NamedTuple):
    """A Method says which config, the learning rate of its tensors, why that rate, and how the base is read."""

    config: str | None
    fields: dict[str, Any]
    rate: float
    why: str
    base: Mapping[str, Any] = {}


R8 = {"r": 8, "lora_alpha": 16}
METHODS = {
    "the head alone": Method(None, {}, HEAD_RATE, ""),
    "LoRA": Method("LoraConfig", R8, 2e-3, "the recipe's 5e-4, and a sixth of its steps"),
    "rsLoRA": Method("LoraConfig", {**R8, "use_rslora": True}, 1e-3, "s is √8 times as large"),
    "LoRA, orthogonal": Method("LoraConfig", {**R8, "init_lora_weights": "orthogonal"}, 2e-3, "as LoRA's"),
    "PiSSA": Method("LoraConfig", {**R8, "init_lora_weights": "pissa"}, 5e-4, "B is large from the start"),
    "OLoRA": Method("LoraConfig", {**R8, "init_lora_weights": "olora"}, 5e-4, "B is large from the start"),
    "LoRA+": Method("LoraConfig", R8, 5e-4, "A's and the head's; B's is 16 times that"),
    "LoRA-FA": Method("LoraConfig", R8, 4e-3, "A stays, so B makes its way alone"),
    "DoRA": Method("LoraConfig", {**R8, "use_dora": True}, 2e-3, "as LoRA's"),
    "AdaLoRA": Method("AdaLoraConfig", {"init_r": 12, "target_r": 8, "lora_alpha": 16}, 2e-2, "A and B start at 0.02"),
    "VeRA": Method("VeraConfig", {}, 3e-2, "vectors alone: the paper has ten times LoRA's"),
    "LoHa": Method("LoHaConfig", {"alpha": 16}, 5e-3, "a product of four small numbers"),
    "LoKr": Method("LoKrConfig", {"alpha": 16}, 5e-3, "a product of two small numbers"),
    "HiRA": Method("HiraConfig", {}, 5e-3, "B A multiplies W's small numbers"),
    "MiSS": Method("MissConfig", {"r": 16}, 1e-3, "M sums 24 inputs without a small A before it"),
    "FourierFT": Method("FourierFTConfig", {"init_weights": True}, 3e-2, "a coefficient is spread over all of W"),
    "(IA)³": Method("IA3Config", {"target_modules": None}, 1e-2, "factors around 1"),
    "OFT": Method("OFTConfig", {}, 2e-3, "angles, each of which turns two whole columns of W"),
    "HRA": Method("HRAConfig", {}, 5e-3, "only the directions of its vectors count"),
    "RoAd": Method("RoadConfig", {}, 1e-2, "angles and factors around 1"),
    "LN tuning": Method("LNTuningConfig", {"target_modules": ["LayerNorm"]}, 5e-3, "γ and β, around 1 and 0"),
}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "float32": {}, "bfloat16": {"dtype": "bfloat16"}, "float16": {"dtype": "float16"}, "int8": {"quantize": "int8"},
    "nf4": {"quantize": "nf4", "dtype": "bfloat16"},
}  # fmt: skip
STORED = {f"LoRA on {form}": METHODS["LoRA"]._replace(base=base) for form, base in FORMS.items()}


class Measured(TrainerCallback):
    """Measures what the first step allocates, and the processor's seconds of each later one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.allocated = 0

    def on_step_begin(self, args, state, control, **kwargs):
        if not self.allocated:
            tracemalloc.start()
        self.start = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        if self.allocated:
            self.seconds.append(time.process_time() - self.start)
        else:
            self.allocated = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()


def adapted(model, method, steps, seed):
    """Return the model with a method's adapter, and all else but the head frozen."""
    if method.config is None:
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
        return model
    fields = {"target_modules": ["query", "value"], "task_type": "SEQ_CLS", **method.fields}
    if method.config == "AdaLoraConfig":
        fields |= {"total_step": steps, "tinit": steps // 6, "tfinal": steps // 3}
    return npora.get_peft_model(model, getattr(npora, method.config)(**fields), seed=seed)


def optimizer(model, name, rate):
    """Return the method's optimiser, AdamW with the head's rate and the method's where it has none of its own."""
    if name == "LoRA-FA":
        return create_lorafa_optimizer(model, 8, 16, rate)
    if name == "LoRA+":
        return create_loraplus_optimizer(model, AdamW, lr=rate, loraplus_lr_ratio=16)
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in named if ("classifier" in name) is of_head], "lr": lr}
        for of_head, lr in ((True, HEAD_RATE), (False, rate))
    ]
    return AdamW([group for group in groups if group["params"]], weight_decay=0.0)


def run(name, seed, options, tokenizer, train, dev):
    """Train one method with one seed, and return what was found, ready for JSON."""

    def encode(row):
        return {**tokenizer(row["sentence"], truncation=True, max_length=128), "labels": int(row["label"])}

    method = options.rows[name]
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2, seed=seed, **method.base)
    held = sum(int(parameter.data.nbytes) for parameter in model.parameters())
    model = adapted(model, method, options.steps, seed)
    chosen = train.shuffle(seed=seed).select(range(min(options.steps * options.batch_size, len(train))))
    measured = Measured()
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=options.batch_size, per_device_eval_batch_size=64,
            max_steps=options.steps, logging_strategy="no", save_strategy="no", seed=seed, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, chosen.map(encode), dev.map(encode), processing_class=tokenizer,
            compute_metrics=lambda found: {"accuracy": np.mean(found.predictions.argmax(-1) == found.label_ids)},
            callbacks=[measured], optimizers=(optimizer(model, name, method.rate), None),
        )  # fmt: skip
        trained = sum(p.size for n, p in model.named_parameters() if p.requires_grad and "classifier" not in n)
        trainer.train()
        accuracy = trainer.evaluate()["eval_accuracy"]
        if method.config is not None:
            model.save_pretrained(os.path.join(folder, "adapter"))
            size = os.path.getsize(os.path.join(folder, "adapter", "adapter_model.safetensors"))
        else:
            size = 4 * sum(p.size for p in model.parameters() if p.requires_grad)
    return {
        "trained": trained, "accuracy": float(accuracy), "seconds": statistics.median(measured.seconds or [0.0]),
        "allocated": measured.allocated, "file": size, "base": held,
    }  # fmt: skip


def done(path):
    """Return the runs that a file has, by what they were runs of, and take a line away that a kill cut off."""
    found, whole = {}, 0
    if os.path.isfile(path):
        with open(path, "rb+") as file:
            for line in file.read().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    found[entry["of"]], whole = entry, whole + len(line)
            file.truncate(whole)
    return found


def table(results):
    """Print what each seed gave of each method, as a table in Markdown; of a base in several forms, its size too."""
    forms = [name for name in results if name in STORED]
    print("| method | rate | trained | dev accuracy: mean (range; seeds) | a step | a step allocates | file |", end="")
    print(" base |\n|---|---|---|---|---|---|---|---|" if forms else "\n|---|---|---|---|---|---|---|")
    for name, runs in results.items():
        accuracies = [100 * one["accuracy"] for one in runs]
        seconds = statistics.median(one["seconds"] for one in runs)
        print(
            f"| {name} | {(METHODS | STORED)[name].rate:g} | {runs[0]['trained']:,} "
            f"| {statistics.mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f}; {len(runs)}) "
            f"| {1000 * seconds:.0f} ms | {max(one['allocated'] for one in runs) / 1e6:.1f} MB "
            f"| {runs[0]['file'] / 1e3:.0f} kB |" + (f" {runs[0]['base'] / 1e6:.1f} MB |" if forms else "")
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "train", "dev", "output"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=METHODS, metavar="NAME")
    parser.add_argument("--stored", action="store_true")
    if len(sys.argv) < 5:
        sys.exit("say which model, which rows and where to: MODEL train.tsv dev.tsv OUTPUT_DIR; see the file's head")
    options = parser.parse_args()
    if options.stored and options.only:
        parser.error("--stored is of LoRA alone: leave out --only")
    options.rows = STORED if options.stored else {name: METHODS[name] for name in options.only or METHODS}
    for file in (options.train, options.dev):
        if not os.path.isfile(file):
            sys.exit(f"there is no file {file}; the head of 09_the_recipe_on_bert.py says where to get SST-2's")
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
    except (OSError, ImportError) as error:
        sys.exit(f"the model cannot be read: {error}")
    npora.set_num_threads(1)
    train, dev = read_tsv(options.train), read_tsv(options.dev)
    os.makedirs(options.output, exist_ok=True)
    path = os.path.join(options.output, "runs.jsonl")
    found, results = done(path), {}
    try:
        for seed in range(options.seeds):  # outermost, so that each method has its first seed early
            for name, (*said, _, base) in options.rows.items():
                said += [base] if base else []
                of = repr((name, tuple(said), seed, options.steps, options.batch_size, options.model, options.train))
                if of not in found:
                    found[of] = {"of": of, **run(name, seed, options, tokenizer, train, dev)}
                    with open(path, "a", encoding="utf-8") as file:
                        file.write(json.dumps(found[of]) + "\n")
                    print(f"seed {seed}: {name}, {100 * found[of]['accuracy']:.1f} %", file=sys.stderr, flush=True)
                results.setdefault(name, []).append(found[of])
    finally:
        table(results)  # of what is done, after an interruption too


if __name__ == "__main__":
    main()
