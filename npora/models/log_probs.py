"""How likely a language model finds whole texts, which losses of preferences compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.tasks import ForCausalLM
from npora.nn.functional import target_log_probs
from npora.nn.module import Array
from npora.nn.targets import IGNORED


def sequence_log_probs(
    model: Any,
    input_ids: npt.ArrayLike,
    attention_mask: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Array, Callable[[Array], None]]:
    """y_b = Σ log p(label) over the labels of text b that are not −100.    [b,t] each  →  y [b]

    Returns y, the number [b] of labels that it is a sum of, and backward(dy [b]), which adds the gradient of every
    trainable parameter. Rows without a label are not projected. Of row k, which is of text b:

        dlog p_k = dy_b        (1)

    model : a causal language model, or what is below its adapters

    Raises TypeError for a model that is none.
    """
    if not isinstance(model, ForCausalLM):
        raise TypeError(f"texts are likely to a causal language model; got a {type(model).__name__}")
    tokens = model.pack(input_ids, attention_mask)
    targets = model.targets(labels, tokens.of_the_batch)  # [n]
    read = np.flatnonzero(targets != IGNORED)  # [k]
    h, back_body = model.body.read_rows(tokens, rng, read)  # [k,m]
    z, back_head = model.head(h, rng)
    logits, back_decoder = model.unembedding()(z, rng)  # [k,v]
    log_p, back_log_p = target_log_probs(logits, targets[read])  # [k]
    text = tokens.packing.sequences[read]  # [k], which text a row is of
    y = np.zeros(len(tokens.packing.lengths), dtype=log_p.dtype)
    np.add.at(y, text, log_p)  # [k] → [b]

    def backward(dy: Array) -> None:
        dlog_p = np.asarray(dy, dtype=log_p.dtype)[text]  # (1) [k]
        back_body(back_head(back_decoder(back_log_p(dlog_p))))

    return y, np.bincount(text, minlength=len(y)), backward
