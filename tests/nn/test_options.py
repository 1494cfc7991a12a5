"""Options of layers and losses at the values that are taken for granted: 0, none, another number."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from npora.nn import (
    Dropout,
    Embedding,
    Linear,
    Module,
    MultiHeadAttention,
    binary_cross_entropy,
    checkpoint,
    cross_entropy,
    projected_cross_entropy,
)


def test_the_first_row_may_be_the_padding() -> None:
    layer = Embedding(3, 2, padding_idx=0, dtype=np.float64)
    layer(np.array([0, 2]))[1](np.array([[1.0, 2.0], [10.0, 20.0]]))
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [10.0, 20.0]]


def test_attention_without_biases_has_none() -> None:
    names = {f"{name}_proj.weight" for name in ("q", "k", "v", "out")}
    assert MultiHeadAttention(4, 2, kdim=3, bias=False).state_dict().keys() == names


@pytest.mark.parametrize("path", ["linear.weight", "list.0.weight", "layers.2", "layers.first", "layers.0.weight.1"])
def test_a_path_that_leads_to_no_place_for_a_module_is_named(path: str) -> None:
    owner: Any = Module()
    owner.layers = [Linear(2, 3)]
    with pytest.raises(AttributeError, match=f"Module has no place '{path}' for a module"):
        owner.set_submodule(path, Linear(2, 3))


def test_a_state_that_was_loaded_is_the_modules_own() -> None:
    layer, state = Linear(2, 3), {"weight": np.ones((3, 2), np.float32), "bias": np.zeros(3, np.float32)}
    layer.load_state_dict(state)
    state["weight"][:] = 7
    assert (layer.weight.data == 1).all()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_loss_over_a_vocabulary_ignores_the_target_that_it_is_told(frozen: bool) -> None:
    rng = np.random.default_rng(0)
    h, head = rng.standard_normal((5, 3)), Linear(3, 4, dtype=np.float64).requires_grad_(not frozen)
    targets = np.array([2, -1, 0, -1, 3])
    loss, backward, number = projected_cross_entropy(h, targets, head, ignore_index=-1, rows_at_once=2)
    logits, back_head = head(h)
    expected, back_loss = cross_entropy(logits, targets, ignore_index=-1)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(backward(0.7), back_head(back_loss(0.7)), rtol=1e-12, atol=1e-16)
    assert number == 3
    with pytest.raises(ValueError, match="target"):
        projected_cross_entropy(h, np.array([2, -1, -100, 0, 3]), head, ignore_index=-1)


@pytest.mark.parametrize("frozen", [True, False])
def test_of_a_block_of_logits_two_arrays_are_there_at_a_time(frozen: bool) -> None:
    n, v = 4, 40_000
    h, head = np.ones((3 * n, 1)), Linear(1, v, bias=False, dtype=np.float64, rng=0).requires_grad_(not frozen)
    loss = [None]

    def run() -> None:
        loss[0] = projected_cross_entropy(h, np.arange(3 * n), head, rows_at_once=n)[1]()

    run()
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    of_head = 0 if frozen else 2 * v  # a gradient of W, and a block's part of it
    assert peak < (2.2 * n * v + of_head) * h.itemsize


def test_a_seed_gives_the_same_weights_in_every_precision() -> None:
    narrow, wide = (Embedding(5, 3, rng=2, dtype=dtype).weight.data for dtype in (np.float32, np.float64))
    assert narrow.tobytes() == wide.astype(np.float32).tobytes()
    assert (wide != narrow).all()  # drawn with all its digits


def test_the_gradient_of_binary_cross_entropy_has_all_its_digits() -> None:
    z, t = np.array([[-3.0, 0.4], [1.7, 8.0]]), np.array([[0.3, 1.0], [0.0, 0.9]])
    _, backward = binary_cross_entropy(z, t)
    np.testing.assert_allclose(backward(0.7), 0.7 / 4 * (1 / (1 + np.exp(-z)) - t), rtol=1e-13)


class Dropped(Module):
    def __init__(self) -> None:
        self.linear, self.dropout = Linear(3, 4, dtype=np.float64), Dropout(0.5)

    def forward(self, x: Any, rng: Any = None) -> Any:
        y, back_linear = self.linear(x)
        y, back_dropout = self.dropout(y, rng)
        return y, lambda dy: back_linear(back_dropout(dy))


def test_a_recomputed_layer_drops_the_same_however_often_it_is_run_back() -> None:
    x, dy = (np.random.default_rng(n).standard_normal((6, n)) for n in (3, 4))
    layer, rng = Dropped(), np.random.default_rng(8)
    _, plain = layer(x, rng=np.random.default_rng(8))
    y, backward = checkpoint(layer, x, rng=rng)
    assert (y == 0).any() and rng.random() != np.random.default_rng(8).random()  # it was drawn from
    for _ in range(3):
        assert backward(dy).tobytes() == plain(dy).tobytes()
