"""Texts for a causal language model to learn: whole, or the completion of a prompt alone."""

from __future__ import annotations

from collections.abc import Sequence

from npora.data.collate import IGNORED
from npora.data.tokenizer import Tokenizer


def completion_labels(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> list[int]:
    """Labels beside the ids of a prompt and then its completion: −100, which no loss counts, on all of the prompt."""
    return [IGNORED] * len(prompt_ids) + list(completion_ids)


def encode_text(tokenizer: Tokenizer, text: str, max_length: int | None = None) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a text that is learnt whole, with the token that ends it where there is room.

    Raises
    ------
    ValueError: a tokenizer without an eos_token.
    """
    ids = [*tokenizer.encode(text), _end(tokenizer)][:max_length]
    return {"input_ids": ids, "labels": list(ids)}


def encode_completion(
    tokenizer: Tokenizer, prompt: str, completion: str, max_length: int | None = None
) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a prompt, its completion and the token that ends it.

    The two are encoded apart, as in generation, where the prompt stands alone: a space between them begins the
    completion. Where there are more than max_length tokens the prompt loses its beginning (all but its last token), and
    where that is not enough, the completion its end.

    Raises
    ------
    ValueError: a tokenizer without an eos_token; a max_length below 2.
    """
    end = _end(tokenizer)
    prompt_ids = tokenizer.encode(prompt)
    completion_ids = [*tokenizer.encode(completion, add_special_tokens=False), end]
    if max_length is not None:
        if max_length < 2:
            raise ValueError(f"max_length must be at least 2, for a token and the one before it; got {max_length}")
        room = max(max_length - len(completion_ids), 1)
        prompt_ids = prompt_ids[max(len(prompt_ids) - room, 0) :]
        completion_ids = completion_ids[: max_length - len(prompt_ids)]
    return {"input_ids": prompt_ids + completion_ids, "labels": completion_labels(prompt_ids, completion_ids)}


def _end(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise ValueError("this tokenizer has no token to end a text; give it one, as in tokenizer.eos_token = '</s>'")
    return tokenizer.eos_token_id
