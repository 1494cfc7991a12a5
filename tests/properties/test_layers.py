"""What the layers' mathematics promises: bit for bit on whole numbers, within a bound from the inputs elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npora.lora import LoRALinear
from npora.nn import Dropout, Embedding, Linear, Module, MultiHeadAttention
from npora.nn import functional as F
from npora.nn.module import Array
from npora.optim import SGD, Adam
from tests.properties.strategies import normal, seeds, sizes, whole

U = 2.0**-53


def whole_parameters(layer: Module, seed: int) -> Module:
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = whole(seed + number, *parameter.shape)
    return layer


@given(st.sampled_from(["linear", "lora", "embedding"]), sizes, sizes, sizes, sizes, seeds)
def test_the_gradients_of_two_batches_add_up_to_that_of_both(
    kind: str, n: int, m: int, i: int, o: int, seed: int
) -> None:
    layers = {
        "linear": lambda: Linear(i, o),
        "lora": lambda: LoRALinear(Linear(i, o), r=2, lora_alpha=4),
        "embedding": lambda: Embedding(i, o),
    }
    layer = whole_parameters(layers[kind](), seed)
    if kind == "embedding":
        x: Array = np.random.default_rng(seed).integers(0, i, n + m)
    else:
        x = whole(seed + 20, n + m, i)
    dy = whole(seed + 21, n + m, o)
    layer(x)[1](dy)
    together = [p.grad.tobytes() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    for part in (slice(0, n), slice(n, n + m)):
        layer(x[part])[1](dy[part])
    apart = [p.grad for p in layer.parameters() if p.grad is not None]
    # A zero may come with either sign; adding a zero gives it the plain one.
    assert [(g + 0).tobytes() for g in apart] == [(np.frombuffer(b, np.float32) + 0).tobytes() for b in together]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), sizes, seeds)
def test_a_row_of_an_embedding_gathers_the_gradients_of_its_tokens_and_an_unused_one_none(
    ids: list[int], d: int, seed: int
) -> None:
    layer = Embedding(5, d)
    dy = whole(seed, len(ids), d)
    layer(np.array(ids))[1](dy)
    grad: Any = layer.weight.grad
    for token in range(5):
        assert (grad[token] == sum((row for i, row in zip(ids, dy, strict=True) if i == token), 0 * dy[0])).all()


@given(sizes, seeds)
def test_gelu_of_x_less_gelu_of_minus_x_is_x(n: int, seed: int) -> None:
    x = 3 * normal(seed, n)
    for gelu in (F.gelu, F.gelu_tanh):
        left, right = gelu(x)[0], gelu(-x)[0]
        # Φ is off by a few units of its size, which is at most 1.
        assert (abs(left - right - x) <= 16 * U * abs(x)).all()


@given(sizes, sizes, seeds)
def test_dropping_nothing_is_the_identity_and_everything_gives_zeros(n: int, d: int, seed: int) -> None:
    x, rng = normal(seed, n, d), np.random.default_rng(seed)
    assert Dropout(0.0)(x, rng)[0].tobytes() == x.tobytes()
    y, backward = Dropout(1.0)(x, rng)
    assert not y.any() and not backward(x).any()


@given(st.floats(0.1, 0.9), seeds)
def test_dropout_multiplies_the_gradient_by_what_it_multiplied_the_value_by(p: float, seed: int) -> None:
    x = whole(seed, 4, 5) + 9  # nowhere zero
    y, backward = F.dropout(x, p, np.random.default_rng(seed))
    assert backward(x).tobytes() == y.tobytes()
    scale = np.float32(1 / (1 - round(p * 2**16) / 2**16))
    assert set(np.unique((y / x).astype(np.float32))) <= {np.float32(0), *np.unique(scale * x / x)}


@given(sizes, sizes, st.integers(2, 5), seeds)
def test_cross_entropy_is_never_negative_and_least_where_the_target_is_the_largest(
    n: int, v: int, sharper: int, seed: int
) -> None:
    logits, targets = normal(seed, n, v), np.random.default_rng(seed).integers(0, v, n)
    loss, backward = F.cross_entropy(logits, targets)
    assert loss >= 0
    better, _ = F.cross_entropy(logits - sharper * backward(), targets)
    assert better <= loss  # a convex function, along its own gradient, with a step below 2 over its curvature ½/n


@given(st.permutations([0, 1, 2]), seeds)
def test_heads_in_another_order_with_their_output_columns_change_nothing(order: list[int], seed: int) -> None:
    layer = MultiHeadAttention(6, 3, rng=0, dtype=np.float64)
    other = copy.deepcopy(layer)
    rows = np.concatenate([np.arange(2 * h, 2 * h + 2) for h in order])
    for name in ("q_proj", "k_proj", "v_proj"):
        projection: Any = getattr(other, name)
        projection.weight.data, projection.bias.data = projection.weight.data[rows], projection.bias.data[rows]
    out: Any = other.out_proj
    out.weight.data = out.weight.data[:, rows]
    x = normal(seed, 2, 4, 6)
    y, backward = layer(x)
    z, back = other(x)
    # The sums over six columns run in another order: γ₆ of the sizes of their terms.
    bound = 64 * U * (abs(y).max() + 1)
    assert (abs(y - z) <= bound).all() and (abs(backward(x) - back(x)) <= 64 * bound).all()


@given(st.sampled_from([0.25, 0.5, 2.0, 8.0]), seeds)
def test_a_step_of_sgd_is_linear_in_the_rate(c: float, seed: int) -> None:
    def moved_by(rate: float) -> Array:
        layer = whole_parameters(Linear(3, 2, bias=False), seed)
        before = layer.weight.data.copy()
        layer.weight.grad = whole(seed + 5, 2, 3)
        SGD([layer.weight], lr=rate).step()
        return layer.weight.data - before

    assert (moved_by(c) == c * moved_by(1.0)).all()


@given(st.sampled_from([0.5, 4.0]), seeds)
def test_adam_does_not_see_the_gradients_scale_when_eps_scales_with_it(c: float, seed: int) -> None:
    def stepped(scale: float) -> bytes:
        layer = whole_parameters(Linear(3, 2, bias=False), seed)
        optimizer = Adam([layer.weight], lr=0.125, eps=scale * 2.0**-20)
        for step in range(3):
            layer.weight.grad = np.float32(scale) * whole(seed + step, 2, 3)
            optimizer.step()
        return layer.weight.data.tobytes()

    assert stepped(c) == stepped(1.0)
