"""From a padded batch of ids to rows, and which row a head reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.models.differences import (
    warn_of_labels_after_padding,
    warn_of_labels_at_padding,
    warn_of_padding_first,
)
from npora.nn import Packing, Padding
from npora.nn.module import Array, Pullback


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


def packed_positions(position_ids: npt.ArrayLike | None, padding: Padding) -> Array:
    """int [n]: the position ids given [b,t], or each row's column in the padded batch, as transformers counts."""
    if position_ids is None:
        return padding.positions
    ids = np.asarray(position_ids)
    return padding.pack(np.broadcast_to(ids, padding.mask.shape))


def pick_rows(x: Array, rows: Array | None) -> tuple[Array, Pullback]:
    """x[rows] for rows that are all different, or x itself.    x [n,m]  rows int [b]  →  [b,m]"""
    if rows is None:
        return x, lambda dx: dx

    def backward(dy: Array) -> Array:
        dx = np.zeros(x.shape, dtype=dy.dtype)
        dx[rows] = dy  # [b,m] → [n,m]
        return dx

    return x[rows], backward


def first_token_rows(padding: Padding) -> Array:
    """int [b], each sequence's first row, which an encoder's classifier reads."""
    rows = padding.packing.first_rows()
    warn_of_padding_first(padding)
    return rows


def first_tokens(h: Array, padding: Padding) -> tuple[Array, Pullback]:
    """h at the first_token_rows.    h [n,m]  →  [b,m]"""
    return pick_rows(h, first_token_rows(padding))


def last_token_rows(input_ids: npt.ArrayLike, packing: Packing, pad_token_id: int | None, masked: bool) -> Array:
    """int [b], the row of each sequence's last token, which a decoder's classifier reads.

    It is the last that the attention mask shows, whatever its id is. Without a mask (masked False) it is the rightmost
    that is not `pad_token_id`, as in transformers; without that too there is no padding, and it is the last of all.
    """
    if masked or pad_token_id is None:
        return packing.last_rows()
    ids = np.asarray(input_ids)
    columns = (np.arange(ids.shape[1]) * (ids != pad_token_id)).argmax(axis=1)  # [b]
    rows: Array = np.arange(len(ids)) * ids.shape[1] + columns  # every column is a row
    return rows


def next_token_targets(labels: npt.ArrayLike, padding: Padding, ignore_index: int = -100) -> Array:
    """int [n], for each row the label of the column after it, as causal models are trained.    labels int [b,t]

    Padding is nobody's target, and what follows padding has no row to be predicted from: both are ignored.
    """
    targets = token_targets(labels, padding, ignore_index, packed=False)
    warn_of_labels_after_padding(targets, padding, ignore_index)
    following = np.full_like(targets, ignore_index)
    following[:, :-1] = targets[:, 1:]
    return padding.pack(following)  # [b,t] → [n]


def token_targets(labels: npt.ArrayLike, padding: Padding, ignore_index: int = -100, packed: bool = True) -> Array:
    """int [n], each row's own label; with packed=False still padded [b,t], where padding is ignored."""
    targets = np.asarray(labels)
    if targets.shape != padding.mask.shape:
        raise ValueError(f"labels have shape {targets.shape}, the tokens {padding.mask.shape}: they must agree")
    warn_of_labels_at_padding(targets, padding, ignore_index)
    return padding.pack(targets) if packed else np.where(padding.mask, targets, ignore_index)
