"""Text as its UTF-8 bytes: a tokenizer without a vocabulary file and without a package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from npora.data.tokenizer import Tokenizer

_BYTES = 256


class ByteTokenizer(Tokenizer):
    """A token is a byte, and its id the byte's value; `encode(text)` is `list(text.encode())`.

    eos, pad : add a token `<eos>`, `<pad>` with the next ids from 256 on. No text has them: the caller appends them
    """

    def __init__(self, eos: bool = False, pad: bool = False) -> None:
        special = {role: f"<{role[:3]}>" for role, wanted in (("eos_token", eos), ("pad_token", pad)) if wanted}
        super().__init__(_Bytes(list(special.values())), special)


class _Encoding(NamedTuple):
    ids: list[int]

    @property
    def attention_mask(self) -> list[int]:
        return [1] * len(self.ids)


class _Bytes:
    """What Tokenizer asks of a `tokenizers.Tokenizer`."""

    def __init__(self, special: list[str]) -> None:
        self.tokens = [f"<0x{byte:02X}>" for byte in range(_BYTES)] + special
        self.no_truncation()

    def enable_truncation(self, length: int, direction: str) -> None:
        self.most, self.direction = length, direction

    def no_truncation(self) -> None:
        self.enable_truncation(sys.maxsize, "right")

    def no_padding(self) -> None:
        pass

    def encode_batch(self, texts: Sequence[str | tuple[str, str]], add_special_tokens: bool) -> list[_Encoding]:
        encoded = [list("".join(text).encode()) for text in texts]  # of a pair, one after the other
        left = self.direction == "left"
        return [_Encoding(ids[max(0, len(ids) - self.most) :] if left else ids[: self.most]) for ids in encoded]

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        special = [] if skip_special_tokens else self.tokens[_BYTES:]
        known = {_BYTES + i: token.encode() for i, token in enumerate(special)}
        parts = [bytes([i]) if i < _BYTES else known.get(i, b"") for i in ids]
        return b"".join(parts).decode("utf-8", errors="replace")

    def token_to_id(self, token: str) -> int | None:
        return self.tokens.index(token) if token in self.tokens else None

    def id_to_token(self, number: int) -> str | None:
        return self.tokens[number] if 0 <= number < len(self.tokens) else None

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        return len(self.tokens)
