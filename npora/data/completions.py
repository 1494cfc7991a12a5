"""Texts for a causal language model to learn: whole, in windows, or the completion of a prompt alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npora.data.collate import IGNORED
from npora.data.dataset import Dataset
from npora.data.tokenizer import Tokenizer

Ends = int | Sequence[int] | None


def completion_labels(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> list[int]:
    """Labels beside the ids of a prompt and then its completion: −100, which no loss counts, on all of the prompt."""
    return [IGNORED] * len(prompt_ids) + list(completion_ids)


def encode_text(
    tokenizer: Tokenizer, text: str, max_length: int | None = None, eos_token_id: Ends = None
) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a text that is learnt whole, and of one token that ends it.

    The ids are those of a call of the tokenizer; what it puts behind a text gives way to the end, and a text that ends
    itself gets no second one. `windows` keeps what max_length would cut off.

    eos_token_id : the end that generation stops at, as the model's config says (of several the first); the tokenizer's
        eos_token unless given

    Raises
    ------
    ValueError: neither has an end.
    """
    before, body, _ = tokenizer.encode_parts(text)
    ids = [*before, *body, *_end(tokenizer, eos_token_id, body)][:max_length]
    return {"input_ids": ids, "labels": list(ids)}


def encode_completion(
    tokenizer: Tokenizer,
    prompt: str,
    completion: str,
    max_length: int | None = None,
    eos_token_id: Ends = None,
) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a prompt, its completion and one token that ends it.

    The ids are those of the joined text, with what the tokenizer puts before a text. A token with a character of the
    completion is learnt, also where it holds the prompt's last ones: in generation, where the prompt stands alone, it
    cannot come. So begin the completion where a token begins, which for most tokenizers is with the space between the
    two. Where there are more than max_length tokens the prompt loses its beginning (all but its last token; what the
    tokenizer puts before a text stays while there is room), and where that is not enough, the completion its end.

    eos_token_id : as in encode_text

    Raises
    ------
    ValueError: neither tokenizer nor eos_token_id has an end; a max_length below 2.
    """
    before, body, spans = tokenizer.encode_parts(prompt + completion)
    border = next((i for i, (_, stop) in enumerate(spans) if stop > len(prompt)), len(body))
    prompt_ids, completion_ids = body[:border], body[border:]
    completion_ids += _end(tokenizer, eos_token_id, completion_ids)
    if max_length is not None:
        if max_length < 2:
            raise ValueError(f"max_length must be at least 2, for a token and the one before it; got {max_length}")
        room = max(max_length - len(completion_ids), 1)
        if len(before) + len(prompt_ids) > room:
            before = before if len(before) < room else []
            prompt_ids = prompt_ids[max(len(prompt_ids) - (room - len(before)), 0) :]
    prompt_ids = before + prompt_ids
    if max_length is not None:
        completion_ids = completion_ids[: max_length - len(prompt_ids)]
    return {"input_ids": prompt_ids + completion_ids, "labels": completion_labels(prompt_ids, completion_ids)}


def encode_completions(
    tokenizer: Tokenizer,
    examples: Sequence[Mapping[str, Any]],
    max_length: int | None = None,
    eos_token_id: Ends = None,
) -> tuple[Dataset, int]:
    """encode_completion of each example's `prompt` and `text`, and how many of the examples max_length cut."""
    encoded, cut = [], 0
    for example in examples:
        whole = encode_completion(tokenizer, example["prompt"], example["text"], None, eos_token_id)
        if max_length is not None and len(whole["input_ids"]) > max_length:
            whole = encode_completion(tokenizer, example["prompt"], example["text"], max_length, eos_token_id)
            cut += 1
        encoded.append({**example, **whole})
    return Dataset(encoded), cut


def windows(example: Mapping[str, Sequence[int]], max_length: int) -> list[dict[str, list[int]]]:
    """An encoded text as examples of at most max_length tokens, of which each label is learnt once.

    A window begins with the last token of the one before it, without its label: a model predicts each token from those
    before it, and so the first of the others too. The labels of the windows that are not −100 are those of the example,
    in order.

    example : `input_ids` and `labels`, as of encode_text

    Raises
    ------
    ValueError: a max_length below 2.
    """
    if max_length < 2:
        raise ValueError(f"max_length must be at least 2, for a token and the one before it; got {max_length}")
    ids, labels = list(example["input_ids"]), list(example["labels"])
    number = 1 + max(0, -(-(len(ids) - max_length) // (max_length - 1)))
    return [window(ids, labels, max_length, i) for i in range(number)]


def window(ids: Sequence[int], labels: Sequence[int], max_length: int, number: int) -> dict[str, list[int]]:
    """The window of this number, from 0 on, of those that `windows` gives."""
    start = number * (max_length - 1)
    stop = start + max_length
    first = [IGNORED] if number else list(labels[:1])
    return {"input_ids": list(ids[start:stop]), "labels": [*first, *labels[start + 1 : stop]]}


def end_ids(tokenizer: Tokenizer, eos_token_id: Ends, needed: bool = True) -> list[int]:
    """The tokens that end a text: those given, else the tokenizer's. Raises ValueError where one is needed and there is
    none, and for what is no token's id."""
    given: Any = tokenizer.eos_token_id if eos_token_id is None else eos_token_id
    ends: list[Any] = [end for end in np.ravel(given) if end is not None]
    if needed and not ends:
        raise ValueError("this tokenizer has no token to end a text; give it one, as in tokenizer.eos_token = '</s>'")
    if not all(isinstance(end, int | np.integer) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"eos_token_id must be a token's id, or several; got {eos_token_id!r}")
    return [int(end) for end in ends]


def _end(tokenizer: Tokenizer, eos_token_id: Ends, ids: Sequence[int]) -> list[int]:
    """The token to put behind ids; none where they end with an end."""
    ends = end_ids(tokenizer, eos_token_id)
    return [] if ids and ids[-1] in ends else ends[:1]
