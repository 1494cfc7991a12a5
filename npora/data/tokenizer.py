"""Text to ids: a Hugging Face `tokenizer.json`, by the `tokenizers` package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from npora.files import read_json


class Tokenizer:
    """Calls like a tokenizer of transformers, and returns a plain dict: input_ids, attention_mask, and token_type_ids
    where the tokenizer tells the two texts of a pair apart.

    Attributes
    ----------
    model_max_length : the most tokens the model takes, where `tokenizer_config.json` says so
    pad_token_id : int or None
    """

    def __init__(self, backend: Any, config: dict[str, Any] | None = None) -> None:
        config = config or {}
        # A tokenizer.json may fix a length; how long a batch becomes is for the caller to say.
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.model_max_length: int | None = config.get("model_max_length")
        self.padding_side: str = config.get("padding_side", "right")
        token = config.get("pad_token") or "[PAD]"
        self.pad_token: str = token if isinstance(token, str) else token["content"]
        self.pad_token_id: int | None = backend.token_to_id(self.pad_token)
        self._has_types = any(backend.encode("a", "b").type_ids)

    @property
    def vocab_size(self) -> int:
        return int(self.backend.get_vocab_size())

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        *,
        truncation: bool = False,
        max_length: int | None = None,
        padding: bool | str = False,
        return_tensors: str | None = None,
        add_special_tokens: bool = True,
    ) -> dict[str, Any]:
        """Encode one text (lists of ids) or several (lists of lists).

        truncation : cut to max_length, or without one to model_max_length
        padding : True or "longest", or "max_length"
        return_tensors : "np" for int64 arrays [b,t], also of one text
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors must be 'np' or None; got {return_tensors!r}: npora is NumPy only")
        if padding not in (True, False, "longest", "max_length"):
            raise ValueError(f"padding must be True, False, 'longest' or 'max_length'; got {padding!r}")
        single = isinstance(text, str)
        texts: Sequence[Any] = [text] if single else text
        if text_pair is not None:
            texts = list(zip(texts, [text_pair] if isinstance(text_pair, str) else text_pair, strict=True))
        limit = max_length if max_length is not None else self.model_max_length
        if truncation and limit is not None:
            self.backend.enable_truncation(limit)
        try:
            encodings = self.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        finally:
            self.backend.no_truncation()
        result = {"input_ids": [encoding.ids for encoding in encodings]}
        if self._has_types:
            result["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        result["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        if padding:
            result = self._padded(result, limit if padding == "max_length" else None)
        if return_tensors == "np":
            if len({len(ids) for ids in result["input_ids"]}) > 1:
                raise ValueError("texts of different lengths make no array: pass padding=True")
            return {key: np.array(value, dtype=np.int64) for key, value in result.items()}
        return {key: value[0] for key, value in result.items()} if single else result

    def _padded(self, encoded: dict[str, list[list[int]]], length: int | None) -> dict[str, list[list[int]]]:
        longest = max([len(ids) for ids in encoded["input_ids"]] + [length or 0])
        fill = {"input_ids": self.pad_token_id or 0}

        def pad(values: list[int], value: int) -> list[int]:
            extra = [value] * (longest - len(values))
            return extra + values if self.padding_side == "left" else values + extra

        return {key: [pad(values, fill.get(key, 0)) for values in lists] for key, lists in encoded.items()}

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        return str(self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens))

    def __len__(self) -> int:
        return self.vocab_size


class AutoTokenizer:
    """Reads a tokenizer from a checkpoint's directory."""

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Tokenizer:
        """Read `tokenizer.json`, and `tokenizer_config.json` where there is one.

        Raises
        ------
        FileNotFoundError: tokenizer.json is missing.  ImportError: the `tokenizers` package is.
        """
        path = os.path.join(directory, "tokenizer.json")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}")
        try:
            import tokenizers
        except ImportError:
            raise ImportError('reading tokenizer.json needs the tokenizers package: pip install "npora[hf]"') from None
        try:
            backend = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the package raises bare Exceptions
            raise ValueError(f"{path} is not a tokenizer: {error}") from None
        config = os.path.join(directory, "tokenizer_config.json")
        return Tokenizer(backend, read_json(config) if os.path.isfile(config) else None)
