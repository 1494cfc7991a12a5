"""What is changed in a file: bytes, and values of the JSON that it is or holds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

_DEEP: Any = "x"
for _ in range(200):
    _DEEP = [_DEEP]
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 1.5, -0.0, 1e308, -1e308, 1e-320, 10**5, 10**6, 10**9, 2**31, 2**63, 10**30,
    10**400, "", "x", "0", "1e999", "null", "é😀", "\ud800", "\0", "../..", "x" * 5000, [], {}, [[]], [None], [0],
    [1, "a"], {"": 0}, {"a": {"b": {}}}, {"0": "a"}, {"0": ["a"]}, {"1": 1}, [10**9], _DEEP, [1] * 3000,
    list(range(3000)), {str(i): i for i in range(3000)}, "(([a-z.0-9_]+)+)+!", "(q", "(.*)*" * 50, "[", "all-linear",
    ".*", "(a|a)*" * 300, "default", "gelu", "float16", "gated-", {"rope_type": "linear"}, {"rope_theta": "x"},
    {"content": 3}, {"content": "a"}, {"query": 10**9}, {"(q": 2}, {"(([a-z]+)+)+!": 2},
    {f"layer.{i}": 2 for i in range(2000)}, ["query"] * 2000,
]  # fmt: skip
NAMES = [
    "num_labels", "id2label", "label2id", "problem_type", "rope_scaling", "rope_parameters", "quantization_config",
    "eos_token_id", "tie_word_embeddings", "auto_map", "kept", "model_type", "layers_pattern", "layers_to_transform",
    "r", "rank_pattern", "alpha_pattern", "target_modules", "modules_to_save", "exclude_modules", "bias", "revision",
    "feedforward_modules", "peft_type", "init_lora_weights", "loftq_config", "extra_ids", "pad_token",
    "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens", "model_max_length", "chat_template",
    "tokenizer_class", "npora_tokenizer", "add_bos_token", "model_input_names", "to_dict", "save_pretrained",
    "__class__", "notes", "base_sha256", "__metadata__", "weight_map", "data", "n_inner", "head_dim", "dense_act_fn",
    "is_gated_act", "", "max_len",
]  # fmt: skip
_TOKENS = [
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\r", b"\t",
    b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"9" * 4000, b"[" * 2000, b'{"a":' * 500, b"null", b"\xc3", b"''",
]  # fmt: skip


def mutate(rng: Random, name: str, content: bytes) -> bytes:
    """The content of a file of this name with one to three changes."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        content = rng.choice(_WAYS.get(name.rsplit(".", 1)[-1], [_bytes]))(rng, content)
    return content


def _bytes(rng: Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.choice([1, 1, 2, 8, 50]))
    way = rng.randrange(8)
    if way == 0:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :] if at < end else content
    if way == 1:
        return content[:at] + rng.randbytes(end - at) + content[end:]
    if way == 2:
        return content[:at] + content[end:]
    if way == 3:
        return content[:at] + rng.choice(_TOKENS) + content[at:]
    if way == 4:
        return content[:at] + rng.choice(_TOKENS) + content[end:]
    if way == 5:
        return content[:at]
    if way == 6:
        return content[:at] + content[at:end] * rng.choice([2, 100, 3000]) + content[end:]
    return content[at:end] + content[:at] + content[end:]


def _json(rng: Random, content: bytes) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _bytes(rng, content)
    changed = json.dumps(_value(rng, value), ensure_ascii=rng.random() < 0.8)
    if rng.random() < 0.05:
        key, times = json.dumps(rng.choice(NAMES)), rng.choice([2, 20_000])
        changed = changed.replace("{", "{" + f"{key}: 1, " * times, 1)
    return changed.encode("utf-8", "surrogatepass")


def _value(rng: Random, value: Any) -> Any:
    """The value with one change, at a place of which each is as likely to be met as the path to it is short."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return copy.deepcopy(rng.choice(HOSTILE))
    result = copy.copy(value)
    keys = list(result) if isinstance(result, dict) else list(range(len(result)))
    key = rng.choice(keys)
    way = rng.randrange(8)
    if way == 0:
        del result[key]
    elif way == 1 and isinstance(result, dict):
        result[rng.choice(NAMES)] = copy.deepcopy(rng.choice(HOSTILE))
    elif way == 2 and isinstance(result, dict):
        result[rng.choice(NAMES)] = result.pop(key)
    elif way == 3:
        other = rng.choice(keys)
        result[key], result[other] = result[other], result[key]
    else:
        result[key] = _value(rng, result[key])
    return result


def _header(rng: Random, content: bytes) -> bytes:
    """Of a safetensors file: what its header says, and in it what npora wrote there of the task."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        record = json.loads(header["__metadata__"]["npora"])
    except (ValueError, KeyError, TypeError, RecursionError):
        record = None
    if record is not None and rng.random() < 0.6:
        header["__metadata__"]["npora"] = json.dumps(_value(rng, record))
        text = json.dumps(header).encode()
    else:
        text = _json(rng, content[8 : 8 + length])
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _examples(rng: Random, content: bytes) -> bytes:
    """Of lines: one of them, as JSON where it is that."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = _json(rng, lines[at])
    return b"\n".join(lines)


_COUNTS = [0, 1, 2, 3, 7, 8, 9, 10, 255, 10**5, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


def _counts(rng: Random, content: bytes) -> bytes:
    """Of GGUF: a number of its header, which begins with them and has them between texts: a count, a kind, a place."""
    at, length = rng.randrange(min(len(content), rng.choice([400, 1500, 40_000])) + 1), rng.choice([4, 8])
    number = rng.choice(_COUNTS) % 256**length
    return content[:at] + number.to_bytes(length, "little") + content[at + length :]


_Way = Callable[[Random, bytes], bytes]
_WAYS: dict[str, list[_Way]] = {
    "json": [_bytes, _json, _json, _json], "safetensors": [_bytes, _header, _header],
    "jsonl": [_bytes, _examples, _examples], "gguf": [_bytes, _counts, _counts],
}  # fmt: skip
