"""Text to ids and back, called as a tokenizer of transformers is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class _Token:
    """The token that has this role, or None. Another may be assigned, of those in the vocabulary."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, tokenizer: Tokenizer, owner: type | None = None) -> str | None:
        return tokenizer.special_tokens_map.get(self.role)

    def __set__(self, tokenizer: Tokenizer, token: str | None) -> None:
        if token is None:
            tokenizer.special_tokens_map.pop(self.role, None)
            return
        if tokenizer.backend.token_to_id(token) is None:
            raise ValueError(f"{self.role} must be in the tokenizer's vocabulary, and {token!r} is not")
        tokenizer.special_tokens_map[self.role] = token


class _Id:
    """The id of the token that has this role, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    def __get__(self, tokenizer: Tokenizer, owner: type | None = None) -> int | None:
        token = tokenizer.special_tokens_map.get(self.role)
        return None if token is None else int(tokenizer.backend.token_to_id(token))

    def __set__(self, tokenizer: Tokenizer, number: int | None) -> None:
        token = None if number is None else tokenizer.backend.id_to_token(int(number))
        if token is None and number is not None:
            raise ValueError(f"{self.role}_id must be in the tokenizer's vocabulary, and {number} is not")
        setattr(tokenizer, self.role, token)


class Tokenizer:
    """Calls give a plain dict: input_ids, attention_mask, and token_type_ids where the model takes them.

    Attributes
    ----------
    pad_token, eos_token, … : str or None; pad_token_id, eos_token_id, … : int or None. Both may be assigned
    model_max_length : the most tokens the model takes, or None where its files do not say
    padding_side, truncation_side : "right" or "left"
    """

    bos_token, bos_token_id = _Token(), _Id()
    eos_token, eos_token_id = _Token(), _Id()
    unk_token, unk_token_id = _Token(), _Id()
    sep_token, sep_token_id = _Token(), _Id()
    pad_token, pad_token_id = _Token(), _Id()
    cls_token, cls_token_id = _Token(), _Id()
    mask_token, mask_token_id = _Token(), _Id()

    def __init__(
        self,
        backend: Any,
        special_tokens: Mapping[str, str] | None = None,
        *,
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        token_type_ids: bool = False,
    ) -> None:
        """backend : a `tokenizers.Tokenizer`, or what has its methods; special_tokens : the token of each role."""
        # A tokenizer.json may fix a length; how long a batch becomes is for the caller to say.
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens_map: dict[str, str] = {}
        for role, token in (special_tokens or {}).items():
            setattr(self, role, token)
        self.model_max_length = model_max_length
        self.padding_side = padding_side
        self.truncation_side = truncation_side
        self._has_types = token_type_ids

    @property
    def vocab_size(self) -> int:
        """Without the tokens that were added to the vocabulary; `len(tokenizer)` counts those too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    def get_vocab(self) -> dict[str, int]:
        return dict(self.backend.get_vocab())

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        text_pair: str | Sequence[str] | None = None,
        text_target: str | Sequence[str] | None = None,
        *,
        truncation: bool = False,
        max_length: int | None = None,
        padding: bool | str = False,
        return_tensors: str | None = None,
        add_special_tokens: bool = True,
    ) -> dict[str, Any]:
        """Encode one text (lists of ids) or several (lists of lists).

        text_target : what a sequence-to-sequence model is to say; beside text its ids are `labels`
        truncation : cut to max_length, or without one to model_max_length
        padding : True or "longest", or "max_length"
        return_tensors : "np" for int64 arrays [b,t], also of one text

        Raises
        ------
        ValueError: an argument that means nothing, a length too small for the special tokens, padding without a
        pad_token, an array of different lengths.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors must be 'np' or None; got {return_tensors!r}: npora is NumPy only")
        if padding not in (True, False, "longest", "max_length"):
            raise ValueError(f"padding must be True, False, 'longest' or 'max_length'; got {padding!r}")
        if text is None:
            text, text_target = text_target, None
        if text is None:
            raise ValueError("pass text, text_target or both")
        limit = max_length if max_length is not None else self.model_max_length
        if padding == "max_length" and limit is None:
            raise ValueError("padding='max_length' needs max_length: the tokenizer's files do not say one")

        def encode(text: str | Sequence[str], pair: str | Sequence[str] | None) -> dict[str, Any]:
            encoded = self._encoded(text, pair, limit if truncation else None, add_special_tokens)
            if padding:
                encoded = self._padded(encoded, limit if padding == "max_length" else None)
            if return_tensors == "np":
                return {key: _array(lists) for key, lists in encoded.items()}
            return {key: lists[0] for key, lists in encoded.items()} if isinstance(text, str) else encoded

        result = encode(text, text_pair)
        if text_target is not None:
            result["labels"] = encode(text_target, None)["input_ids"]
        return result

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> list[int]:
        """The ids of one text, as a call gives them."""
        return list(self(text, text_pair, **options)["input_ids"])

    def _encoded(self, text: Any, pair: Any, limit: int | None, special: bool) -> dict[str, list[list[int]]]:
        texts = _strings(text)
        if pair is not None:
            texts = list(zip(texts, _strings(pair), strict=True))
        if limit is not None:
            self.backend.enable_truncation(limit, direction=self.truncation_side)
        try:
            encodings = self.backend.encode_batch(texts, add_special_tokens=special)
        finally:
            self.backend.no_truncation()
        if limit is not None and any(len(encoding.ids) > limit for encoding in encodings):  # then none was cut at all
            raise ValueError(f"max_length={limit} leaves no room beside the special tokens of a text")
        result = {"input_ids": [encoding.ids for encoding in encodings]}
        if self._has_types:
            result["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        result["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        return result

    def _padded(self, encoded: dict[str, list[list[int]]], length: int | None) -> dict[str, list[list[int]]]:
        if self.pad_token_id is None:
            raise ValueError(
                "this tokenizer has no token to pad with; give it one, as in tokenizer.pad_token = tokenizer.eos_token"
            )
        longest = max([len(ids) for ids in encoded["input_ids"]] + [length or 0])
        fill = {"input_ids": self.pad_token_id}

        def pad(values: list[int], value: int) -> list[int]:
            extra = [value] * (longest - len(values))
            return extra + values if self.padding_side == "left" else values + extra

        return {key: [pad(values, fill.get(key, 0)) for values in lists] for key, lists in encoded.items()}

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """The text of one row of ids, or of one id.

        Raises
        ------
        ValueError: several rows, or ids below 0, such as the −100 of labels that are not to be learnt.
        """
        ids = np.atleast_1d(np.asarray(token_ids))
        if ids.ndim > 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"decode takes one row of ids, batch_decode several; got {ids.dtype} of shape {ids.shape}")
        if ids.min(initial=0) < 0:
            raise ValueError(f"ids are 0 or more; got {ids.min()}: leave out what is not a token")
        return str(self.backend.decode(ids.tolist(), skip_special_tokens=skip_special_tokens))

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or a list of a list's; unk_token_id for one that the vocabulary lacks."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self.backend.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The token of an id, or a list of a row's; None for an id that no token has."""
        if np.ndim(ids) == 0:
            return self.backend.id_to_token(int(ids))
        return [self.convert_ids_to_tokens(number) for number in ids]


def check_vocabulary(tokenizer: Any, vocab_size: int) -> None:
    """Raises ValueError where the tokenizer has ids that a model of `vocab_size` embeddings lacks. A larger embedding
    is fine: many are padded to a round number."""
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer):,} tokens with ids up to {largest:,} ({token!r}), and the model's "
            f"vocabulary {vocab_size:,}: take the tokenizer of the model's own checkpoint"
        )


def _strings(text: Any) -> list[Any]:
    texts = [text] if isinstance(text, str) else list(text)
    for value in texts:
        if not isinstance(value, str):
            raise TypeError(f"a tokenizer takes a string or a list of strings; got {type(value).__name__} in the list")
    return texts


def _array(lists: list[list[int]]) -> Any:
    if len({len(ids) for ids in lists}) > 1:
        raise ValueError("texts of different lengths make no array: pass padding=True")
    return np.array(lists, dtype=np.int64)  # [b,t]
