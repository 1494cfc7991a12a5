"""Write a model, with an adapter merged in or by itself, in a form that other programs load.

--to gguf : one file for llama.cpp, Ollama and LM Studio, with a Modelfile for Ollama beside it. --to gguf-lora : the
adapter alone for llama.cpp's --lora. --to hf : a checkpoint that transformers loads, in the base's dtype, with the
base's other files. --to peft : an adapter of any method as plain LoRA, which PEFT loads.

What a form has no place for is an error: GGUF has none for a classifier's head, for modules that an adapter trains
whole, or for an adapter's biases.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

import numpy as np

from npora.commands.chats import keep_chats
from npora.commands.loading import Loaded, add_model, load
from npora.commands.messages import say
from npora.commands.modelfile import modelfile, stop_ids
from npora.commands.output import refuse_file
from npora.commands.tasks import TASKS
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.files import resolve
from npora.files.gguf import read_gguf_header
from npora.files.gguf_header import is_gguf
from npora.gguf_adapter import write_gguf_adapter
from npora.lora import PeftModel
from npora.lora.convert import save_as_lora
from npora.models.gguf.writing import NUMBERS, architecture_for, write_gguf
from npora.models.numbers import numbers_of
from npora.stored import HALF

_MODEL, _ADAPTER, _MODELFILE = "model.gguf", "adapter.gguf", "Modelfile"
_WEIGHTS = (
    "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.gguf", "*.h5", "*.msgpack", "*.onnx",
    "*.pt", "*.pth", "*.ckpt", "adapter_config.json",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add("--to", required=True, choices=list(_WAYS), help="the form to write")
    add("--output", required=True, metavar="DIR", help="a new folder")
    add("--numbers", choices=list(NUMBERS), help="gguf: how matrices are written (default: F16)")
    add("--rank", metavar="R", type=_rank, help="gguf-lora, peft: cut each layer's update to this rank, or where it is "
        "below 1 to the lowest rank that has this share of its energy (what is no LoRA needs it)")  # fmt: skip


def _rank(text: str) -> float:
    value = float(text)
    return value if value < 1 else int(text)


def run(options: argparse.Namespace) -> None:
    way, idle = _WAYS[options.to], {"numbers": ("gguf",), "rank": ("gguf-lora", "peft")}
    for name, ways in idle.items():
        if name in options.given and options.to not in ways:
            raise ValueError(f"--{name} is for --to {' and '.join(ways)}")
    if options.to in idle["rank"] and options.adapter is None:
        raise ValueError(f"--to {options.to} writes an adapter: pass --adapter")
    refuse_file(options.output)
    if os.path.isdir(options.output) and os.listdir(options.output):
        raise FileExistsError(f"{options.output} is not empty: name a new folder")
    os.makedirs(options.output, exist_ok=True)  # an error now, and not after the work
    loaded = load(options, tuple(TASKS), dtype="auto" if options.to == "hf" else None)
    way(options, loaded)
    names = sorted(os.listdir(options.output))
    size = sum(os.path.getsize(os.path.join(options.output, name)) for name in names)
    print(f"{size / 1e6:,.1f} MB in {options.output}: {', '.join(names)}")


def _merged(loaded: Loaded) -> Any:
    model = loaded.model
    return model.merge_and_unload(safe_merge=True) if isinstance(model, PeftModel) else model


def _to_gguf(options: argparse.Namespace, loaded: Loaded) -> None:
    source, tokenizer = resolve(loaded.name), loaded.tokenizer
    model = _merged(loaded)
    architecture_for(model)  # of another the tokenizer is of no use
    name = os.path.basename(loaded.name.rstrip("/\\")).removesuffix(".gguf")
    more = {"general.name": name, **_tokenizer(loaded, source)}
    left_out = write_gguf(model, os.path.join(options.output, _MODEL), options.numbers or "F16", more)
    if left_out:
        say(f"without {', '.join(left_out)}: GGUF has no place for these, and llama.cpp computes without them")
    text, missing = modelfile(_MODEL, tokenizer, [*stop_ids(model), *(loaded.notes.get("end_token_ids") or ())])
    with open(os.path.join(options.output, _MODELFILE), "w", encoding="utf-8") as file:
        file.write(text)
    if missing:
        say(missing)


def _tokenizer(loaded: Loaded, source: str) -> Mapping[str, Any]:
    """The keys of the tokenizer; those of a GGUF file as they are there."""
    if is_gguf(source):
        own = {k: v for k, v in read_gguf_header(source).metadata.items() if k.startswith("tokenizer.")}
        if isinstance(template := loaded.notes.get("chat_template"), str):
            own["tokenizer.chat_template"] = template
        return own
    return gguf_vocabulary(loaded.tokenizer, loaded.config.vocab_size)


def _to_gguf_lora(options: argparse.Namespace, loaded: Loaded) -> None:
    write_gguf_adapter(loaded.model, os.path.join(options.output, _ADAPTER), options.rank)


def _to_hf(options: argparse.Namespace, loaded: Loaded) -> None:
    source = resolve(loaded.name)
    half = None if is_gguf(source) else HALF.get(numbers_of(source))
    model = _merged(loaded)
    if half is not None:  # what was merged is float32
        for parameter in model.parameters():
            if isinstance(parameter.data, np.ndarray):
                narrow: Any = half.rounded(parameter.data)
                parameter.data = narrow
    model.save_pretrained(options.output)
    if is_gguf(source):
        loaded.tokenizer.save_pretrained(options.output)
    for name in [] if is_gguf(source) else sorted(os.listdir(source)):
        path, target = os.path.join(source, name), os.path.join(options.output, name)
        if os.path.isfile(path) and not os.path.exists(target) and not any(fnmatch(name, part) for part in _WEIGHTS):
            shutil.copyfile(path, target)
    keep_chats(options.output, loaded)


def _to_peft(options: argparse.Namespace, loaded: Loaded) -> None:
    model = loaded.model
    if options.rank is not None:
        errors = save_as_lora(options.output, model, options.rank).errors
        say(f"of each layer's update the rank leaves out up to {100 * max(errors.values()):.2g} %")
        return
    for _, layer in model.lora_layers():
        for adapter in layer.adapters.values():
            if adapter.factored() is None:
                raise ValueError(f"{type(adapter).__name__} is no plain LoRA: pass the rank to cut it to (--rank)")
    model.save_pretrained(options.output)


_WAYS: Mapping[str, Callable[[argparse.Namespace, Loaded], None]] = {
    "gguf": _to_gguf, "gguf-lora": _to_gguf_lora, "hf": _to_hf, "peft": _to_peft,
}  # fmt: skip
