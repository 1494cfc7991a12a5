"""Ids to tokens, to text and back: what a tokenizer knows without splitting a text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from npora.data.roles import Roles

# What BERT's pieces leave before marks, in the order in which transformers takes it away.
_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


class Vocabulary(Roles):
    """The tokens and their ids."""

    clean_up_tokenization_spaces: bool
    truncation_side: str
    _has_types: bool

    @property
    def vocab_size(self) -> int:
        """Without the tokens that were added to the vocabulary; `len(tokenizer)` counts those too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    def digest(self) -> str:
        """The SHA-256 of all that decides the ids of a text."""
        parts = [self.backend.to_str(), self.special_tokens_map, self.truncation_side, self._has_types]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def get_vocab(self) -> dict[str, int]:
        return dict(self.backend.get_vocab())

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return int(self.backend.num_special_tokens_to_add(pair))

    @property
    def special_ids(self) -> set[int]:
        """The ids of all tokens that are marks and no words: those with a role, and those that its files call special,
        as a chat's <|im_start|>."""
        added: dict[int, Any] = getattr(self.backend, "get_added_tokens_decoder", dict)()
        return {*self.all_special_ids, *(number for number, token in added.items() if token.special)}

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text of one row of ids, or of one id; cleaned up, it has no space before . , ? ! and 's.

        Raises
        ------
        ValueError: several examples, or ids below 0, such as the −100 of labels that are not to be learnt.
        """
        ids = np.atleast_1d(np.asarray(token_ids))
        if ids.ndim > 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(f"decode takes one row of ids, batch_decode several; got {ids.dtype} of shape {ids.shape}")
        if ids.min(initial=0) < 0:
            raise ValueError(f"ids are 0 or more; got {ids.min()}: leave out what is not a token")
        text = str(self.backend.decode(ids.tolist(), skip_special_tokens=skip_special_tokens))
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        # Byte pairs spell out their spaces: there is nothing to clean up, as transformers has it too.
        return _cleaned(text) if clean and type(getattr(self.backend, "model", None)).__name__ != "BPE" else text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        return [self.decode(ids, skip_special_tokens, **options) for ids in sequences]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or a list of a list's; unk_token_id for one that the vocabulary lacks."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self.backend.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The token of an id, or a list of an example's; None for an id that no token has."""
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


def _cleaned(text: str) -> str:
    for spaced in _SPACED:
        text = text.replace(spaced, spaced.strip())
    return text
