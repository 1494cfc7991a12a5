"""Write the embedding of each sentence, with a model of sentence embeddings, with or without an adapter.

Prints a line of JSON for each sentence: its numbers, in a list. --output puts them all into a NumPy file instead.
Of a model without an adapter the form is what modules.json says, else the mean of all tokens.
"""

from __future__ import annotations

import argparse
import io
import json

import numpy as np

from npora.commands import standard_input
from npora.commands.encoding import may_have_more
from npora.commands.examples import length, say_cut
from npora.commands.forms import add_form
from npora.commands.loading import add_model, load
from npora.files import write_atomically
from npora.files.writable import check_writable
from npora.machine.heap import keeping_freed_memory
from npora.train.batches import base_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add_form(parser)
    add("--batch-size", type=int, default=32, help="sentences at once")
    add("--max-length", type=int, metavar="N", help="the most tokens of a sentence (default: what finetune was told, "
        "else what the model takes)")  # fmt: skip
    add("--output", metavar="FILE", help="a .npy file, which gets the vectors")
    add("sentences", nargs="*", metavar="SENTENCE", help="from standard input, a line each, where none is given")


def run(options: argparse.Namespace) -> None:
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {options.batch_size}")
    if options.output is not None and not options.output.endswith(".npy"):
        raise ValueError(f"--output {options.output}: the file of vectors ends in .npy")
    if options.output is not None:
        check_writable(options.output)
    loaded = load(options, ("embedding",))
    noted = loaded.notes.get("max_length") or base_of(loaded.model).form.max_seq_length
    most = length(loaded.task, options.max_length, noted, loaded.config, loaded.tokenizer)
    sentences = options.sentences or [line.rstrip("\r\n") for line in standard_input.lines()]
    if not sentences:
        raise ValueError("there is no sentence to embed: name some, or pass them on standard input")
    with keeping_freed_memory():
        found = loaded.model.encode(sentences, loaded.tokenizer, options.batch_size, most)
    if most is not None:
        long = [text for text in sentences if may_have_more(text, most)]
        cut = sum(len(loaded.tokenizer(text)["input_ids"]) > most for text in long)
        say_cut(cut, len(sentences), most, "the sentences")
    if options.output is None:
        for row in found:
            print(json.dumps([round(float(x), 8) for x in row]))
        return
    written = io.BytesIO()
    np.save(written, found)
    write_atomically(options.output, [written.getvalue()])
    print(f"{len(found):,} vectors of {found.shape[1]} numbers in {options.output}")
