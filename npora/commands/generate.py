"""Continue a text with a causal language model, or answer it with an encoder-decoder, with or without an adapter.

Prints the prompt, unless an encoder reads it, and each token after it as it comes. Beam search knows its tokens at the
end, and prints them then.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.commands import standard_input
from npora.commands.loading import add_model, load
from npora.commands.messages import say, seed
from npora.machine.heap import keeping_freed_memory
from npora.models.generate.generation_config import GenerationConfig, chosen_options
from npora.nn.module import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add("--max-new-tokens", type=int, metavar="N", help="the most tokens to put behind the prompt (default: what the "
        "model's generation_config.json says, as for all that follows, else 20)")  # fmt: skip
    add("--min-new-tokens", type=int, metavar="N", help="tokens before an end")
    add("--do-sample", action=argparse.BooleanOptionalAction, help="draw tokens, instead of taking the likeliest")
    add("--temperature", type=float, help="of sampling: below 1 the likely become likelier (default: 1)")
    add("--top-k", type=int, metavar="K", help="of sampling: only the K likeliest; 0 for all (default: 50)")
    add("--top-p", type=float, metavar="P", help="of sampling: only the likeliest that make up P (default: 1)")
    add(
        "--min-p", type=float, metavar="P", help="of sampling: only what is at least P times as likely as the likeliest"
    )
    add("--num-beams", type=int, metavar="N", help="sequences to follow at once (default: 1)")
    add("--length-penalty", type=float, help="of beams: above 0 favours long ones (default: 1)")
    add("--early-stopping", action=argparse.BooleanOptionalAction, help="of beams: stop when as many as there are have "
        "ended")  # fmt: skip
    add("--repetition-penalty", type=float, metavar="R", help="above 1 makes what is written already less likely")
    add("--no-repeat-ngram-size", type=int, metavar="N", help="no N tokens in a row stand there twice")
    add("--stop", dest="stop_strings", action="append", metavar="TEXT", help="ends the text where it is written; may "
        "be repeated")  # fmt: skip
    add("--eos-token-id", type=int, action="append", metavar="ID", help="ends the text; may be repeated (default: the "
        "model's)")  # fmt: skip
    add("--seed", type=seed, help="of sampling; another text every time unless given")
    add("--no-cache", action="store_true", help="compute all keys and values again for every token")
    add("prompt", nargs="?", metavar="PROMPT", help="the text to continue; standard input where none is given")


_SAMPLING, _BEAMS = ("temperature", "top_k", "top_p", "min_p", "seed"), ("length_penalty", "early_stopping")
_OPTIONS = ("max_new_tokens", "min_new_tokens", "do_sample", "num_beams", "eos_token_id", "repetition_penalty",
            "no_repeat_ngram_size", "stop_strings", *_SAMPLING, *_BEAMS)  # fmt: skip


def run(options: argparse.Namespace) -> None:
    loaded = load(options, ("causal-lm", "seq2seq-lm"))
    model, tokenizer = loaded.model, loaded.tokenizer
    # What is not given is left to the model's generation_config.json.
    chosen = {name: getattr(options, name) for name in _OPTIONS if name in options.given}
    _refuse_idle(chosen, getattr(model, "generation_config", None))
    for number in chosen.get("eos_token_id", ()):
        if not 0 <= number < loaded.config.vocab_size:
            raise ValueError(f"--eos-token-id {number}: the ids of this model are 0 … {loaded.config.vocab_size - 1}")
    prompt = "".join(standard_input.lines()).rstrip("\r\n") if options.prompt is None else options.prompt
    ids = tokenizer(prompt, return_tensors="np")["input_ids"].reshape(1, -1)
    if not ids.size:
        raise ValueError("there is no text to continue: name a prompt, or pass it on standard input")
    if loaded.task.name == "causal-lm":
        _stay_within(loaded.config.most_tokens, ids.shape[1], chosen, getattr(model, "generation_config", None))
    printer = TextPrinter(tokenizer)
    beams = _said(chosen, getattr(model, "generation_config", None), "num_beams") or 1
    streamer = printer if beams == 1 else None
    with keeping_freed_memory():
        sequences = model.generate(
            ids, use_cache=not options.no_cache, streamer=streamer, tokenizer=tokenizer, **chosen
        )
    if streamer is None:
        printer.put(sequences)
        printer.end()


def _stay_within(places: int | None, prompt: int, chosen: dict[str, Any], said: Any) -> None:
    """Let the text end where the model's positions do, and say so. Raises ValueError for a prompt that is too long."""
    if places is None:
        return
    if prompt > places:
        raise ValueError(f"the prompt has {prompt} tokens, and this model takes at most {places}")
    room = places - prompt + 1  # the last token is not read any more
    options = chosen_options(said or GenerationConfig(), {n: v for n, v in chosen.items() if n != "seed"})
    if (options["max_new_tokens"] or options["max_length"] - prompt) > room:
        chosen["max_new_tokens"] = room
        say(f"this model takes at most {places} tokens: the text ends after {room} new ones, if not before")


def _said(chosen: Mapping[str, Any], said: Any, name: str) -> Any:
    return chosen.get(name, getattr(said, name, None))


def _refuse_idle(chosen: Mapping[str, Any], said: Any) -> None:
    """Raise ValueError for an option of a way of generating that is not taken."""
    ways = (
        (_said(chosen, said, "do_sample"), _SAMPLING, "--do-sample"),
        ((_said(chosen, said, "num_beams") or 1) > 1, _BEAMS, "--num-beams above 1"),
    )
    for taken, names, needed in ways:
        if not taken and (name := next((name for name in names if name in chosen), None)):
            raise ValueError(f"--{name.replace('_', '-')} needs {needed}")


class TextPrinter:
    """A streamer that prints what the ids so far say, as soon as that is certain."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.printed = ""

    def put(self, ids: Array) -> None:
        self.ids += [int(i) for i in np.ravel(ids)]
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("�"):  # a character may take several tokens
            self._print(text)

    def end(self) -> None:
        self._print(self.tokenizer.decode(self.ids, skip_special_tokens=True))
        print()

    def _print(self, text: str) -> None:
        print(text[len(self.printed) :], end="", flush=True)
        self.printed = text
