"""Fine-tune a pretrained model on labelled sentences or on texts with LoRA, and save the adapter.

With --task causal-lm a language model learns the texts, or with --prompt-column to complete prompts with them.

Without --model, --train and --eval: pretrain a small GPT-2 on this Python's docstrings (a minute or two, once), adapt
it to Python source, and show what that changed and what it did not. Needs no download, no file, nothing but NumPy.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.commands import default_job
from npora.data import (
    AutoTokenizer,
    Dataset,
    Tokenizer,
    check_vocabulary,
    encode_completion,
    encode_text,
    read_examples,
    read_texts,
)
from npora.data.dataset import Row
from npora.lora import LoraConfig, PeftModel, get_peft_model
from npora.models import AutoModelForCausalLM, AutoModelForSequenceClassification
from npora.train import EvalPrediction, Trainer, TrainingArguments
from npora.train.measure import frozen_sha256, peak_memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="DIR", help="config.json, model.safetensors, tokenizer.json")
    add("--train", metavar="FILE", help="training examples: .tsv, .csv or .jsonl")
    add("--eval", metavar="FILE", help="examples to measure the accuracy or the perplexity on")
    add("--output", default="npora-output", metavar="DIR", help="gets adapter/, log.jsonl and the checkpoints")
    add("--task", default="classification", choices=["classification", "causal-lm"], help="what is learnt")
    add("--text-column", default="sentence", help="the column of the text")
    add("--label-column", default="label", help="the column of the class: 0, 1, …")
    add("--prompt-column", metavar="NAME", help="causal-lm: what stands before the text, and is not learnt")
    add("--num-labels", type=int, default=2, help="number of classes")
    add("--max-train-rows", type=int, metavar="N", help="train on N rows drawn with the seed 42 (default: all)")
    add("--max-length", type=int, default=128, help="the most tokens of a sentence")
    add("--r", type=int, default=8, help="rank")
    add("--lora-alpha", type=float, default=16, help="the update is scaled by alpha / r")
    add("--lora-dropout", type=float, default=0.1, help="dropout on the input of the update")
    add("--target-modules", nargs="+", metavar="NAME",
        help="which layers are adapted (default: the family's, as query and value of a BERT)")  # fmt: skip
    add("--batch-size", type=int, default=16, help="sentences a step")
    add("--eval-batch-size", type=int, default=32, help="sentences at once in evaluation")
    add("--gradient-accumulation-steps", type=int, default=1, help="batches a step")
    add("--epochs", type=float, default=3.0, help="passes over the training sentences")
    add("--max-steps", type=int, default=-1, help="steps in all; wins over the epochs where it is positive")
    add("--learning-rate", type=float, default=5e-4, help="AdamW's")
    add("--weight-decay", type=float, default=0.0, help="AdamW's; biases and norms do not decay")
    add("--scheduler", default="linear", choices=["constant", "linear", "cosine"], help="of the learning rate")
    add("--warmup-steps", type=float, default=0, help="below 1 a share of all steps")
    add("--max-grad-norm", type=float, default=1.0, help="clips the gradient; 0 does not")
    add("--seed", type=int, default=42, help="of the adapter, the head, the order and dropout")
    add("--save-strategy", default="no", choices=["no", "epoch"], help="whether checkpoints to resume from are kept")
    add("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    add("--logging-steps", type=int, default=20, help="a line of progress every so many steps")


def run(options: argparse.Namespace) -> None:
    given = [name for name in ("model", "train", "eval") if getattr(options, name) is not None]
    if not given:
        for name, value in vars(options).items():
            if name not in ("output", "seed", "run", "parser") and value != options.parser.get_default(name):
                raise ValueError(f"--{name.replace('_', '-')} needs --model, --train and --eval")
        default_job.run(os.path.join(options.output, "adapter"), options.seed)
        return
    if missing := [f"--{name}" for name in ("model", "train", "eval") if name not in given]:
        raise ValueError(f"--{given[0]} needs {' and '.join(missing)} too (or give none of them, and see what LoRA is)")
    causal = options.task == "causal-lm"
    if options.prompt_column is not None and not causal:
        raise ValueError("--prompt-column needs --task causal-lm")
    train, dev = (_read(path, options) for path in (options.train, options.eval))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    base = (
        AutoModelForCausalLM.from_pretrained(options.model) if causal
        else AutoModelForSequenceClassification.from_pretrained(options.model, options.num_labels, seed=options.seed)
    )  # fmt: skip
    check_vocabulary(tokenizer, base.config.vocab_size)
    # One name may also be a pattern, or all-linear.
    targets = options.target_modules or list(base.default_target_modules)
    targets = targets if len(targets) > 1 else targets[0]
    config = LoraConfig(
        r=options.r, lora_alpha=options.lora_alpha, lora_dropout=options.lora_dropout,
        target_modules=targets, task_type="CAUSAL_LM" if causal else "SEQ_CLS",
    )  # fmt: skip
    model = get_peft_model(base, config, seed=options.seed)
    model.print_trainable_parameters()
    before = frozen_sha256(model)
    chosen = train.shuffle(seed=42).select(range(min(options.max_train_rows or len(train), len(train))))
    trainer = Trainer(
        model, _arguments(options), encode(chosen, tokenizer, options.max_length),
        encode(dev, tokenizer, options.max_length), tokenizer, None if causal else accuracy,
    )  # fmt: skip
    result = trainer.train(resume_from_checkpoint=options.resume)
    metrics = next(entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry)
    adapter = os.path.join(options.output, "adapter")
    model.save_pretrained(adapter)
    _summary(model, result.metrics, metrics, adapter, before)


def _arguments(options: argparse.Namespace) -> TrainingArguments:
    return TrainingArguments(
        output_dir=options.output,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        lr_scheduler_type=options.scheduler,
        warmup_steps=options.warmup_steps,
        max_grad_norm=options.max_grad_norm,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        eval_strategy="epoch",
        save_strategy=options.save_strategy,
        logging_steps=options.logging_steps,
        seed=options.seed,
    )


def _read(path: str, options: argparse.Namespace) -> Dataset:
    if options.task == "causal-lm":
        rows = read_texts(path, options.text_column, options.prompt_column)
    else:
        rows = read_examples(path, options.text_column, options.label_column, options.num_labels)
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def encode(rows: Dataset, tokenizer: Tokenizer, max_length: int) -> Dataset:
    """The rows with `input_ids` and the like beside what they hold; texts without a `label` get `labels`."""

    def ids(row: Row) -> Row:
        if "prompt" in row:
            return encode_completion(tokenizer, row["prompt"], row["text"], max_length)
        if "label" in row:
            return tokenizer(row["text"], truncation=True, max_length=max_length)
        return encode_text(tokenizer, row["text"], max_length)

    return rows.map(ids)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(prediction.predictions.argmax(axis=-1) == prediction.label_ids))}


def _summary(
    model: PeftModel, training: Mapping[str, float], metrics: Mapping[str, float], adapter: str, before: str
) -> None:
    trained, everything = model.get_nb_trainable_parameters()
    after = frozen_sha256(model)
    size = sum(os.path.getsize(os.path.join(adapter, name)) for name in os.listdir(adapter))
    loss, measured = metrics["eval_loss"], "accuracy" if "eval_accuracy" in metrics else "perplexity"
    value = metrics["eval_accuracy"] if measured == "accuracy" else math.exp(loss) if loss < 700 else math.inf
    lines: list[tuple[str, Any]] = [
        (measured, f"{value:.4f}"),
        ("evaluation loss", f"{loss:.4f}"),
        ("training loss", f"{training['train_loss']:.4f}"),
        ("trainable", f"{trained:,} of {everything:,} ({100 * trained / everything:.4f}%)"),
        ("training time", f"{training['train_runtime']:.1f} s"),
        ("tokens per second", f"{training['train_tokens_per_second']:,.0f}"),
        ("peak memory", f"{peak_memory() / 1e6:,.0f} MB"),
        ("adapter", f"{size / 1e3:,.1f} kB in {adapter}"),
        ("frozen bytes before", before),
        ("frozen bytes after", after),
    ]
    for name, value in lines:
        print(f"{name:20} {value}")
    if before != after:
        raise RuntimeError("the frozen weights have changed: their SHA-256 differs before and after the training")
