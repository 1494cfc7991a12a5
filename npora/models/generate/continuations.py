"""Sequences that grow token by token, and what a model says comes next."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import Cache, Padding
from npora.nn.module import Array


class Continuations:
    """b sequences and the model that continues them.    ids int [b,t]  mask bool [b,t]

    With a cache, `ids` are those that the model has not seen yet; without, all of them, for a cache that is new each
    time. `memory` is what an encoder made of the inputs. Each sequence is read once and then goes on as `copies`, which
    stand together.
    """

    def __init__(
        self, model: Any, ids: Array, mask: Array, use_cache: bool = True, memory: Any = None, copies: int = 1
    ) -> None:
        self.model, self.ids, self.mask, self.memory, self.copies = model, ids, mask, memory, copies
        self.cache = Cache() if use_cache else None

    def logits(self) -> Array:
        """[b,v], for the token after each sequence. With a cache, to be asked for once between two `append`s."""
        padding = Padding(self.mask)
        cache = Cache() if self.cache is None else self.cache
        memory = () if self.memory is None else (self.memory,)
        logits: Array = self.model.next_logits(padding.pack(self.ids), padding.packing, cache, *memory)
        if np.isnan(logits).any():
            raise FloatingPointError("the model's logits are not a number: are its weights finite?")
        if self.copies > 1:
            copied = np.repeat(np.arange(len(logits)), self.copies)
            self.copies, logits = 1, logits[copied]
            self.select(copied)
        return logits

    def append(self, tokens: Array) -> None:
        """Put one more token behind each sequence.    tokens int [b]"""
        ids, mask = tokens[:, None], np.ones((len(tokens), 1), dtype=bool)
        if self.cache is None:
            ids, mask = np.concatenate([self.ids, ids], axis=1), np.concatenate([self.mask, mask], axis=1)
        self.ids, self.mask = ids, mask

    def select(self, sequences: Array) -> None:
        """Go on with these sequences, in this order; one may stand several times."""
        self.ids, self.mask = self.ids[sequences], self.mask[sequences]
        for state in (self.cache, self.memory):
            if state is not None:
                state.select(sequences)
