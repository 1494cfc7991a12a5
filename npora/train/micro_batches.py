"""A batch in pieces, some at a time: less memory, and no core waits for another.

A gradient is a sum over rows, so a batch may be cut anywhere between them. Cut into micro-batches of some hundred
tokens it keeps the activations of those alone that are being worked on. And where each core has a micro-batch of its
own, one does matrix products while another does what NumPy does on a single thread.

What a micro-batch holds grows in forward and shrinks in backward. The first and the last of them are half as long, so
that of two threads one is half a micro-batch ahead: when it holds the most the other holds next to nothing, and at any
time the two hold about what one micro-batch needs.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from npora.nn import Module
from npora.nn.blas import number_of_threads, on_one_thread
from npora.nn.grad_mode import backward_once, gradients_apart, is_grad_enabled
from npora.nn.module import Array, Parameter

# Large enough for the matrix products: half of it costs BERT-base 4 % of a step.
TOKENS_AT_ONCE = 512


def accumulate_gradients(
    model: Module,
    batch: Mapping[str, Any],
    rng: np.random.Generator | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> tuple[float, int]:
    """Add the gradient of the *sum* of the labels' losses to the parameters' grad; returns (that sum, their number).

    model : forward takes the batch's arrays by name, and returns (output, backward), where output.loss is a mean over
        output.num_items labels, each of them of one row. Its backward runs under backward_once()
    batch : arrays whose first axis is the batch's. One whose arrays differ there is not cut
    tokens_at_once : of input_ids in a micro-batch, about; 0 never cuts

    A micro-batch for each thread that BLAS would use is worked on at a time; fewer micro-batches than threads come one
    after the other. A batch is cut alike on every machine, and so the masks that dropout draws from `rng` are the same;
    sums are rounded in another order where the number of threads is another.

    Raises
    ------
    RuntimeError: under no_grad(). And whatever the model raises.
    """
    if not is_grad_enabled():
        raise RuntimeError("accumulate_gradients() under no_grad(): there would be no backward to call")
    pieces = list(cut(batch, tokens_at_once))
    if rng is None or len(pieces) == 1:
        rngs = [rng] * len(pieces)
    else:
        rngs = [np.random.default_rng(int(rng.integers(1 << 62))) for _ in pieces]
    threads = number_of_threads() or 1
    workers = threads if threads <= len(pieces) else 1
    found = [(0.0, 0)] * len(pieces)

    def work(first: int) -> None:
        for i in range(first, len(pieces), workers):
            found[i] = _losses_and_gradient(model, pieces[i], rngs[i])

    def work_apart(first: int) -> dict[Parameter, Array]:
        with gradients_apart() as gradients:
            work(first)
            return gradients

    if workers == 1:
        work(0)
    else:
        with on_one_thread(), ThreadPoolExecutor(workers) as pool:
            # Each in a copy of the caller's context: how NumPy treats an overflow is part of it.
            tasks = [pool.submit(contextvars.copy_context().run, work_apart, first) for first in range(workers)]
            results = [task.result() for task in tasks]
        for gradients in results:  # in the same order each time
            for parameter, gradient in gradients.items():
                parameter.accumulate(gradient)
    return sum(loss for loss, _ in found), sum(items for _, items in found)


def _losses_and_gradient(model: Module, batch: Mapping[str, Any], rng: np.random.Generator | None) -> tuple[float, int]:
    with backward_once():
        output, backward = model(**batch, rng=rng)
        backward(float(output.num_items))
    return float(output.loss) * output.num_items, int(output.num_items)


def cut(batch: Mapping[str, Any], tokens_at_once: int) -> Iterator[dict[str, Any]]:
    """The rows in order: in pieces of about so many tokens, the first and the last of half as many; or whole."""
    lengths = _tokens_of_rows(batch)
    total = int(lengths.sum())
    if not tokens_at_once or total <= tokens_at_once:
        yield dict(batch)
        return
    number = 2 * math.ceil(total / (2 * tokens_at_once))  # even, so that of two threads each has as much to do
    middle = lengths.cumsum() - lengths / 2  # a row is in the piece in which its middle lies
    piece = (middle * number / total + 0.5).astype(np.int64)  # half a piece on: 0 and `number` are the halves
    for i in np.unique(piece):  # a long row leaves a piece beside it empty
        rows = np.flatnonzero(piece == i)
        part = slice(rows[0], rows[-1] + 1)
        yield {name: None if array is None else array[part] for name, array in batch.items()}


def _tokens_of_rows(batch: Mapping[str, Any]) -> Array:
    """How many tokens each row has; nothing where the batch cannot be cut into rows."""
    nothing = np.zeros(0)
    if any(array is not None and not np.ndim(array) for array in batch.values()):
        return nothing
    if len({len(array) for array in batch.values() if array is not None}) != 1:
        return nothing
    if (mask := batch.get("attention_mask")) is not None:
        return np.asarray(np.asarray(mask).sum(axis=-1))
    ids = batch.get("input_ids")
    return nothing if ids is None or np.ndim(ids) != 2 else np.full(*np.shape(ids))
