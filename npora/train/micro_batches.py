"""A batch in pieces, some at a time: less memory, and no core waits for another.

A gradient is a sum over rows, so a batch may be cut anywhere between them. Cut into micro-batches of some hundred
tokens it keeps that many tokens' activations and not the batch's. And where each core has a micro-batch of its own, one
does matrix products while another does what NumPy does on a single thread.
"""

from __future__ import annotations

import contextvars
import copy
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from npora.nn import Module
from npora.nn.blas import number_of_threads, on_one_thread
from npora.nn.module import Array

# Large enough for the matrix products: halving it once more costs BERT-base 6 % of a step.
TOKENS_AT_ONCE = 512


class MicroBatches:
    """The gradient of a batch's losses, micro-batch by micro-batch, on as many threads as BLAS would use.

    model : forward takes arrays whose first axis is the batch's, by name, and returns (output, backward), where
        output.loss is a mean over output.num_items labels, each of them of one row
    tokens_at_once : of a micro-batch, about; 0 never cuts. A smaller batch stays whole, on BLAS's own threads

    The cut does not depend on the machine, and so neither do the masks that dropout draws. Threads work on copies of
    the model that share its arrays but gradients (so, of what is trained, there are as many gradients as threads). They
    are added in the same order each time.
    """

    def __init__(self, model: Module, tokens_at_once: int = TOKENS_AT_ONCE) -> None:
        self.model, self.tokens_at_once = model, tokens_at_once
        self._replicas: list[Module] = [model]

    def accumulate(self, batch: Mapping[str, Array], rng: np.random.Generator | None = None) -> tuple[float, int]:
        """Add the gradient of the *sum* of the labels' losses to the parameters' grad: (that sum, number of labels)."""
        threads = number_of_threads()
        pieces = list(cut(batch, self.tokens_at_once if threads else 0))
        rngs = [rng] if len(pieces) == 1 or rng is None else rng.spawn(len(pieces))
        rngs *= len(pieces) // len(rngs)
        found: list[tuple[float, int]] = [(0.0, 0)] * len(pieces)
        share = min(threads or 1, len(pieces))

        def work(number: int) -> None:
            model = self._replicas[number]
            for i in range(number, len(pieces), share):
                found[i] = _gradient(model, pieces[i], rngs[i])

        if share == 1:
            work(0)
        else:
            self._share_parameters(share)
            with on_one_thread(), ThreadPoolExecutor(share) as pool:
                # In the caller's context: whether NumPy warns is part of it.
                contexts = [contextvars.copy_context() for _ in range(share)]
                list(pool.map(lambda number: contexts[number].run(work, number), range(share)))
            self._add_gradients(share)
        return sum(loss for loss, _ in found), sum(items for _, items in found)

    def _share_parameters(self, share: int) -> None:
        while len(self._replicas) < share:
            shared = {id(parameter.data): parameter.data for parameter in self.model.parameters()}
            without = dict.fromkeys((id(parameter.grad) for parameter in self.model.parameters()), None)
            self._replicas.append(copy.deepcopy(self.model, {**shared, **without}))
        for replica in self._replicas[1:share]:
            replica.train(self.model.training)
            for mine, its in zip(self.model.parameters(), replica.parameters(), strict=True):
                its.data = mine.data

    def _add_gradients(self, share: int) -> None:
        for replica in self._replicas[1:share]:
            for mine, its in zip(self.model.parameters(), replica.parameters(), strict=True):
                if its.grad is not None:
                    mine.accumulate(its.grad)
                    its.grad = None


def _gradient(model: Module, batch: Mapping[str, Array], rng: np.random.Generator | None) -> tuple[float, int]:
    output, backward = model(**batch, rng=rng)
    backward(float(output.num_items))
    return float(output.loss) * output.num_items, output.num_items


def cut(batch: Mapping[str, Array], tokens_at_once: int) -> Iterator[dict[str, Array]]:
    """The batch's rows, in order, in pieces of about so many tokens; an even number of pieces, if more than one."""
    lengths = np.zeros(0)
    if (mask := batch.get("attention_mask")) is not None:
        lengths = mask.sum(axis=-1)
    elif (ids := batch.get("input_ids")) is not None:
        lengths = np.full(*ids.shape)
    total = int(lengths.sum())
    if not tokens_at_once or total <= tokens_at_once:
        yield dict(batch)
        return
    number = 2 * math.ceil(total / (2 * tokens_at_once))
    middle = lengths.cumsum() - lengths / 2  # a row is in the piece in which its middle lies
    piece = (middle * number / total).astype(np.int64)
    for i in range(number):
        rows = np.flatnonzero(piece == i)
        if len(rows):
            yield {name: array[rows[0] : rows[-1] + 1] for name, array in batch.items()}
