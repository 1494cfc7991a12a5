"""Which examples come when: the batches of a dataset, in order or in the order of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from npora.data.columns import examples_at
from npora.nn.module import Array
from npora.train.arguments import TrainingArguments
from npora.train.batches import Batch, Batches, Example


class Loader:
    """The batches of a dataset, in its order.    unit : what one of them is, "evaluation batch" """

    def __init__(self, batches: Batches, data: Sequence[Example], size: int, unit: str) -> None:
        self._batches, self._data, self.batch_size, self.unit = batches, data, size, unit

    def __len__(self) -> int:
        return math.ceil(len(self._data) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.stream(self._data, self.batch_size)


class TrainLoader:
    """The batches of an epoch, in an order of its own that follows from the seed and the epoch's number alone.

    Iterated over, it gives those of the epoch that was asked for last.
    """

    def __init__(self, batches: Batches, data: Sequence[Example], args: TrainingArguments) -> None:
        self._batches, self._data, self._args = batches, data, args
        self.batch_size, self.epoch = args.per_device_train_batch_size, 0
        self._order, self._order_of = np.zeros(0, dtype=np.int64), -1

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return self._args.steps(len(self._data))[0]

    def __len__(self) -> int:
        return math.ceil(self._args.examples_of_an_epoch(len(self._data)) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for _, batch in self.batches(self.epoch, 0, len(self)))

    def step(self, epoch: int, number: int) -> Iterator[tuple[list[int], Batch]]:
        """The gradient_accumulation_steps batches of a step, each with the numbers of its examples."""
        each = self._args.gradient_accumulation_steps
        return self.batches(epoch, number * each, min((number + 1) * each, len(self)))

    def batches(self, epoch: int, first: int, stop: int) -> Iterator[tuple[list[int], Batch]]:
        self.epoch = epoch
        if self._order_of != epoch:
            self._order, self._order_of = order(self._args, len(self._data), epoch), epoch
        for start in range(first * self.batch_size, stop * self.batch_size, self.batch_size):
            numbers = [int(i) for i in self._order[start : start + self.batch_size]]
            batch = self._batches.of(examples_at(self._data, numbers), numbers)
            if "labels" not in batch:
                self._batches.refuse_unlabelled(self._data[numbers[0]])
            yield numbers, batch


def order(args: TrainingArguments, examples: int, epoch: int) -> Array:
    """The numbers of an epoch's examples."""
    if args.train_sampling_strategy == "sequential":
        return np.arange(args.examples_of_an_epoch(examples))
    seed = args.seed if args.data_seed is None else args.data_seed
    return np.random.default_rng([seed, 0, epoch]).permutation(examples)[: args.examples_of_an_epoch(examples)]
