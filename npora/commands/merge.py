"""Write a model with an adapter merged into its weights: a whole checkpoint, which needs no adapter any more.

The folder has the config, the weights and the tokenizer's files; npora and transformers load it.
"""

from __future__ import annotations

import argparse
import os

from npora.commands.chats import keep_chats
from npora.commands.loading import Loaded, add_model, load
from npora.commands.output import refuse_file
from npora.commands.tasks import TASKS
from npora.files import read_json, write_json
from npora.files.gguf_header import is_gguf


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, adapter_required=True)
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder for the merged model")


def run(options: argparse.Namespace) -> None:
    refuse_file(options.output)
    if os.path.isdir(options.output) and os.listdir(options.output):
        raise FileExistsError(f"{options.output} is not empty: name a new folder")
    os.makedirs(options.output, exist_ok=True)  # an error now, and not after the work
    loaded = load(options, tuple(TASKS))
    merged = loaded.model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(options.output)
    if is_gguf(loaded.name):
        loaded.tokenizer.save_pretrained(options.output)
    _keep_length(options.output, loaded)
    keep_chats(options.output, loaded)
    size = sum(os.path.getsize(os.path.join(options.output, name)) for name in os.listdir(options.output))
    print(f"{size / 1e6:,.1f} MB in {options.output}: {', '.join(sorted(os.listdir(options.output)))}")


def _keep_length(folder: str, loaded: Loaded) -> None:
    """Sentences are cut where finetune cut them: without an adapter the tokenizer's settings are the place for that."""
    most, path = loaded.notes.get("max_length"), os.path.join(folder, "tokenizer_config.json")
    has_tokenizer = any(
        os.path.isfile(os.path.join(folder, name)) for name in ("tokenizer.json", "vocab.json", "vocab.txt")
    )
    if most is not None and loaded.task.command == "predict" and has_tokenizer:
        settings = read_json(path, 10_000_000) if os.path.isfile(path) else {}
        write_json(path, {**settings, "model_max_length": most})
