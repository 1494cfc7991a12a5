"""What `npora finetune` does without arguments: shows what LoRA is, on text that every machine with Python has.

A small byte-level GPT-2 is pretrained on English prose, the docstrings of Python's standard library (a minute or two on
two cores; kept in the user's cache folder, so that the next run starts at once). Then it is frozen, and an adapter
learns another kind of text: the library's source. Bits per byte on held-out text of both kinds say what was gained, and
that switching the adapter off gives the old model back.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npora.commands.messages import say
from npora.commands.output import adapter_of
from npora.data import ByteTokenizer, Dataset
from npora.data.stdlib import stdlib_prose, stdlib_source
from npora.files import load_file, read_json, save_file, write_json
from npora.files.cache import cache_folder
from npora.lora import LoraConfig, PeftModel, get_peft_model
from npora.models import GPT2Config, GPT2LMHeadModel
from npora.nn import Module, no_grad
from npora.nn.module import Array
from npora.train import Trainer, TrainingArguments
from npora.train.measure import frozen_sha256

LENGTH, BATCH = 128, 16
PROMPT = "def "
_TEXTS, _SUMS = "texts.safetensors", "sha256.json"
_EDITION = 2  # to be raised when other texts or another training give another base model
_LEAST = 4 * LENGTH * BATCH  # bytes to train on
_MERGED_BOUND = 1e-5  # of the largest logit: the orders of the products differ by a few roundings in each layer


@dataclass(frozen=True)
class Recipe:
    """How large the model is and how long it is trained. Another recipe is another base model in the cache."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    train_bytes: int = 1_000_000  # of each kind, where there are so many
    held_out_bytes: int = 65_536
    pretraining_steps: int = 600
    pretraining_rate: float = 4e-3
    steps: int = 200
    rate: float = 5e-3
    r: int = 8

    def config(self) -> GPT2Config:
        return GPT2Config(
            vocab_size=256, n_positions=LENGTH, n_embd=self.width, n_layer=self.layers, n_head=self.heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip


def run(output: str, seed: int, cache: Path | None = None, recipe: Recipe | None = None) -> dict[str, Any]:
    """The whole job. Prints as it goes, saves output/adapter, and returns the figures that it printed.

    cache : the folder that keeps the base model, cache_folder() unless given
    """
    recipe = recipe or Recipe()
    adapter = adapter_of(output)
    os.makedirs(adapter, exist_ok=True)  # an error now, and not after the training
    texts, base = pretrained(cache_folder() if cache is None else cache, recipe)
    train = texts["source"][: -recipe.held_out_bytes]
    held_out = {kind: text[-recipe.held_out_bytes :] for kind, text in texts.items()}
    before = {kind: bits_per_byte(base, text) for kind, text in held_out.items()}
    config = LoraConfig(
        r=recipe.r, lora_alpha=2 * recipe.r, target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config, seed=seed)
    sha = frozen_sha256(model)
    say(f"adapting it to Python source: {recipe.steps} steps")
    _train(model, train, max_steps=recipe.steps, learning_rate=recipe.rate, warmup_steps=10, seed=seed)
    figures = _figures(model, held_out, before, sha)
    model.notes["demonstration"] = True
    model.save_pretrained(adapter)
    figures["adapter_bytes"] = sum(file.stat().st_size for file in Path(adapter).glob("adapter*"))
    _report(model, figures, adapter)
    if figures["sha256_before"] != figures["sha256_after"] or figures["off"] != before:
        raise RuntimeError("the frozen weights have changed")
    if not figures["merged_difference"] <= figures["merged_bound"]:
        raise RuntimeError("the merged weights do not compute what W and B A apart do")
    return figures


def bits_per_byte(model: Module, text: Array) -> float:
    """Mean −log₂ p of a byte given those before it, in windows of 128 bytes."""
    windows = _windows(text)
    with no_grad():
        losses = [model(part, labels=part)[0] for part in np.array_split(windows, max(len(windows) // 64, 1))]
    items = sum(output.num_items for output in losses)
    return float(sum(float(output.loss) * output.num_items for output in losses) / items / math.log(2))


def _windows(text: Array) -> Array:
    whole = len(text) // LENGTH * LENGTH
    return text[:whole].astype(np.int64).reshape(-1, LENGTH)  # [n·t] → [n,t]


def pretrained(cache: Path, recipe: Recipe) -> tuple[dict[str, Array], GPT2LMHeadModel]:
    """The texts, as bytes, and the base model: from the cache, or made anew and put there."""
    key = json.dumps([_EDITION, sys.version, asdict(recipe)], sort_keys=True)
    folder = cache / f"gpt2-prose-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if _is_whole(folder):
        say(f"a base model pretrained on prose is in {folder}")
        return load_file(folder / _TEXTS), GPT2LMHeadModel.from_pretrained(folder)
    size = recipe.train_bytes + recipe.held_out_bytes
    texts = {
        kind: np.frombuffer(text.encode()[:size], np.uint8)
        for kind, text in (("prose", stdlib_prose(size)), ("source", stdlib_source(size)))
    }
    for kind, text in texts.items():
        if len(text) < (least := min(recipe.train_bytes, _LEAST) + recipe.held_out_bytes):
            raise RuntimeError(f"this Python's library has {len(text):,} bytes of {kind}; {least:,} are needed")
    model = GPT2LMHeadModel(recipe.config(), rng=0)
    count = sum(parameter.size for parameter in model.parameters())
    say(f"pretraining a GPT-2 of {count:,} parameters on the standard library's docstrings, once: a minute or two")
    _train(
        model, texts["prose"][: -recipe.held_out_bytes], max_steps=recipe.pretraining_steps,
        learning_rate=recipe.pretraining_rate, weight_decay=0.1, adam_beta2=0.95, lr_scheduler_type="cosine",
        warmup_steps=20,
    )  # fmt: skip
    try:
        model.save_pretrained(folder)
        ByteTokenizer().save_pretrained(folder)
        save_file(texts, folder / _TEXTS)
        write_json(folder / _SUMS, _sums(folder))
        return texts, GPT2LMHeadModel.from_pretrained(folder)
    except OSError as error:
        say(f"the base model cannot be kept for the next run: {error}")
        return texts, model


def _sums(folder: Path) -> dict[str, str]:
    names = ("config.json", "model.safetensors", "tokenizer_config.json", _TEXTS)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _is_whole(folder: Path) -> bool:
    """Whether its files are those that were written there."""
    try:
        return read_json(folder / _SUMS) == _sums(folder)
    except (OSError, ValueError):
        return False


def _train(model: Module, text: Array, **changes: Any) -> None:
    examples = Dataset({"input_ids": window, "labels": window} for window in _windows(text))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=BATCH, save_strategy="no", logging_steps=50, **changes
        )
        Trainer(model, arguments, examples).train()


def _figures(model: PeftModel, held_out: dict[str, Array], before: dict[str, float], sha: str) -> dict[str, Any]:
    after = {kind: bits_per_byte(model, text) for kind, text in held_out.items()}
    with model.disable_adapter():
        off = {kind: bits_per_byte(model, text) for kind, text in held_out.items()}
    difference, largest = _merged_difference(model, held_out["source"])
    trainable, everything = model.get_nb_trainable_parameters()
    return {
        "before": before, "after": after, "off": off, "trainable": trainable, "all": everything, "sha256_before": sha,
        "sha256_after": frozen_sha256(model), "merged_difference": difference, "merged_bound": _MERGED_BOUND * largest,
    }  # fmt: skip


def _merged_difference(model: PeftModel, text: Array) -> tuple[float, float]:
    """By how much merging changes a logit, and the largest logit. Of few bytes at once: of many a LoRALinear itself
    forms W + s B A, and both sides would be one product."""
    some = text[:64].astype(np.int64).reshape(-1, 8)  # [n,t]
    with no_grad():
        apart = np.concatenate([model(ids[None])[0].logits for ids in some])
        model.merge_adapter()
        merged = np.concatenate([model(ids[None])[0].logits for ids in some])
        model.unmerge_adapter()
    return float(np.abs(merged - apart).max()), float(np.abs(apart).max())


def _report(model: PeftModel, figures: dict[str, Any], adapter: str) -> None:
    print("\nbits per byte on held-out text     prose    Python source")
    for name, key in (("the base model", "before"), ("with the adapter", "after"), ("adapter switched off", "off")):
        print(f"  {name:30}{figures[key]['prose']:8.4f}{figures[key]['source']:17.4f}")
    share = 100 * figures["trainable"] / figures["all"]
    print(f"\ntrained           {figures['trainable']:,} of {figures['all']:,} parameters ({share:.2f}%)")
    print(f"adapter           {figures['adapter_bytes'] / 1e3:,.0f} kB in {adapter}")
    print(f"frozen before     SHA-256 {figures['sha256_before']}")
    print(f"frozen after      SHA-256 {figures['sha256_after']}")
    found, bound = figures["merged_difference"], figures["merged_bound"]
    print(f"merged            logits differ by {found:.1e} from those of W and B A apart; rounding may do {bound:.1e}")
    print(f"\nthe adapted model goes on from {PROMPT!r}:\n{_indented(_sample(model))}")
    with model.disable_adapter():
        print(f"\nthe base model goes on from {PROMPT!r}:\n{_indented(_sample(model))}")
    if (base := getattr(model.get_base_model(), "name_or_path", None)) is not None:
        print(
            "\nmore of it: npora generate --do-sample --temperature 0.7 --max-new-tokens 100 --model "
            f"{shlex.quote(base)} --adapter {shlex.quote(adapter)} {shlex.quote(PROMPT)}"
        )


def _sample(model: PeftModel) -> str:
    prompt = np.frombuffer(PROMPT.encode(), np.uint8).astype(np.int64)[None]  # [1,t]
    ids = model.generate(prompt, max_new_tokens=LENGTH - len(PROMPT), do_sample=True, temperature=0.7, seed=0)
    return bytes(ids[0].astype(np.uint8)).decode(errors="replace")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
