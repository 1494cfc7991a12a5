"""From a padded batch of ids to rows, and which row a head reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.differences import (
    warn_of_labels_after_padding,
    warn_of_labels_at_padding,
    warn_of_padding_first,
)
from npora.nn import Module, Packing, Padding
from npora.nn.module import Array
from npora.nn.readable import Readable
from npora.nn.residual import Shared
from npora.nn.targets import IGNORED


@dataclass(frozen=True, eq=False)
class Tokens(Readable):
    """A batch of tokens as rows, without padding: what a body reads.

    ids : int [n]
    packing : which of them form which sequence
    padding : the way back to the padded batch; None where rows were given as such
    position_ids, token_type_ids : int [n], where they were given
    padded_ids : int [b,t], as they came; is_masked, whether an attention mask came with them
    source : what the decoder of an encoder-decoder reads beside them: tokens that its encoder reads, or the Memory that
        it made of them
    given : the rows [n,m] that stand in place of the ids' embeddings, where they came as inputs_embeds; ids are zeros
        then, and there are no padded_ids
    choices : how many sequences, one behind the other, are those of an example of multiple choice
    hidden : gets the rows [n,m] before the first layer and behind each; None where nobody asks for them
    """

    ids: Array
    packing: Packing
    padding: Padding | None = None
    position_ids: Array | None = None
    token_type_ids: Array | None = None
    padded_ids: Array | None = None
    is_masked: bool = False
    source: Tokens | Memory | None = None
    given: Shared | None = None
    choices: int | None = None
    hidden: list[Array] | None = None

    @classmethod
    def of(
        cls,
        input_ids: npt.ArrayLike | None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        source: Tokens | Memory | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
    ) -> Tokens:
        """The tokens of a padded batch [b,t], packed; or inputs_embeds [b,t,m] in place of input_ids.

        Raises
        ------
        ValueError: a wrong shape, a mask of another shape, or of other numbers than 1 for a real token and 0 for
        padding; neither input_ids nor inputs_embeds, or both.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("a model reads input_ids or inputs_embeds: give one of them, and not both")
        padded: Any = None if input_ids is None else np.asarray(input_ids)
        rows = None if inputs_embeds is None else np.asarray(inputs_embeds)
        if rows is not None and rows.ndim != 3:
            raise ValueError(f"inputs_embeds must be [batch, length, width]; got shape {rows.shape}")
        ids, padding = pack_tokens(padded if rows is None else np.zeros(rows.shape[:2], int), attention_mask)
        given = None if rows is None else Shared(padding.pack(rows))  # [b,t,m] → [n,m]
        positions, types = (_packed(x, padding) for x in (position_ids, token_type_ids))
        is_masked = attention_mask is not None
        return cls(ids, padding.packing, padding, positions, types, padded, is_masked, source, given)

    @property
    def words(self) -> Array | Shared:
        """What `embedded` makes rows of: the ids, or the rows that were given in their place."""
        return self.ids if self.given is None else self.given

    @property
    def positions(self) -> Array:
        """int [n], the position ids given, or each row's column in the padded batch, as transformers counts."""
        return self.of_the_batch.positions if self.position_ids is None else self.position_ids

    def hidden_states(self) -> tuple[Array, ...]:
        """[b,t,m] each, zeros at the padding: what `hidden` got."""
        return tuple(self.of_the_batch.unpack(h) for h in self.hidden or ())

    @property
    def of_the_batch(self) -> Padding:
        """The padding. Raises RuntimeError where the tokens are of no padded batch."""
        if self.padding is None:
            raise RuntimeError("these tokens were given as rows: they have no place in a padded batch")
        return self.padding


@dataclass
class Memory(Readable):
    """What an encoder made of its tokens: rows [s,m], and which of them form which sequence."""

    rows: Array
    packing: Packing

    def select(self, sequences: Array) -> None:
        """Go on with these sequences, in this order; one may stand several times (beam search)."""
        self.rows = self.rows[self.packing.rows_of(sequences)]
        self.packing = Packing.of_lengths(self.packing.lengths[sequences])


def embedded(
    words: Array | Shared, layer: Callable[[Array], tuple[Array, Callable[[Array], Any]]]
) -> tuple[Array, Callable[[Array], Any]]:
    """The rows [n,m] of a batch's words: layer(ids), or those that were given."""
    return (words.value, words.add) if isinstance(words, Shared) else layer(words)


def summed(
    words: Array | Shared, layer: Callable[[Array], Any], *added: tuple[Module, Array]
) -> tuple[Array, Callable[[Array], None]]:
    """The rows [n,m] of a batch's words, and what tables hold for other ids of each row (its position, its type)."""
    x, back_words = embedded(words, layer)
    backs = [back_words]
    for table, ids in added:
        row, back = table(ids)  # [n,m]
        x = x + row
        backs.append(back)

    def backward(dx: Array) -> None:
        for back in backs:
            back(dx)

    return x, backward


def pack_tokens(input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None) -> tuple[Array, Padding]:
    """The ids [n] of a padded batch [b,t] without its padding, and the way back.

    Raises
    ------
    ValueError: a wrong shape, a mask of another shape, or of other numbers than 1 for a real token and 0 for padding.
    """
    ids = np.asarray(input_ids)
    if ids.ndim != 2:
        raise ValueError(f"input_ids must be [batch, length]; got shape {ids.shape}")
    mask = np.ones(ids.shape, dtype=bool) if attention_mask is None else np.asarray(attention_mask)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {mask.shape}, input_ids {ids.shape}: they must agree")
    if (other := np.argwhere((mask != 0) & (mask != 1))).size:
        row, column = other[0]
        raise ValueError(
            f"attention_mask is {mask[row, column]} in row {row}, column {column}: expected 1 for a real token, 0 for "
            "padding. Several texts in one row would see each other: give each a row of its own"
        )
    padding = Padding(mask.astype(bool))
    return padding.pack(ids), padding


def check_positions(positions: Array, max_positions: int) -> None:
    """Raise ValueError where a position is beyond those that the model has."""
    longest = int(positions.max(initial=-1)) + 1
    if longest > max_positions:
        raise ValueError(
            f"a sequence of {longest} tokens is longer than the {max_positions} positions of this model: truncate it"
        )


def _packed(padded: npt.ArrayLike | None, padding: Padding) -> Array | None:
    """int [n] of [b,t], or of [t] for every sequence."""
    return None if padded is None else padding.pack(np.broadcast_to(np.asarray(padded), padding.mask.shape))


def first_token_rows(tokens: Tokens) -> Array:
    """int [b], each sequence's first row, which an encoder's classifier reads."""
    rows = tokens.packing.first_rows()
    warn_of_padding_first(tokens.of_the_batch)
    return rows


def last_token_rows(tokens: Tokens, pad_token_id: int | None) -> Array:
    """int [b], the row of each sequence's last token, which a decoder's classifier reads.

    It is the last that the attention mask shows, whatever its id is. Without a mask it is the rightmost that is not
    `pad_token_id`, as in transformers; without that too there is no padding, and it is the last of all.
    """
    ids = tokens.padded_ids
    if tokens.is_masked or pad_token_id is None or ids is None:
        return tokens.packing.last_rows()
    columns = (np.arange(ids.shape[1]) * (ids != pad_token_id)).argmax(axis=1)  # [b]
    return np.arange(len(ids)) * ids.shape[1] + columns  # every column is a row


def next_token_targets(labels: npt.ArrayLike, padding: Padding) -> Array:
    """int [n], for each row the label of the column after it, as causal models are trained.    labels int [b,t]

    Padding is nobody's target, and what follows padding has no row to be predicted from: both are IGNORED.
    """
    targets = np.where(padding.mask, _checked(labels, padding), IGNORED)
    warn_of_labels_after_padding(targets, padding)
    following = np.full_like(targets, IGNORED)
    following[:, :-1] = targets[:, 1:]
    return padding.pack(following)  # [b,t] → [n]


def token_targets(labels: npt.ArrayLike, padding: Padding) -> Array:
    """int [n], each row's own label.    labels int [b,t]"""
    return padding.pack(_checked(labels, padding))


def _checked(labels: npt.ArrayLike, padding: Padding) -> Array:
    targets = np.asarray(labels)
    if targets.shape != padding.mask.shape:
        raise ValueError(f"labels have shape {targets.shape}, the tokens {padding.mask.shape}: they must agree")
    warn_of_labels_at_padding(targets, padding)
    return targets
