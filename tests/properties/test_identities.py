"""The identities that layers declare: kept by a right gradient, broken by a wrong one, silent elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.lora import LoraConfig, LoRALinear
from npora.lora.methods.lora import LoRA
from npora.nn import LayerNorm, Linear
from npora.nn import functional as F
from npora.nn.module import Array
from tests.properties.strategies import normal, seeds, sizes

U = 2.0**-53
LEADING = [(), (2,), (3, 2), (2, 1, 3)]


def kept(terms: Array) -> Array:
    """Where the sums are zero, up to the roundings of each term, and of a few before it."""
    sums: Array = np.abs(terms.sum(axis=-1)) <= 2**8 * U * np.abs(terms).sum(axis=-1)
    return sums


def of_attention(q: Array, k: Array, dq: Array, dk: Array) -> Array:
    declared: Any = F.attention
    [(name, terms)] = declared.identities({"q": q, "k": k}, {"q": dq, "k": dk})
    assert name == "Σ qᵀ dq = Σ dkᵀ k"
    return np.asarray(terms)


@given(st.sampled_from(LEADING), sizes, sizes, sizes, seeds)
def test_queries_and_keys_balance_in_each_head_alone(leading: Any, t: int, s: int, d: int, seed: int) -> None:
    q, k = normal(seed, *leading, t, d), normal(seed + 1, *leading, s + 1, d)
    y, backward = F.attention(q, k, normal(seed + 2, *leading, s + 1, 2))
    dq, dk, _, _ = backward(normal(seed + 3, *y.shape))
    terms = of_attention(q, k, dq, dk)
    assert terms.shape == (*leading, t * d + (s + 1) * d) and kept(terms).all()
    # By how much one head is out of balance, and which.
    wrong = dq.copy()
    first = (0,) * len(leading)
    wrong[first] += 0.25 * q[first]
    off = of_attention(q, k, wrong, dk).sum(axis=-1)
    assert off[first] == pytest.approx(0.25 * (q[first] ** 2).sum(), rel=1e-9)
    assert np.count_nonzero(~kept(of_attention(q, k, wrong, dk))) == 1


@pytest.mark.parametrize("leading", [(2,), (3, 2)])
def test_errors_that_cancel_across_heads_do_not_hide(leading: tuple[int, ...]) -> None:
    q, k, v = (normal(seed, *leading, size, 5) for seed, size in ((0, 3), (1, 4), (2, 4)))
    y, backward = F.attention(q, k, v)
    dq, dk, _, _ = backward(normal(3, *y.shape))
    first, last = (0,) * len(leading), (-1,) * len(leading)
    dq[first] += q[first] / (q[first] ** 2).sum()
    dq[last] -= q[last] / (q[last] ** 2).sum()
    terms = of_attention(q, k, dq, dk)
    assert abs(terms.sum()) < 1e-12
    assert np.count_nonzero(~kept(terms)) == 2 and terms.sum(axis=-1)[first] == pytest.approx(1)


def lora(seed: int, i: int, o: int, r: int) -> LoRALinear:
    """With two adapters, of which the second is active."""
    layer = LoRALinear(Linear(i, o, rng=seed, dtype=np.float64), r + 1, rng=seed)
    layer.adapters["second"] = LoRA(
        layer.base_layer, LoraConfig(r=r, lora_alpha=1.5 * r), np.random.default_rng(0), "", {}
    )
    layer.active_adapter = "second"
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = normal(seed + number, *parameter.shape)
    return layer


def trained(seed: int, i: int, o: int, r: int, *leading: int) -> LoRALinear:
    """…after a backward."""
    layer = lora(seed, i, o, r)
    y, backward = layer(normal(seed + 10, *leading, i))
    backward(normal(seed + 11, *y.shape))
    return layer


@given(st.sampled_from([(1,), (3,), (40,), (2, 3)]), sizes, sizes, sizes, seeds)
def test_lora_a_and_b_balance_in_each_pair_of_ranks(leading: Any, i: int, o: int, r: int, seed: int) -> None:
    layer = trained(seed, i, o, r, *leading)
    [(name, terms)] = layer.identities({}, {})
    assert name == "Bᵀ dB = dA Aᵀ" and terms.shape == (r, r, o + i)
    scale = np.abs(terms).sum(axis=-1).max()  # of (2) and (3) each sum runs over n rows
    assert (np.abs(terms.sum(axis=-1)) <= 2**10 * U * scale).all()


def test_lora_errors_that_cancel_across_ranks_do_not_hide() -> None:
    layer = trained(0, 5, 4, 3, 6)
    A: Any = layer.get_parameter("lora_A.second.weight")
    # dA + E with E Aᵀ = C, where C sums to zero and is zero nowhere.
    C = np.array([[1.0, -2, 1], [2, 1, -3], [-3, 1, 2]])
    A.grad += C @ np.linalg.pinv(A.data).T
    [(_, terms)] = layer.identities({}, {})
    np.testing.assert_allclose(terms.sum(axis=-1), -C, rtol=0, atol=1e-11)
    assert abs(terms.sum()) < 1e-11


def test_lora_is_silent_where_its_adapter_has_no_gradient() -> None:
    assert not list(lora(0, 5, 4, 3).identities({}, {}))  # before any backward
    for part in ("lora_A", "lora_B"):
        layer = trained(0, 5, 4, 3, 6)
        layer.get_parameter(f"{part}.second.weight").grad = None
        assert not list(layer.identities({}, {}))
    layer = trained(0, 5, 4, 3, 6)
    assert len(list(layer.identities({}, {}))) == 1
    layer.active_adapter = "default"  # the gradients are the other's
    assert not list(layer.identities({}, {}))
    layer.active_adapter = None
    assert not list(layer.identities({}, {}))


def test_lora_is_silent_where_its_adapter_does_not_take_part() -> None:
    layer = trained(0, 5, 4, 3, 6)
    layer.disable_adapters = True
    assert not list(layer.identities({}, {}))
    layer.disable_adapters = False
    layer.merge()
    assert not list(layer.identities({}, {}))
    layer.unmerge()
    assert len(list(layer.identities({}, {}))) == 1


@given(st.sampled_from(LEADING), st.integers(2, 6), seeds)
def test_rows_that_sum_to_zero_are_declared_row_by_row(leading: Any, d: int, seed: int) -> None:
    x = normal(seed, *leading, d)
    dy = normal(seed + 1, *leading, d)
    norm = LayerNorm(d, dtype=np.float64)
    functions: list[tuple[Any, Any, str]] = [
        (F.softmax, F.softmax(x), "x"),
        (F.log_softmax, F.log_softmax(x), "x"),
        (F.normalize, F.normalize(x, 1e-3), "x"),
        (norm, norm(x), "x"),
    ]
    if len(leading) == 1:
        targets = np.zeros(leading, int)
        functions.append((F.cross_entropy, F.cross_entropy(x, targets), "logits"))
    for function, (y, backward), name in functions:
        dx = backward(dy[..., 0].sum() if np.ndim(y) == 0 else dy)
        [(_, terms)] = function.identities({name: x}, {name: dx})
        assert terms.shape == x.shape
        # The terms cancel where dy hardly matters (d = 2): their rounding is that of dy times the slopes, at most 32,
        # but of the norm, whose eps is 1e-5, at most 1/√eps.
        slope = norm.eps**-0.5 if function is norm else 32
        assert (np.abs(terms.sum(axis=-1)) <= 2**8 * U * (1 + np.abs(dy).max()) * slope).all()
    assert not list(norm.identities({}, {}))
