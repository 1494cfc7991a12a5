"""The settings that stand beside a tokenizer's vocabulary, each of the kind that it must be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from npora.data.roles import ROLES
from npora.files import read_json
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import shortened

_MOST_BYTES = 10_000_000  # of tokenizer_config.json; one with thousands of tokens in it has a million
_YES_OR_NO = (
    "add_prefix_space", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "trim_offsets", "legacy",
    "add_bos_token", "add_eos_token", "split_special_tokens", "clean_up_tokenization_spaces",
)  # fmt: skip
_KINDS = {
    **dict.fromkeys(_YES_OR_NO, "bool | None"), "model_input_names": "list[str] | None", "extra_ids": "int",
    "model_max_length": "float | None", "max_len": "float | None",
    "tokenizer_class": "str | None", "added_tokens_decoder": "dict[str, Any]", "auto_map": "Any",
    "additional_special_tokens": "list[Any] | None", "extra_special_tokens": "list[Any] | dict[str, Any] | None",
}  # fmt: skip
_OF_A_TOKEN = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MOST_SENTINELS = 10_000  # T5's <extra_id_0> and on; a T5 has 100


def read_settings(directory: str, name: str) -> dict[str, Any]:
    """The settings in a JSON file of a tokenizer, or of the config of its model; none where there is no such file.

    Raises
    ------
    ValueError: a broken file, or a value of another kind than that of its setting.  OSError: no regular file.
    """
    path = os.path.join(directory, name)
    values = read_json(path, _MOST_BYTES) if os.path.lexists(path) else {}
    if name == "added_tokens.json":
        for number in values.values():
            _check(path, "the id of a token", number, "int")
    elif name == "config.json":
        _check(path, "tokenizer_class", values.get("tokenizer_class"), "str | None")
        _check(path, "model_type", values.get("model_type"), "str | None")
    else:
        _check_settings(path, values)
    return values


def check_token(path: str, name: str, token: Any) -> None:
    """Raise ValueError where this is neither a token nor what its settings are written as."""
    _check(path, name, token, "str | dict[str, Any]")
    if isinstance(token, Mapping):
        _check(path, f"the content of {name}", token.get("content"), "str")
        for setting in _OF_A_TOKEN:
            _check(path, f"{setting} of {name}", token.get(setting, False), "bool")


def _check_settings(path: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _check(path, name, value, _KINDS.get(name, "Any"))
        if name in ("padding_side", "truncation_side") and value not in ("right", "left"):
            raise ValueError(f"{path}: {name} must be 'right' or 'left'; got {shortened(value)}")
        if name in ROLES and value is not None:
            check_token(path, name, value)
    if not 0 <= values.get("extra_ids", 0) <= _MOST_SENTINELS:
        raise ValueError(f"{path}: extra_ids must lie in [0, {_MOST_SENTINELS}]; got {shortened(values['extra_ids'])}")
    for name in ("additional_special_tokens", "extra_special_tokens"):
        extra = values.get(name) or []
        for token in extra.values() if isinstance(extra, Mapping) else extra:
            check_token(path, f"a token of {name}", token)
    for number, token in values.get("added_tokens_decoder", {}).items():
        if not (number.isdecimal() and len(number) < 10):
            raise ValueError(f"{path}: added_tokens_decoder is by whole numbers; got {shortened(number)}")
        check_token(path, f"token {number} of added_tokens_decoder", token)


def _check(path: str, name: str, value: Any, kind: str) -> None:
    if not is_of_kind(value, kind):
        raise ValueError(f"{path}: {name} must be {called(kind)}; got {shortened(value)}")
