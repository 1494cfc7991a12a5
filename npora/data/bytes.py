"""Text as its UTF-8 bytes: a tokenizer without a vocabulary file and without a package."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from npora.data.roles import ROLES
from npora.data.tokenizer import Tokenizer

_BYTES = 256
OWN_CLASS = "npora_tokenizer"  # the key of tokenizer_config.json under which the class stands


class ByteTokenizer(Tokenizer):
    """A token is a byte, and its id the byte's value; `encode(text)` is `list(text.encode())`.

    eos, pad : add a token `<eos>`, `<pad>` with the next ids from 256 on. No text has them: the caller appends them
    """

    def __init__(self, eos: bool = False, pad: bool = False) -> None:
        special = {role: f"<{role[:3]}>" for role, wanted in (("eos_token", eos), ("pad_token", pad)) if wanted}
        # A text that spells out <eos> stays what it is, for who reads the saved files too; and AutoTokenizer knows by
        # these files that it needs no package to read them.
        config = {"split_special_tokens": True, OWN_CLASS: type(self).__name__}
        super().__init__(_Bytes(list(special.values())), special, config=config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], model_max_length: int | None) -> ByteTokenizer:
        """The one whose `tokenizer_config.json` this is, as save_pretrained writes it."""
        roles = {role: config[role] for role in ROLES if config.get(role) is not None}
        tokenizer = cls(eos="<eos>" in roles.values(), pad="<pad>" in roles.values())
        for role in ROLES:
            setattr(tokenizer, role, roles.get(role))
        tokenizer.model_max_length = model_max_length
        tokenizer.padding_side = config.get("padding_side", "right")
        tokenizer.truncation_side = config.get("truncation_side", "right")
        return tokenizer


class _Encoding:
    """The bytes of one text, or of two one after the other, with the characters of its text that each is of."""

    def __init__(self, texts: Sequence[str], room: Sequence[int], left: bool) -> None:
        parts = []
        for number, (text, most) in enumerate(zip(texts, room, strict=True)):
            part = [(b, (i, i + 1), number) for i, letter in enumerate(text) for b in letter.encode()]
            parts += part[max(0, len(part) - most) :] if left else part[:most]
        self.ids = [byte for byte, _, _ in parts]
        self.offsets = [span for _, span, _ in parts]
        self.sequence_ids = self.type_ids = [number for _, _, number in parts]
        self.attention_mask = [1] * len(parts)
        self.special_tokens_mask = [0] * len(parts)
        self.word_ids = [None] * len(parts)

    @property
    def tokens(self) -> list[str]:
        return [f"<0x{byte:02X}>" for byte in self.ids]


class _Bytes:
    """What Tokenizer asks of a `tokenizers.Tokenizer`."""

    post_processor: Any = None

    def __init__(self, special: list[str]) -> None:
        self.special = special
        self.tokens = [f"<0x{byte:02X}>" for byte in range(_BYTES)] + special
        self.no_truncation()

    def enable_truncation(self, length: int, strategy: str = "longest_first", direction: str = "right") -> None:
        self.most, self.strategy, self.direction = length, strategy, direction

    def no_truncation(self) -> None:
        self.enable_truncation(sys.maxsize)

    def no_padding(self) -> None:
        pass

    def num_special_tokens_to_add(self, pair: bool) -> int:
        return 0

    def encode(self, text: str, add_special_tokens: bool = True) -> _Encoding:
        return self.encode_batch([text], add_special_tokens)[0]

    def encode_batch(
        self, texts: Sequence[Any], add_special_tokens: bool, is_pretokenized: bool = False
    ) -> list[_Encoding]:
        if is_pretokenized:
            raise ValueError("bytes are of a text, spaces and all; it cannot be split into words")
        pairs = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        return [_Encoding(pair, self._room(pair), self.direction == "left") for pair in pairs]

    def _room(self, texts: Sequence[str]) -> list[int]:
        """How many bytes of each are kept."""
        lengths = [len(text.encode()) for text in texts]
        over = sum(lengths) - self.most
        if over <= 0:
            return lengths
        if self.most == 0:
            return [0] * len(lengths)
        if len(lengths) == 1:
            return [self.most] if self.strategy != "only_second" else lengths
        if self.strategy != "longest_first":
            cut = 0 if self.strategy == "only_first" else 1
            if lengths[cut] <= over:
                raise ValueError(f"max_length={self.most} leaves nothing of the text that {self.strategy} cuts")
            lengths[cut] -= over
            return lengths
        short = min(*lengths, self.most // 2)  # the longer is cut first, then both alike
        return [short, self.most - short] if lengths[0] <= lengths[1] else [self.most - short, short]

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        special = [] if skip_special_tokens else self.special
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

    def to_str(self, pretty: bool = False) -> str:
        """A tokenizer.json of the `tokenizers` package: byte pairs without a pair, so that every letter is bytes."""
        settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added = [{"id": _BYTES + i, "content": token, **settings} for i, token in enumerate(self.special)]
        decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
        model = {"type": "BPE", "vocab": self.get_vocab(), "merges": [], "byte_fallback": True}
        parts = {"version": "1.0", "added_tokens": added, "decoder": decoder, "model": model}
        return json.dumps(parts, indent=2 if pretty else None)
