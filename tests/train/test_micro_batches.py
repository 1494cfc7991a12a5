"""A batch in pieces has the gradient of the whole, on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from npora.nn import blas
from npora.nn.module import Array
from npora.optim import SGD
from npora.train import MicroBatches, micro_batches
from npora.train.micro_batches import cut
from npora.train.state import trainable
from tests.tiny import tiny_peft

LENGTHS = np.array([5, 1, 3, 2, 4, 6, 2])  # 23 tokens
MASK = (np.arange(6) < LENGTHS[:, None]).astype(np.int64)
IDS = np.where(MASK, np.random.default_rng(0).integers(2, 9, MASK.shape), 0)
LABELS = np.array([0, 2, -100, 1, 1, 0, 2])
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As if BLAS had so many."""
    monkeypatch.setattr(micro_batches, "number_of_threads", lambda: request.param)
    return int(request.param)


def model_and_gradient(**config: Any) -> tuple[Any, dict[str, Array]]:
    """A model with LoRA in float64, and a gradient that its parameters hold from before."""
    model = tiny_peft(dtype=np.float64, **config)
    rng = np.random.default_rng(5)
    for parameter in trainable(model).values():
        parameter.data = rng.standard_normal(parameter.shape)
        parameter.grad = rng.standard_normal(parameter.shape)
    return model, {name: parameter.grad.copy() for name, parameter in trainable(model).items()}


@pytest.mark.parametrize("tokens_at_once", [1, 5, 12])
def test_the_gradient_is_the_whole_batchs_also_after_a_step(threads: int, tokens_at_once: int) -> None:
    model, held = model_and_gradient()
    other, _ = model_and_gradient()
    pieces = MicroBatches(model, tokens_at_once)
    optimizers = [SGD(list(trainable(m).values()), lr=0.1) for m in (model, other)]
    for _ in range(2):
        loss, items = pieces.accumulate(BATCH)
        output, backward = other(**BATCH)
        backward(float(output.num_items))
        assert items == output.num_items == 6
        assert loss == pytest.approx(float(output.loss) * items, rel=1e-13)
        for name, expected in trainable(other).items():
            found = trainable(model)[name].grad
            assert np.abs(expected.grad - held[name]).max() > 1e-6
            np.testing.assert_allclose(found, expected.grad, rtol=0, atol=1e-12)  # sums of values about 1
        for optimizer in optimizers:
            optimizer.step()


def test_what_is_dropped_out_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for number in (1, 2, 3):
        monkeypatch.setattr(micro_batches, "number_of_threads", lambda number=number: number)
        model, _ = model_and_gradient(lora_dropout=0.5)
        model.train()
        loss, _ = MicroBatches(model, 5).accumulate(BATCH, np.random.default_rng(3))
        results.append((loss, trainable(model)))
    for loss, parameters in results[1:]:
        assert loss == results[0][0]
        for name, parameter in parameters.items():
            np.testing.assert_allclose(parameter.grad, results[0][1][name].grad, rtol=0, atol=1e-12)
    model, _ = model_and_gradient(lora_dropout=0.5)
    model.train()
    assert MicroBatches(model, 5).accumulate(BATCH, np.random.default_rng(4))[0] != results[0][0]


def test_frozen_weights_are_shared_and_stay(threads: int) -> None:
    model, _ = model_and_gradient()
    frozen = {name: p.data.copy() for name, p in model.named_parameters() if not p.requires_grad}
    pieces = MicroBatches(model, 5)
    pieces.accumulate(BATCH)
    for replica in pieces._replicas:
        for name, parameter in replica.named_parameters():
            assert parameter.data is dict(model.named_parameters())[name].data
            if name in frozen:
                assert parameter.grad is None
                np.testing.assert_array_equal(parameter.data, frozen[name])


def test_the_pieces_are_the_batch(threads: int) -> None:
    for tokens_at_once in range(1, 23):
        pieces = list(cut(BATCH, tokens_at_once))
        for name, array in BATCH.items():
            np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), array)
    assert [len(piece["labels"]) for piece in cut(BATCH, 11)] == [2, 2, 1, 2]  # of 6, 5, 4 and 8 tokens
    without = {"input_ids": IDS, "labels": LABELS}
    assert [len(piece["labels"]) for piece in cut(without, 21)] == [3, 4]  # all 42 count


@pytest.mark.parametrize(
    ("batch", "tokens_at_once"), [(BATCH, 0), (BATCH, 23), ({"x": LABELS}, 1), ({"input_ids": IDS[:0]}, 1)]
)
def test_a_small_batch_stays_whole(batch: dict[str, Array], tokens_at_once: int) -> None:
    (whole,) = cut(batch, tokens_at_once)
    assert whole.keys() == batch.keys() and all(whole[name] is batch[name] for name in batch)


def test_where_nothing_is_known_of_blas_a_batch_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batches, "number_of_threads", lambda: None)
    model, _ = model_and_gradient()
    seen = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **batch: (seen.append(len(batch["labels"])), forward(**batch))[1])
    MicroBatches(model, 1).accumulate(BATCH)
    assert seen == [7]


def test_an_error_on_a_thread_reaches_the_caller(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = []

    @contextmanager
    def watched() -> Iterator[None]:
        inside.append(True)
        yield from blas.on_one_thread.__wrapped__()
        inside.append(False)

    monkeypatch.setattr(micro_batches, "on_one_thread", watched)
    before = blas.number_of_threads()
    model, _ = model_and_gradient()
    with pytest.raises(ValueError, match="77"):
        MicroBatches(model, 5).accumulate({**BATCH, "labels": np.array([0, 2, 1, 1, 1, 0, 77])})
    assert blas.number_of_threads() == before
    assert bool(inside) == (threads > 1)


def test_blas_is_told_to_use_one_thread_and_then_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [3]
    monkeypatch.setattr(blas, "_functions", lambda: (lambda: threads[0], lambda n: threads.__setitem__(0, n)))
    with pytest.raises(KeyError), blas.on_one_thread():
        assert blas.number_of_threads() == 1
        raise KeyError
    assert threads == [3] and blas.number_of_threads() == 3
    monkeypatch.setattr(blas, "_functions", lambda: None)
    with blas.on_one_thread():
        assert blas.number_of_threads() is None
