"""Where a model means to compute something else than transformers' does: it says so when it comes to that."""

from __future__ import annotations

import warnings

from npora.nn import Padding
from npora.nn.module import Array
from npora.nn.targets import IGNORED


class DifferenceWarning(UserWarning):
    """transformers gives another result for this input, on purpose of npora's. Python shows it once in a process."""


def warn_of_padding_first(padding: Padding) -> None:
    """For a head that reads each sequence's first row, which transformers takes from column 0."""
    if not padding.mask[:, :1].all():
        warnings.warn(
            "a sequence is padded on its left: npora's classifiers read its first real token, transformers' read "
            "column 0, which is padding there. Pad on the right (padding_side='right') for the same outputs",
            DifferenceWarning, stacklevel=1,
        )  # fmt: skip


def warn_of_labels_at_padding(labels: Array, padding: Padding) -> None:
    """For a loss over tokens, where torch counts every label but −100."""
    if (labels[~padding.mask] != IGNORED).any():
        warnings.warn(
            f"there are labels where the attention mask shows padding: npora's loss leaves them out, transformers' "
            f"counts them. Make them {IGNORED} for the same loss", DifferenceWarning, stacklevel=1,
        )  # fmt: skip


def warn_of_labels_after_padding(labels: Array, padding: Padding) -> None:
    """For a causal loss: the first token behind padding has no token before it."""
    mask = padding.mask
    if (mask[:, 1:] & ~mask[:, :-1] & (labels[:, 1:] != IGNORED)).any():
        warnings.warn(
            "a token behind padding has a label: npora's loss leaves it out, transformers' predicts it from padding. "
            f"Make it {IGNORED}, or pad on the right, for the same loss", DifferenceWarning, stacklevel=1,
        )  # fmt: skip
