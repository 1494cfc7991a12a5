"""How a model is made to write: the options of generation, a text printed as it comes, many texts at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.commands.messages import say, seed
from npora.data import Tokenizer
from npora.data.batch_encoding import as_array, pad_lists
from npora.machine.heap import keeping_freed_memory
from npora.models.generate.generation_config import GenerationConfig, chosen_options
from npora.nn.module import Array

_SAMPLING, _BEAMS = ("temperature", "top_k", "top_p", "min_p", "seed"), ("length_penalty", "early_stopping")
_OPTIONS = ("max_new_tokens", "min_new_tokens", "do_sample", "num_beams", "eos_token_id", "repetition_penalty",
            "no_repeat_ngram_size", "stop_strings", *_SAMPLING, *_BEAMS)  # fmt: skip


def add_generation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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


def chosen_of(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """The options of generate that are given; what is not is left to the model's generation_config.json.

    Raises
    ------
    ValueError: an option of a way of generating that is not taken; an id that the model has not.
    """
    chosen = {name: getattr(options, name) for name in _OPTIONS if name in options.given}
    ways = (
        (said(chosen, model, "do_sample"), _SAMPLING, "--do-sample"),
        ((said(chosen, model, "num_beams") or 1) > 1, _BEAMS, "--num-beams above 1"),
    )
    for taken, names, needed in ways:
        if not taken and (name := next((name for name in names if name in chosen), None)):
            raise ValueError(f"--{name.replace('_', '-')} needs {needed}")
    for number in chosen.get("eos_token_id", ()):
        if not 0 <= number < model.config.vocab_size:
            raise ValueError(f"--eos-token-id {number}: the ids of this model are 0 … {model.config.vocab_size - 1}")
    return chosen


def said(chosen: Mapping[str, Any], model: Any, name: str) -> Any:
    """What is chosen, else what the model's own config has."""
    return chosen.get(name, getattr(getattr(model, "generation_config", None), name, None))


def most_new(chosen: Mapping[str, Any], model: Any, prompt: int) -> int:
    """How many tokens may come behind a prompt of so many."""
    config = getattr(model, "generation_config", None) or GenerationConfig()
    options = chosen_options(config, {name: value for name, value in chosen.items() if name != "seed"})
    return int(options["max_new_tokens"] or options["max_length"] - prompt)


def stay_within(places: int | None, prompt: int, chosen: dict[str, Any], model: Any) -> None:
    """Let the text end where the model's positions do, and say so. Raises ValueError for a prompt that is too long."""
    if places is None:
        return
    if prompt > places:
        raise ValueError(f"the prompt has {prompt} tokens, and this model takes at most {places}")
    room = places - prompt + 1  # the last token is not read any more
    if most_new(chosen, model, prompt) > room:
        chosen["max_new_tokens"] = room
        say(f"this model takes at most {places} tokens: the text ends after {room} new ones, if not before")


def answers(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    batch_size: int,
    is_decoder: bool,
    **options: Any,
) -> Iterator[str]:
    """What the model writes behind each of the prompts, of which it is given several at once.

    is_decoder : whether the prompt is the beginning of what generate returns
    """
    pad = tokenizer.pad_token_id
    pad = 0 if pad is None else pad
    for start in range(0, len(prompts), batch_size):
        lists = [list(ids) for ids in prompts[start : start + batch_size]]
        padded = pad_lists({"input_ids": lists, "mask": [[1] * len(ids) for ids in lists]}, {"input_ids": pad}, None,
                           "left", None)  # fmt: skip
        ids, mask = as_array(padded["input_ids"]), as_array(padded["mask"])
        with keeping_freed_memory():
            written = model.generate(ids, mask, tokenizer=tokenizer, **options)
        for row in written[:, ids.shape[1] :] if is_decoder else written:
            yield tokenizer.decode(row, skip_special_tokens=True).strip()


class TextPrinter:
    """A streamer that prints what the ids so far say, as soon as that is certain."""

    def __init__(self, tokenizer: Any, passed: int = 0) -> None:
        """passed : so many of the first ids are not printed"""
        self.tokenizer = tokenizer
        self.passed = passed
        self.ids: list[int] = []
        self.printed = ""

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode(self.ids[self.passed :], skip_special_tokens=True))

    def put(self, ids: Array) -> None:
        self.ids += [int(i) for i in np.ravel(ids)]
        text = self.text
        if not text.endswith("�"):  # a character may take several tokens
            self._print(text)

    def end(self) -> None:
        self._print(self.text)
        print()

    def _print(self, text: str) -> None:
        print(text[len(self.printed) :], end="", flush=True)
        self.printed = text
