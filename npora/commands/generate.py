"""Continue a text with a causal language model, or answer it with an encoder-decoder, with or without an adapter.

Prints the prompt, unless an encoder reads it, and each token after it as it comes. Beam search knows its tokens at the
end, and prints them then.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np

from npora.data import AutoTokenizer
from npora.files import resolve
from npora.lora import PeftModel
from npora.models import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from npora.models.config import read_config
from npora.nn.module import Array


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="the model, or the base that the adapter was trained on")
    add("--adapter", metavar="DIR", help="an adapter, or the --output of finetune")
    add("--max-new-tokens", type=int, default=20, metavar="N", help="the most tokens to put behind the prompt")
    add("--do-sample", action="store_true", help="draw tokens, instead of taking the likeliest")
    add("--temperature", type=float, default=1.0, help="with --do-sample: below 1 the likely become likelier")
    add("--top-k", type=int, default=50, metavar="K", help="with --do-sample: only the K likeliest; 0 for all")
    add("--top-p", type=float, default=1.0, metavar="P", help="with --do-sample: only the likeliest that make up P")
    add("--num-beams", type=int, default=1, metavar="N", help="sequences to follow at once")
    add("--length-penalty", type=float, default=1.0, help="of beams: above 0 favours long ones")
    add("--early-stopping", action="store_true", help="stop when as many beams as there are have ended")
    add("--eos-token-id", type=int, action="append", metavar="ID", help="ends the text; may be repeated")
    add("--seed", type=int, help="of --do-sample; another text every time unless given")
    add("--no-cache", action="store_true", help="compute all keys and values again for every token")
    add("prompt", nargs="?", metavar="PROMPT", help="the text to continue; standard input where none is given")


def run(options: argparse.Namespace) -> None:
    prompt = sys.stdin.read().rstrip("\r\n") if options.prompt is None else options.prompt
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    ids = tokenizer(prompt, return_tensors="np")["input_ids"].reshape(1, -1)
    if not ids.size:
        raise ValueError("there is no text to continue: name a prompt, or pass it on standard input")
    encodes = read_config(resolve(options.model)).get("model_type") in AutoModelForSeq2SeqLM.classes
    auto = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
    model: Any = auto.from_pretrained(options.model)
    if options.adapter:
        adapter = os.path.join(options.adapter, "adapter")
        model = PeftModel.from_pretrained(model, adapter if os.path.isdir(adapter) else options.adapter)
    names = ("max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "num_beams", "length_penalty", "seed",
             "early_stopping", "eos_token_id")  # fmt: skip
    chosen = {name: getattr(options, name) for name in names}
    printer = TextPrinter(tokenizer)
    streamer = printer if options.num_beams == 1 else None
    sequences = model.generate(ids, use_cache=not options.no_cache, streamer=streamer, **chosen)
    if streamer is None:
        printer.put(sequences)
        printer.end()


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
