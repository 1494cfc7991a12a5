"""A tokenizer from a checkpoint: what its files say beside the vocabulary."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from npora.data.backend import FILE, add_tokens, read_backend
from npora.data.tokenizer import ROLES, Tokenizer
from npora.files import read_json, resolve

# Where no file names the token of a role, it is the first of these that the vocabulary has: the families' own names.
_USUAL = {
    "bos_token": ("<s>", "<|endoftext|>"), "eos_token": ("</s>", "<|endoftext|>"),
    "unk_token": ("[UNK]", "<unk>", "<|endoftext|>"), "sep_token": ("[SEP]",), "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]",), "mask_token": ("[MASK]", "<mask>"),
}  # fmt: skip
_USUAL_ROBERTA = {**_USUAL, "sep_token": ("</s>",), "cls_token": ("<s>",)}
_OPTIONS = (*ROLES, "model_max_length", "padding_side", "truncation_side")
_NO_LIMIT = 10**9  # files say 10³⁰ for none


class AutoTokenizer:
    """Chooses the tokenizer by the files of a checkpoint."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Tokenizer:
        """Read `tokenizer.json`, or the older vocabulary files, and the roles of the special tokens.

        name_or_path : a directory, or a name on the Hugging Face hub, whose weights are then not fetched
        options : pad_token and the like, model_max_length, padding_side, truncation_side, in place of the files' own

        Raises
        ------
        FileNotFoundError: no such checkpoint, or none of a tokenizer's files in it.  ValueError: a broken file.
        ImportError: the `tokenizers` package is missing.
        """
        if unknown := set(options) - set(_OPTIONS):
            raise TypeError(f"options are {', '.join(_OPTIONS)}; got {', '.join(sorted(unknown))}")
        directory = resolve(name_or_path, revision, cache_dir, weights=False)
        config = _read(directory, "tokenizer_config.json")
        if "added_tokens_decoder" not in config:  # files that have it repeat themselves in the map
            config |= _read(directory, "special_tokens_map.json")
        config |= options
        family = _family(directory, config)
        backend = read_backend(directory, family, config)
        special = _special_tokens(backend, family, config)
        # What tokenizer.json has as a common word stays one, unless a file says that it has a role.
        whole = os.path.isfile(os.path.join(directory, FILE))
        add_tokens(backend, directory, [token for role, token in special.items() if role in config or not whole])
        length = config.get("model_max_length")
        inputs = config.get("model_input_names")
        return Tokenizer(
            backend,
            special,
            model_max_length=None if length is None or length > _NO_LIMIT else int(length),
            padding_side=config.get("padding_side", "left" if family == "llama" else "right"),
            truncation_side=config.get("truncation_side", "right"),
            token_type_ids=_has_types(backend, family) if inputs is None else "token_type_ids" in inputs,
        )


def _read(directory: str, name: str) -> dict[str, Any]:
    path = os.path.join(directory, name)
    return read_json(path, 10_000_000) if os.path.isfile(path) else {}


def _family(directory: str, config: Mapping[str, Any]) -> str | None:
    """The tokenizer's class without its ending, in lower case; else the model_type; else None."""
    name = str(config.get("tokenizer_class") or "").lower().removesuffix("fast").removesuffix("tokenizer")
    if name not in ("", "pretrained", "tokenizersbackend"):  # the last two are any model's
        return name
    return _read(directory, "config.json").get("model_type")


def _special_tokens(backend: Any, family: str | None, config: Mapping[str, Any]) -> dict[str, str]:
    special: dict[str, str] = {}
    for role, usual in (_USUAL_ROBERTA if family == "roberta" else _USUAL).items():
        token = config.get(role, next((t for t in usual if backend.token_to_id(t) is not None), None))
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None and not isinstance(token, str):
            raise ValueError(f"{role} must be a string; the tokenizer's files say {token!r}")
        if token is not None:
            special[role] = token
    return special


def _has_types(backend: Any, family: str | None) -> bool:
    """BERT alone takes them; the pairs of other tokenizers may be numbered too, and their models do not look."""
    pieces = type(backend.model).__name__ in ("WordPiece", "WordLevel")
    return pieces and family != "distilbert" and any(backend.encode("a", "b").type_ids)
