"""What is measured of the texts that a model writes, beside those that it should."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from npora.commands.chats import prompt_ids, stops
from npora.commands.loading import Loaded
from npora.commands.messages import say
from npora.commands.writing import answers, stay_within
from npora.data import Dataset
from npora.data.dataset import Example
from npora.data.turns import ASSISTANT
from npora.files import write_atomically
from npora.metrics import bleu, exact_match, rouge_l

OF_TEXTS: dict[str, Callable[[Sequence[str], Sequence[str]], float]] = {
    "rouge-l": rouge_l, "bleu": bleu, "exact-match": exact_match,
}  # fmt: skip


def measured(
    loaded: Loaded, examples: Dataset, names: Sequence[str], what: str, batch_size: int, max_new_tokens: int,
    predictions: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """The figures of what the model writes, greedily, in answer to each prompt or to all but the last message.

    predictions : a file that gets each prompt with what was written and what should have been, as JSON lines

    Raises
    ------
    ValueError: examples without a prompt, or conversations that no text of the assistant ends.
    """
    if not {"prompt", "messages"} & {*examples.column_names}:
        raise ValueError(
            f"{what} has texts without prompts: there is nothing to answer, and {names[0]} measures answers"
        )
    asked = [example for example in examples if _has_answer(example)]
    if not asked:
        raise ValueError(f"{what}: no conversation ends with a text of the {ASSISTANT}, with which to compare")
    if left := len(examples) - len(asked):
        say(f"{what}: {left:,} of {len(examples):,} conversations do not end with a text of the {ASSISTANT}, and are "
            "left out")  # fmt: skip
    ids = [_ids(loaded, example) for example in asked]
    references = [example["messages"][-1]["content"] if "messages" in example else example["text"] for example in asked]
    chosen: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": 1}
    chosen["eos_token_id"] = stops(loaded.model, loaded.tokenizer, loaded.notes)
    if loaded.task.continues:
        stay_within(loaded.config.most_tokens, max(map(len, ids)), chosen, loaded.model)
    written = list(answers(loaded.model, loaded.tokenizer, ids, batch_size, loaded.task.continues, **chosen))
    if predictions is not None:
        lines = [
            {"prompt": example["messages"][:-1] if "messages" in example else example["prompt"], "text": text,
             "reference": reference}
            for example, text, reference in zip(asked, written, references, strict=True)
        ]  # fmt: skip
        write_atomically(predictions, [(json.dumps(line, ensure_ascii=False) + "\n").encode() for line in lines])
    return {name: f"{OF_TEXTS[name](written, references):.4f}" for name in names}


def _has_answer(example: Example) -> bool:
    if "messages" not in example:
        return True
    last = example["messages"][-1]
    return len(example["messages"]) > 1 and last["role"] == ASSISTANT and isinstance(last.get("content"), str)


def _ids(loaded: Loaded, example: Example) -> list[int]:
    if "messages" in example:
        return prompt_ids(loaded.tokenizer, example["messages"][:-1], **example["variables"])
    return loaded.tokenizer.encode(example["prompt"])
