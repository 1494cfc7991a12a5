"""A tokenizer as a GGUF file holds it: the other way of `gguf_tokenizer`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.data.gguf_tokenizer import (
    BYTE,
    CONTROL,
    KEY,
    NORMAL,
    ROLE_KEYS,
    SPACE,
    SPLITS,
    UNUSED,
    USER,
    byte_level_splits,
    merges_of,
)
from npora.data.tokenizer import Tokenizer
from npora.files.refusal import shortened

_PROBE = "a"
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def gguf_vocabulary(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """The keys of GGUF that say a tokenizer and its chat template.

    rows : of the model's embedding, each of which must have a token

    Raises
    ------
    ValueError: a tokenizer that llama.cpp has none like.
    """
    written = json.loads(tokenizer.backend.to_str())
    kind, pre, vocabulary, more = _kind(written)
    names = {number: token for token, number in vocabulary.items()}
    types = np.full(rows, NORMAL, np.int32)
    for added in written["added_tokens"]:
        names[added["id"]] = added["content"]
        if added["id"] < rows:
            types[added["id"]] = CONTROL if added["special"] else USER
    if (most := max(names, default=-1)) >= rows:
        raise ValueError(f"the tokenizer's ids go up to {most}, and the model has {rows} of them")
    for number in range(rows):
        if number not in names:
            names[number], types[number] = f"[PAD{number}]", UNUSED
        elif kind == "llama" and len(names[number]) == 6 and names[number].startswith("<0x"):
            types[number] = BYTE
    tokens = [names[number] for number in range(rows)]
    if kind == "bert":
        tokens = [_phantom(token) if types[number] != UNUSED else token for number, token in enumerate(tokens)]
    keys: dict[str, Any] = {f"{KEY}model": kind, f"{KEY}pre": pre, f"{KEY}tokens": tokens, f"{KEY}token_type": types}
    if kind == "llama":
        keys[f"{KEY}scores"] = _scores(more.pop("merges"), vocabulary, tokens, types)
    keys |= {KEY + name: value for name, value in more.items()}
    keys |= _roles(tokenizer)
    if isinstance(tokenizer.chat_template, str):
        keys["tokenizer.chat_template"] = tokenizer.chat_template
    return keys


def _kind(written: Mapping[str, Any]) -> tuple[str, str, dict[str, int], dict[str, Any]]:
    """The kind of vocabulary, the name of the way in which it splits text, the ids by token, and further keys."""
    model = written["model"]
    if model["type"] == "WordPiece":
        normalizer = written["normalizer"] or {}
        if normalizer.get("type") != "BertNormalizer" or not normalizer.get("lowercase"):
            raise ValueError("llama.cpp splits words into pieces in lower case alone, and this tokenizer does not")
        return "bert", "default", model["vocab"], {}
    if model["type"] != "BPE":
        raise ValueError(
            f"npora writes tokenizers of byte pairs and of word pieces to GGUF, and none of {model['type']}"
        )
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ", 1)) for pair in model["merges"]]
    if '"ByteLevel"' in json.dumps(written["pre_tokenizer"]):
        return "gpt2", _pre(written["pre_tokenizer"]), model["vocab"], {"merges": [" ".join(pair) for pair in merges]}
    return "llama", "default", model["vocab"], {"merges": merges, "add_space_prefix": _has_space(written)}


def _pre(pre_tokenizer: Any) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    for name in SPLITS:
        probe = Tokenizer(models.BPE())
        probe.pre_tokenizer = pre_tokenizers.Sequence(byte_level_splits(name))
        if _steps(json.loads(probe.to_str())["pre_tokenizer"]) == _steps(pre_tokenizer):
            return name
    raise ValueError(
        f"npora knows no name of llama.cpp's for how this tokenizer splits text; it knows {', '.join(SPLITS)}"
    )


def _steps(pre_tokenizer: Any) -> list[Any]:
    """What is done, without what does not change the ids."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return [{name: value for name, value in step.items() if name != "trim_offsets"} for step in steps]


def _has_space(written: Mapping[str, Any]) -> bool:
    """Whether a space goes before a text. Raises ValueError for a way to treat spaces that llama.cpp has not."""
    normalizer, before = written["normalizer"] or {}, written["pre_tokenizer"]
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    replaces = any(step == {"type": "Replace", "pattern": {"String": " "}, "content": SPACE} for step in steps)
    prepends = any(step == {"type": "Prepend", "prepend": SPACE} for step in steps)
    if before is None or before == _SPLIT:
        if replaces and len(steps) == replaces + prepends:
            return prepends
    elif before.get("type") == "Metaspace" and not steps and not before.get("split", True):
        return bool(before["prepend_scheme"] != "never")
    raise ValueError(
        f"llama.cpp has no tokenizer that treats spaces as this one does: normalizer {shortened(normalizer, 200)}, "
        f"pre_tokenizer {shortened(before, 200)}"
    )


def _scores(merges: list[tuple[str, ...]], vocabulary: Mapping[str, int], tokens: list[str], types: Any) -> Any:
    """Scores by which SentencePiece joins what the merges join, in their order. Raises ValueError where none do."""
    scores = np.zeros(len(tokens), np.float32)
    ranks: dict[str, int] = {}
    for pair in merges:
        ranks.setdefault("".join(pair), len(ranks))
    for number, token in enumerate(tokens):
        scores[number] = -float(ranks.get(token, len(ranks)))
    found = merges_of(tokens, vocabulary, types.tolist(), scores)
    if [*dict.fromkeys(map("".join, found))] != [*ranks] or {*found} != {*merges}:
        raise ValueError("llama.cpp joins pieces by scores of what they make, and this tokenizer's merges have none")
    return scores


def _roles(tokenizer: Tokenizer) -> dict[str, Any]:
    ids = {f"{KEY}{key}_token_id": getattr(tokenizer, f"{role}_id") for role, key in ROLE_KEYS.items()}
    keys: dict[str, Any] = {name: number for name, number in ids.items() if number is not None}
    around = tokenizer(_PROBE)["input_ids"]
    keys[f"{KEY}add_bos_token"] = around[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id)
    keys[f"{KEY}add_eos_token"] = around[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id)
    return keys


def _phantom(token: str) -> str:
    """A word's beginning is marked, and not its continuation."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token.removeprefix("##") if token.startswith("##") else SPACE + token
