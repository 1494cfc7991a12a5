"""Talk with a chat model, with or without an adapter: what you type is answered, token by token.

/reset forgets the conversation, /system TEXT sets another system message and forgets it too, /exit ends. Ctrl-C stops
an answer. Standard input may be a pipe: each line is answered, and the answers alone are printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from npora.commands import standard_input
from npora.commands.chats import add_chat_template, choose_template, prompt_ids, stops
from npora.commands.loading import Loaded, add_model, load
from npora.commands.messages import say
from npora.commands.tasks import TASKS
from npora.commands.writing import TextPrinter, add_generation, chosen_of, most_new, said
from npora.machine.heap import keeping_freed_memory

_USUAL_LENGTH = 512  # tokens of an answer where nobody says it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_generation(parser)
    add_chat_template(parser)
    parser.add_argument("--system", metavar="TEXT", help="the system message (default: what the template has)")


def run(options: argparse.Namespace) -> None:
    loaded = load(options, tuple(name for name, task in TASKS.items() if task.writes and task.continues))
    chosen = chosen_of(options, loaded.model)
    if (said(chosen, loaded.model, "num_beams") or 1) > 1:
        raise ValueError(
            "--num-beams: an answer is printed as it comes, and beam search does not know it before the end"
        )
    choose_template(loaded.tokenizer, options.chat_template_path)
    chosen.setdefault("eos_token_id", stops(loaded.model, loaded.tokenizer, loaded.notes))
    if said(chosen, loaded.model, "max_new_tokens") is None and said(chosen, loaded.model, "max_length") is None:
        places = loaded.config.named_length
        chosen["max_new_tokens"] = _USUAL_LENGTH if places is None else min(_USUAL_LENGTH, max(places // 2, 1))
    chosen["use_cache"] = not options.no_cache
    talk = Conversation(loaded, chosen, options.system)
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return
        if command == "/reset":
            talk.reset()
        elif command == "/system":
            talk.system = rest.strip() or None
            talk.reset()
        elif command.startswith("/"):
            say(f"there is no {command}: /reset, /system TEXT, /exit")
        elif line:
            talk.answer(line)


class Conversation:
    """What was said so far, and what the model says next."""

    def __init__(self, loaded: Loaded, chosen: dict[str, Any], system: str | None = None) -> None:
        self.loaded, self.chosen, self.system = loaded, chosen, system
        self.reset()

    def reset(self) -> None:
        self.messages: list[dict[str, str]] = []

    def answer(self, text: str) -> None:
        """Print the answer as it comes, and remember both. One that Ctrl-C stops is remembered as far as it is."""
        self.messages.append({"role": "user", "content": text})
        try:
            ids = self._prompt()
        except ValueError:
            self.messages.pop()
            raise
        printer = TextPrinter(self.loaded.tokenizer, len(ids))
        try:
            with keeping_freed_memory():
                self.loaded.model.generate([ids], streamer=printer, tokenizer=self.loaded.tokenizer, **self.chosen)
        except KeyboardInterrupt:
            printer.end()
        self.messages.append({"role": "assistant", "content": printer.text.strip()})

    def _prompt(self) -> list[int]:
        """The ids so far. Where the model has no places left the oldest question goes, with its answer."""
        places = self.loaded.config.named_length
        while True:
            system = [{"role": "system", "content": self.system}] if self.system else []
            ids = prompt_ids(self.loaded.tokenizer, [*system, *self.messages])
            if places is None or len(ids) + most_new(self.chosen, self.loaded.model, len(ids)) <= places + 1:
                return ids
            if len(self.messages) < 2:
                raise ValueError(
                    f"what was said has {len(ids)} tokens, and this model takes {places}: there is no room for an "
                    "answer of --max-new-tokens"
                )
            del self.messages[:2]
            say(f"the model takes {places} tokens: the oldest question and its answer are forgotten")


def _lines() -> Iterator[str]:
    """What is typed, or what a pipe brings, without the space around it."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield from (line.strip() for line in standard_input.lines())
        return
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  keys and history of the line that input() reads
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return
