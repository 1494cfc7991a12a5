"""What the commands know of chats: the template, the ends that are taught, a conversation as a prompt."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from npora.commands.loading import Loaded, agree_on_the_end
from npora.commands.tasks import Columns, Task
from npora.data import AutoTokenizer, Dataset, Tokenizer
from npora.data.turns import learnt_turns
from npora.files import read_json, write_atomically, write_json
from npora.files.refusal import naming
from npora.files.regular import read_regular
from npora.models.generate.generation_config import text_ends

_SOME = 64  # examples that tell which tokens end a turn
_MOST_BYTES = 10_000_000  # of a template


def add_chat_template(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chat-template-path", metavar="FILE", help="causal-lm, dpo, orpo: a Jinja template for "
        "messages, or a folder with a tokenizer that has one (default: finetune's, else the model's)")  # fmt: skip


def choose_form(
    options: argparse.Namespace, task: Task, found: Columns, model: Any, tokenizer: Tokenizer, path: str
) -> None:
    """Let texts be encoded in the form in which the model writes: conversations by their template, others with an end
    at which it stops. Raises ValueError for a template where there are no conversations."""
    if found.conversational:
        choose_template(tokenizer, options.chat_template_path)
    elif options.chat_template_path is not None:
        raise ValueError(f"--chat-template-path is for conversations, and {path} has none")
    else:
        agree_on_the_end(task, model, tokenizer)


def choose_template(tokenizer: Tokenizer, path: str | None) -> None:
    """Give the tokenizer the template that the user names. Raises ValueError where there is none at all."""
    if path is not None and os.path.isdir(path):
        tokenizer.chat_template = AutoTokenizer.from_pretrained(path).chat_template
    elif path is not None:
        with naming(path):
            tokenizer.chat_template = read_regular(path, _MOST_BYTES).decode("utf-8")
    if tokenizer.chat_template is None:
        raise ValueError(
            f"{path or tokenizer.name_or_path} has no chat template, which says how messages become a text: pass "
            "--chat-template-path, or take the instruct or chat model of the family"
        )


def taught_ends(tokenizer: Tokenizer, examples: Dataset) -> list[int]:
    """The tokens that end the assistant's turns, as the first examples tell."""
    found: set[int] = set()
    for example in examples[:_SOME]:
        first = example.get("first", len(example.get("prompt", ())))
        messages = example["messages"] if "messages" in example else [*example["prompt"], *example["chosen"]]
        found |= learnt_turns(tokenizer, messages, None, first, None, example["variables"])[2]
    return sorted(found)


def stops(model: Any, tokenizer: Tokenizer, notes: Mapping[str, Any]) -> list[int]:
    """Where generation stops: at the model's own ends, and at those that it was taught."""
    return sorted({*text_ends(model, tokenizer), *(notes.get("end_token_ids") or ())})


def keep_chats(folder: str, loaded: Loaded) -> None:
    """Let a merged model be talked with in the form that it was taught, and stop where it was taught."""
    if not loaded.notes.get("end_token_ids"):
        return
    path = os.path.join(folder, "generation_config.json")
    settings = read_json(path) if os.path.isfile(path) else {}
    write_json(path, {**settings, "eos_token_id": stops(loaded.model, loaded.tokenizer, loaded.notes)})
    if isinstance(template := loaded.notes.get("chat_template"), str):
        write_atomically(os.path.join(folder, "chat_template.jinja"), [template.encode()])


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
    """The ids of a conversation up to where the assistant is to begin."""
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **variables)
    return list(found)
