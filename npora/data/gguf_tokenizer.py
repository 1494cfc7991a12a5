"""The tokenizer that a GGUF file holds, built as the `tokenizers` package has it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npora.data.backend import package
from npora.data.classes import CLASSES, Parts
from npora.files.gguf import read_gguf_header
from npora.files.refusal import shortened

logger = logging.getLogger("npora")

KEY = "tokenizer.ggml."
SPACE = "▁"  # SentencePiece's
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # token_type
ROLE_KEYS: Mapping[str, str] = {
    "bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "sep_token": "seperator", "pad_token": "padding",
    "cls_token": "cls", "mask_token": "mask",
}  # fmt: skip
_OF_BERT = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_KINDS = ("gpt2", "llama", "bert")
_LONGEST = 256  # characters of a token of which a pair is looked for at each place

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a byte-level vocabulary's text is split first, by tokenizer.ggml.pre: GPT-2's way, with each digit by itself, or a
# regular expression. The first name of each is the one that is written.
SPLITS: Mapping[str, str | None] = {
    "gpt-2": None, "smollm": "digits", "starcoder": "digits", "qwen2": _WORDS + r"\p{N}" + _REST,
    "deepseek-r1-qwen": _WORDS + r"\p{N}" + _REST, "llama-bpe": _WORDS + r"\p{N}{1,3}" + _REST,
    "llama3": _WORDS + r"\p{N}{1,3}" + _REST, "llama-v3": _WORDS + r"\p{N}{1,3}" + _REST, "tekken": _TEKKEN,
}  # fmt: skip
_WHOLE = ("llama-bpe", "llama3", "llama-v3", "tekken")  # what is a token as it stands is not merged; texts have a bos


def read_gguf_tokenizer(path: str | os.PathLike[str]) -> tuple[Any, str | None, dict[str, Any], dict[int, Any]]:
    """The backend; the class in `classes.CLASSES` that built it, or None; what a tokenizer_config.json would say; and
    the tokens with an id of their own that text is cut at.

    Raises
    ------
    ValueError: a file without a tokenizer, or one that npora does not read.  ImportError: no `tokenizers` package.
    """
    package()
    metadata = read_gguf_header(path).metadata
    kind, tokens = metadata.get(f"{KEY}model"), _texts(metadata, "tokens")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"{KEY}model {shortened(kind)} is not supported; npora reads {', '.join(_KINDS)}")
    if not tokens:
        raise ValueError(f"{os.fspath(path)} holds no tokenizer ({KEY}tokens)")
    types = _numbers(metadata, "token_type", len(tokens), NORMAL)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError(f"{len(tokens) - len(vocabulary)} tokens of {KEY}tokens stand there twice")
    roles = {role: _token(metadata, key, tokens) for role, key in ROLE_KEYS.items()}
    config: dict[str, Any] = {role: token for role, token in roles.items() if token is not None}
    family, bos = None, False
    if kind == "gpt2":
        pre = _pre(metadata)
        backend, bos = _byte_level(vocabulary, _pairs(metadata), pre), pre in _WHOLE
    elif kind == "llama":
        backend, bos = _sentencepiece(tokens, vocabulary, types, metadata, config.get("unk_token")), True
    else:
        config = {role: token for role, token in config.items() if role in _OF_BERT}
        family, vocabulary = "bert", {_word_piece(token): number for token, number in vocabulary.items()}
        backend = CLASSES["bert"].build(Parts("WordPiece", vocabulary), config)
    if family is None:
        for role, usual in (("bos_token", bos), ("eos_token", False)):
            config[f"add_{role}"] = _flag(metadata, f"add_{role}", usual) and role in config
    numbered = {
        number: {"content": token, "special": of_kind != USER, "normalized": False}
        for number, (token, of_kind) in enumerate(zip(tokens, types, strict=True))
        if of_kind in (UNKNOWN, CONTROL, USER)
    }
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if isinstance(length, int) and length > 0:
        config["model_max_length"] = length
    return backend, family, config, numbered


def byte_level_splits(pre: str) -> list[Any]:
    """The steps before the bytes of a byte-level vocabulary, and the bytes themselves."""
    from tokenizers import Regex, pre_tokenizers

    way = SPLITS[pre]
    if way is None or way == "digits":
        digits = [pre_tokenizers.Digits(individual_digits=True)] if way else []
        return [*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    split = pre_tokenizers.Split(Regex(way), "isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], pre: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    backend = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in _WHOLE))
    if "qwen" in pre:
        backend.normalizer = normalizers.NFC()
    steps = byte_level_splits(pre)
    backend.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


def _sentencepiece(
    tokens: Sequence[str], vocabulary: dict[str, int], types: Any, metadata: Mapping[str, Any], unknown: str | None
) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    space = _flag(metadata, "add_space_prefix", True)
    merges = (
        _pairs(metadata)
        if f"{KEY}merges" in metadata
        else merges_of(tokens, vocabulary, types, _numbers(metadata, "scores", len(tokens), 0.0))
    )
    has_bytes = bool((np.asarray(types) == BYTE).any())
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=has_bytes))
    replace = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if space else replace
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps + [decoders.Strip(content=" ", left=1)] * space)
    return backend


def merges_of(tokens: Sequence[str], vocabulary: Mapping[str, int], types: Any, scores: Any) -> list[tuple[str, str]]:
    """The pairs that SentencePiece joins, the best ones first: of all pairs whose whole is a token, those with the
    largest score of it."""
    found: list[tuple[float, int, str, str]] = []
    for number, (token, kind, score) in enumerate(zip(tokens, types, scores, strict=True)):
        if kind not in (NORMAL, UNUSED):
            continue
        if len(token) > _LONGEST:
            raise ValueError(f"a token has {len(token):,} characters; at most {_LONGEST} are read: {shortened(token)}")
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-float(score), number, left, right))
    return [(left, right) for _, _, left, right in sorted(found)]


def _word_piece(token: str) -> str:
    if token.startswith("[") and token.endswith("]"):
        return token
    return token.removeprefix(SPACE) if token.startswith(SPACE) else f"##{token}"


def _pre(metadata: Mapping[str, Any]) -> str:
    pre = metadata.get(f"{KEY}pre")
    if pre is None:
        logger.warning("the file does not say how text is split before its bytes (%spre): as for GPT-2", KEY)
        return "gpt-2"
    if not isinstance(pre, str) or pre not in SPLITS:
        raise ValueError(f"{KEY}pre {shortened(pre)} is not supported; npora reads {', '.join(SPLITS)}")
    return pre


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    texts = metadata.get(KEY + name, [])
    if not isinstance(texts, list):
        raise ValueError(f"{KEY}{name} must be a list of texts; got {shortened(texts)}")
    return texts


def _pairs(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [tuple(text.split(" ", 1)) for text in _texts(metadata, "merges")]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise ValueError(f"{KEY}merges must be of pairs; got {shortened(wrong[0])}")
    return pairs  # type: ignore[return-value]


def _numbers(metadata: Mapping[str, Any], name: str, count: int, otherwise: float) -> Any:
    numbers = metadata.get(KEY + name, np.full(count, otherwise))
    if not isinstance(numbers, np.ndarray) or len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{KEY}{name} must be {count:,} numbers, one a token; got {shortened(numbers)}")
    return numbers.tolist()


def _token(metadata: Mapping[str, Any], name: str, tokens: Sequence[str]) -> str | None:
    number = metadata.get(f"{KEY}{name}_token_id")
    if number is None:
        return None
    if type(number) is not int or not 0 <= number < len(tokens):
        raise ValueError(f"{KEY}{name}_token_id must be one of {len(tokens):,} tokens; got {shortened(number)}")
    return tokens[number]


def _flag(metadata: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = metadata.get(KEY + name, otherwise)
    if not isinstance(value, bool):
        raise ValueError(f"{KEY}{name} must be True or False; got {shortened(value)}")
    return value
