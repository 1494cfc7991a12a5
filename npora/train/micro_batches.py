"""A batch in pieces, some at a time: less memory, and no core waits for another.

A gradient is a sum over examples, so a batch may be cut anywhere between them. Cut into micro-batches of some hundred
tokens it keeps the activations of those alone that are being worked on. And where each core has a micro-batch of its
own, one does matrix products while another does what NumPy does on a single thread.

What a micro-batch holds grows in forward and shrinks in backward. The first and the last of them are half as long, so
that of two threads one is half a micro-batch ahead: when it holds the most the other holds next to nothing, and at any
time the two hold about what one micro-batch needs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from npora.machine.threads import get_num_threads, in_parallel
from npora.nn import Module, no_grad
from npora.nn.grad_mode import backward_once, gradients_apart, is_grad_enabled
from npora.nn.module import Array, Parameter

Rng = np.random.Generator | None

# Large enough for the matrix products: half of it costs BERT-base 4 % of a step.
TOKENS_AT_ONCE = 512
_PIXELS = 3 * 16 * 16  # numbers of an image that count as a token: a patch of most models


def accumulate_gradients(
    model: Module,
    batch: Mapping[str, Any],
    rng: np.random.Generator | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> tuple[float, float]:
    """Add the gradient of the *sum* of the labels' losses to the parameters' grad; returns (that sum, their number).

    model : forward takes the batch's arrays by name, and returns (output, backward), where output.loss is a mean over
        output.num_items labels, each of them of one example. Its backward runs under backward_once()
    batch : arrays whose first axis is the batch's. One whose arrays differ there is not cut, nor is any where the
        model's `is_whole` is True, since its loss compares the examples
    tokens_at_once : of input_ids in a micro-batch, or patches of pixel_values, about; 0 never cuts

    As many micro-batches as there are threads are worked on at a time. A batch is cut alike on every machine, the masks
    that dropout draws from `rng` are a micro-batch's own, and gradients are added in the order of the micro-batches:
    the bits are the same for any number of threads. At most one micro-batch's gradient more than there are threads is
    held.

    Raises
    ------
    RuntimeError: under no_grad(). And whatever the model raises.
    """
    if not is_grad_enabled():
        raise RuntimeError("accumulate_gradients() under no_grad(): there would be no backward to call")
    parts = pieces(batch, rng, 0 if _is_whole(model) else tokens_at_once)
    if len(parts) == 1:
        found = in_parallel([partial(losses_and_gradient, model, *parts[0])])
    else:
        sums = _InOrder(get_num_threads())

        def work(i: int) -> tuple[float, float]:
            try:
                sums.wait_to_begin(i)
                with gradients_apart() as gradients:
                    result = losses_and_gradient(model, *parts[i])
            except BaseException:
                sums.add(i, None)
                raise
            sums.add(i, gradients)
            return result

        found = in_parallel([partial(work, i) for i in range(len(parts))])
    return sum(loss for loss, _ in found), sum(items for _, items in found)


def _is_whole(model: Module) -> bool:
    return bool(getattr(model, "is_whole", False))


def pieces(batch: Mapping[str, Any], rng: Rng, tokens_at_once: int) -> list[tuple[dict[str, Any], Rng]]:
    """The micro-batches of a batch, each with its own generator: `rng` itself where there is one alone."""
    parts = list(cut(batch, tokens_at_once))
    if len(parts) == 1:
        return [(parts[0], rng)]
    return [(part, None if rng is None else np.random.default_rng(int(rng.integers(1 << 62)))) for part in parts]


def losses_and_gradient(model: Module, batch: Mapping[str, Any], rng: Rng) -> tuple[float, float]:
    """Of a micro-batch: the sum of the labels' losses, whose gradient is added, and their number."""
    with backward_once():
        output, backward = model(**batch, rng=rng)
        backward(float(output.num_items))
    return float(output.loss) * output.num_items, output.num_items


class _InOrder:
    """Adds the gradients of micro-batches to the parameters in the order of the micro-batches, whoever ends first."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.ready: dict[int, dict[Parameter, Array] | None] = {}
        self.following = 0  # the first that has not been added
        self.changed = threading.Condition()

    def wait_to_begin(self, number: int) -> None:
        """Until so many of those before it have been added that one more gradient may be held."""
        with self.changed:
            self.changed.wait_for(lambda: number <= self.following + self.threads)

    def add(self, number: int, gradients: dict[Parameter, Array] | None) -> None:
        """gradients : None where the work failed, so that those after it need not wait."""
        with self.changed:
            self.ready[number] = gradients
            while self.following in self.ready:
                for parameter, gradient in (self.ready.pop(self.following) or {}).items():
                    parameter.accumulate(gradient)
                self.following += 1
            self.changed.notify_all()


class Inferred(NamedTuple):
    """logits [b,…], or None where nobody reads them; the sum of the labels' losses, and their number (0, 0 without)."""

    logits: Array | None
    loss_sum: float
    items: float


def infer(
    model: Module, batch: Mapping[str, Any], keep_logits: bool = True, tokens_at_once: int = TOKENS_AT_ONCE
) -> Inferred:
    """The model's outputs for a batch, under no_grad(), cut and divided among threads as in accumulate_gradients."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    options = {"all_logits": True} if keep_logits and "all_logits" in getattr(base, "options", ()) else {}

    def work(piece: Mapping[str, Any]) -> Inferred:
        with no_grad():
            output, _ = model(**piece, **options)
            items = output.num_items if output.loss is not None else 0
            loss = float(output.loss) * items if items else 0.0
            return Inferred(output.logits if keep_logits else None, loss, items)

    found = in_parallel([partial(work, piece) for piece in cut(batch, 0 if _is_whole(model) else tokens_at_once)])
    logits = _joined([part.logits for part in found if part.logits is not None])
    return Inferred(logits, sum(part.loss_sum for part in found), sum(part.items for part in found))


def _joined(parts: Sequence[Array]) -> Array | None:
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)) if parts else None


def cut(batch: Mapping[str, Any], tokens_at_once: int) -> Iterator[dict[str, Any]]:
    """The examples in order: in pieces of about so many tokens, the first and the last of half as many; or whole."""
    lengths = _tokens_of_examples(batch)
    total = int(lengths.sum())
    if not tokens_at_once or total <= tokens_at_once:
        yield dict(batch)
        return
    number = 2 * math.ceil(total / (2 * tokens_at_once))  # even, so that of two threads each has as much to do
    middle = lengths.cumsum() - lengths / 2  # an example is in the piece in which its middle lies
    piece = (middle * number / total + 0.5).astype(np.int64)  # half a piece on: 0 and `number` are the halves
    for i in np.unique(piece):  # a long example leaves a piece beside it empty
        examples = np.flatnonzero(piece == i)
        part = slice(examples[0], examples[-1] + 1)
        yield {name: None if array is None else array[part] for name, array in batch.items()}


def _tokens_of_examples(batch: Mapping[str, Any]) -> Array:
    """How many tokens each example has; nothing where the batch cannot be cut into examples."""
    nothing = np.zeros(0)
    if any(array is not None and not np.ndim(array) for array in batch.values()):
        return nothing
    if len({len(array) for array in batch.values() if array is not None}) != 1:
        return nothing
    if (mask := batch.get("attention_mask")) is not None:
        mask = np.asarray(mask)
        return np.asarray(mask.sum(axis=tuple(range(1, mask.ndim))))
    if (pixels := batch.get("pixel_values")) is not None:
        return np.full(len(pixels), max(1, math.prod(np.shape(pixels)[1:]) // _PIXELS))
    ids = batch.get("input_ids")
    return nothing if ids is None or np.ndim(ids) < 2 else np.full(len(ids), math.prod(np.shape(ids)[1:]))
