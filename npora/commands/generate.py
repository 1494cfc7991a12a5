"""Continue a text with a causal language model, or answer it with an encoder-decoder, with or without an adapter.

Prints the prompt, unless an encoder reads it, and each token after it as it comes. Beam search knows its tokens at the
end, and prints them then.

Of a model that was taught on conversations, and with --chat, the prompt is what a user says, in the form of the model's
chat template, and the answer alone is printed. With --prompts FILE many prompts are answered, several at once; each
gives a line of JSON with the prompt and the text behind it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from npora.commands import standard_input
from npora.commands.chats import add_chat_template, choose_template, prompt_ids, stops
from npora.commands.loading import Loaded, add_model, load
from npora.commands.tasks import TASKS, is_plain
from npora.commands.writing import TextPrinter, add_generation, answers, chosen_of, said, stay_within
from npora.data.chats import read_chats, usual_columns
from npora.data.readers import read_texts, table_examples
from npora.machine.heap import keeping_freed_memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add_generation(parser)
    add("--chat", action=argparse.BooleanOptionalAction, help="the prompt is what a user says, and the model's chat "
        "template goes around it (default: where finetune was given conversations)")  # fmt: skip
    add_chat_template(parser)
    add("--stream", action=argparse.BooleanOptionalAction, help="print each token as it comes (default: yes, but with "
        "--num-beams or --prompts)")  # fmt: skip
    add("--prompts", metavar="FILE", help="prompts, a line each of a .txt file, or the column prompt of a .tsv, .csv, "
        ".json or .jsonl file; or conversations, of which the last answer is written anew")  # fmt: skip
    add("--prompt-column", metavar="NAME", help="of --prompts (default: prompt, messages or conversations)")
    add("--batch-size", type=int, default=8, help="of --prompts: how many are answered at once")
    add("prompt", nargs="?", metavar="PROMPT", help="the text to continue; standard input where none is given")


def run(options: argparse.Namespace) -> None:
    loaded = load(options, tuple(name for name, task in TASKS.items() if task.writes))
    chosen = chosen_of(options, loaded.model)
    is_chat = options.chat
    if is_chat is None:
        is_chat = bool((loaded.notes.get("columns") or {}).get("conversational"))
    if is_chat:
        choose_template(loaded.tokenizer, options.chat_template_path)
    elif options.chat_template_path is not None:
        raise ValueError("--chat-template-path needs --chat")
    chosen.setdefault("eos_token_id", stops(loaded.model, loaded.tokenizer, loaded.notes))
    if options.prompts is not None:
        _answer_many(options, loaded, chosen, is_chat)
        return
    for name in {"batch_size", "prompt_column"} & options.given:
        raise ValueError(f"--{name.replace('_', '-')} needs --prompts")
    beams = said(chosen, loaded.model, "num_beams") or 1
    if options.stream and beams > 1:
        raise ValueError("--stream needs --num-beams 1: beam search does not know its tokens before the end")
    prompt = "".join(standard_input.lines()).rstrip("\r\n") if options.prompt is None else options.prompt
    ids = _ids(loaded, prompt, is_chat)
    if not ids:
        raise ValueError("there is no text to continue: name a prompt, or pass it on standard input")
    if loaded.task.continues:
        stay_within(loaded.config.most_tokens, len(ids), chosen, loaded.model)
    printer = TextPrinter(loaded.tokenizer, len(ids) if is_chat else 0)
    streamer = printer if beams == 1 and options.stream is not False else None
    with keeping_freed_memory():
        sequences = loaded.model.generate(
            [ids], use_cache=not options.no_cache, streamer=streamer, tokenizer=loaded.tokenizer, **chosen
        )
    if streamer is None:
        printer.put(sequences)
        printer.end()


def _ids(loaded: Loaded, prompt: Any, is_chat: bool) -> list[int]:
    if not is_chat and isinstance(prompt, str):
        return loaded.tokenizer.encode(prompt)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return prompt_ids(loaded.tokenizer, messages)


def _answer_many(options: argparse.Namespace, loaded: Loaded, chosen: dict[str, Any], is_chat: bool) -> None:
    if options.prompt is not None:
        raise ValueError(f"--prompts {options.prompts} and the prompt {options.prompt!r}: choose one")
    if options.stream:
        raise ValueError("--stream prints one text as it comes, and --prompts writes several at once: choose one")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {options.batch_size}")
    prompts = _prompts(options.prompts, options.prompt_column)
    if not prompts:
        raise ValueError(f"{options.prompts} has no prompts")
    if not is_chat and not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"{options.prompts} has conversations: pass --chat, and the model's chat template is applied")
    ids = [_ids(loaded, prompt, is_chat) for prompt in prompts]
    if empty := next((i for i, own in enumerate(ids, start=1) if not own), 0):
        raise ValueError(f"{options.prompts}: prompt {empty} is empty: there is no text to continue")
    if loaded.task.continues:
        stay_within(loaded.config.most_tokens, max(map(len, ids)), chosen, loaded.model)
    use = {"use_cache": not options.no_cache, **chosen}
    written = answers(loaded.model, loaded.tokenizer, ids, options.batch_size, loaded.task.continues, **use)
    for prompt, text in zip(prompts, written, strict=True):
        print(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False))
        sys.stdout.flush()


def _prompts(path: str, column: str | None) -> list[Any]:
    """Texts, or conversations without the answer that ends them."""
    if is_plain(path):
        if column is not None:
            raise ValueError(f"--prompt-column: {path} has no columns")
        return list(read_texts(path, "text")["text"])
    first = next((example for _, example in table_examples(path)), {})
    if column is None:
        column = "prompt" if "prompt" in first else usual_columns(list(first))[0] or "prompt"
    if isinstance(first.get(column), str):
        return list(read_texts(path, column)["text"])
    chats = read_chats(path, column)["messages"]
    return [chat[:-1] if chat[-1]["role"] == "assistant" else chat for chat in chats]
