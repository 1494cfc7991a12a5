"""What LoRA's algebra guarantees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import LoraConfig, get_peft_model
from npora.lora import LoRAAttention, LoRALinear
from npora.nn import Linear, MultiHeadAttention
from npora.nn.module import Array
from tests.properties.strategies import normal, seeds, sizes, whole
from tests.tiny import tiny_bert, tiny_peft

IDS, MASK = np.array([[3, 5, 7, 2], [4, 6, 0, 0]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
ROWS = st.sampled_from([1, 2, 40])  # few rows take the thin products, many form W + s B A


def layer_of(values: Any, seed: int, i: int, o: int, r: int, s: float = 2.0, dtype: Any = np.float32) -> LoRALinear:
    """A LoRALinear whose numbers all come from `values`, with lora_alpha = s r."""
    layer = LoRALinear(Linear(i, o, dtype=dtype), r, s * r)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = values(seed + number, *parameter.shape).astype(dtype)
    return layer


def parts(layer: LoRALinear) -> tuple[Array, Array, Array, Array, float]:
    base, name = layer.base_layer, "default"
    assert base.bias is not None
    return (base.weight.data, base.bias.data, layer.lora_A[name].weight.data, layer.lora_B[name].weight.data,
            layer.adapters[name].s)  # fmt: skip


def gamma(k: int, dtype: Any) -> float:
    """|fl(AB) − AB| ≤ γₖ |A||B| for sums of k products in any order, γₖ = k u/(1 − k u) (Higham, 2002)."""
    u = float(np.finfo(dtype).eps) / 2
    return k * u / (1 - k * u)


@given(ROWS, sizes, sizes, sizes, seeds)
def test_a_fresh_adapter_leaves_the_layers_bits_alone(n: int, i: int, o: int, r: int, seed: int) -> None:
    base = Linear(i, o, rng=seed)
    x = normal(seed, n, i).astype(np.float32)
    expected = base(x)[0].tobytes()
    assert LoRALinear(base, r, rng=seed)(x)[0].tobytes() == expected


@given(seeds)
def test_a_fresh_adapter_leaves_a_models_and_an_attentions_bits_alone(seed: int) -> None:
    expected = tiny_bert(seed=seed)(IDS, MASK)[0].logits.tobytes()
    model = tiny_peft(seed=seed, target_modules="all-linear")
    assert model(IDS, MASK)[0].logits.tobytes() == expected
    x = normal(seed, 2, 3, 6).astype(np.float32)
    assert LoRAAttention(6, 2, rng=seed)(x)[0].tobytes() == MultiHeadAttention(6, 2, rng=seed)(x)[0].tobytes()


@given(ROWS, sizes, sizes, sizes, seeds, st.sampled_from([0.25, 1.0, 2.0]))
def test_on_whole_numbers_merged_and_unmerged_agree_bit_for_bit(
    n: int, i: int, o: int, r: int, seed: int, s: float
) -> None:
    layer = layer_of(whole, seed, i, o, r, s)
    x, dy = whole(seed + 10, n, i), whole(seed + 11, n, o)
    W, b, A, B, s = parts(layer)
    y, backward = layer(x)
    dx = backward(dy)
    assert (y == x @ (W + s * (B @ A)).T + b).all() and (dx == dy @ (W + s * (B @ A))).all()
    layer.requires_grad_(False)
    layer.merge()
    merged, merged_backward = layer(x)
    assert (merged == y).all() and (merged_backward(dy) == dx).all()


@given(ROWS, sizes, sizes, sizes, seeds, st.sampled_from([np.float32, np.float64]))
def test_merged_and_unmerged_agree_within_the_bound_of_their_roundings(
    n: int, i: int, o: int, r: int, seed: int, dtype: Any
) -> None:
    layer = layer_of(normal, seed, i, o, r, dtype=dtype)
    x = normal(seed + 10, n, i).astype(dtype)
    W, b, A, B, s = parts(layer)
    before = layer(x)[0]
    layer.merge()
    merged = layer(x)[0]
    bound = 2 * gamma(i + r + 4, dtype) * (abs(x) @ (abs(W) + s * (abs(B) @ abs(A))).T + abs(b))
    assert (abs(merged - before) <= bound).all()
    layer.unmerge()
    assert layer(x)[0].tobytes() == before.tobytes()


@given(ROWS, sizes, sizes, sizes, seeds)
def test_the_gradients_are_those_of_the_full_weight_through_the_chain_rule(
    n: int, i: int, o: int, r: int, seed: int
) -> None:
    """dB = s dW Aᵀ and dA = s Bᵀ dW, with dW of a Linear that is not frozen; on whole numbers bit for bit."""
    layer = layer_of(whole, seed, i, o, r)
    x, dy = whole(seed + 10, n, i), whole(seed + 11, n, o)
    layer(x)[1](dy)
    full = Linear(i, o)
    full(x)[1](dy)
    _, _, A, B, s = parts(layer)
    dW: Any = full.weight.grad
    dA, dB = layer.get_parameter("lora_A.default.weight").grad, layer.get_parameter("lora_B.default.weight").grad
    assert (dB == s * (dW @ A.T)).all() and (dA == s * (B.T @ dW)).all()
    assert (B.T @ dB == dA @ A.T).all()  # the loss cannot see A → M A, B → B M⁻¹


@given(ROWS, sizes, sizes, sizes, seeds)
def test_the_loss_cannot_see_a_change_of_basis_between_a_and_b(n: int, i: int, o: int, r: int, seed: int) -> None:
    layer = layer_of(normal, seed, i, o, r, dtype=np.float64)
    x, dy = normal(seed + 10, n, i), normal(seed + 11, n, o)
    y, backward = layer(x)
    backward(dy)
    _, _, A, B, s = parts(layer)
    dA, dB = layer.get_parameter("lora_A.default.weight").grad, layer.get_parameter("lora_B.default.weight").grad
    bound = 2 * gamma(n + i + o + r + 4, np.float64) * s * (abs(B).T @ abs(dy).T @ abs(x) @ abs(A).T)
    assert (abs(B.T @ dB - dA @ A.T) <= bound).all()
    layer.get_parameter("lora_A.default.weight").data, layer.get_parameter("lora_B.default.weight").data = 4 * A, B / 4
    assert layer(x)[0].tobytes() == y.tobytes()  # powers of two: nothing rounds differently


@given(sizes, sizes, sizes, seeds)
def test_the_update_has_at_most_rank_r(i: int, o: int, r: int, seed: int) -> None:
    layer = layer_of(normal, seed, i, o, r, dtype=np.float64)
    assert np.linalg.matrix_rank(layer.get_delta_weight("default")) <= min(r, i, o)


@given(st.sampled_from(["none", "all", "lora_only"]), seeds)
def test_a_disabled_adapter_is_the_base_bit_for_bit_and_comes_back(bias: str, seed: int) -> None:
    expected = tiny_bert()(IDS, MASK)[0].logits.tobytes()
    model = tiny_peft(bias=bias, modules_to_save=["pooler"])
    for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
        parameter.data = normal(seed + number, *parameter.shape).astype(np.float32)
    adapted = model(IDS, MASK)[0].logits.tobytes()
    with model.disable_adapter():
        assert model(IDS, MASK)[0].logits.tobytes() == expected
    assert model(IDS, MASK)[0].logits.tobytes() == adapted != expected
    assert model.unload()(IDS, MASK)[0].logits.tobytes() == expected


def test_initial_values_come_from_the_seed_and_the_path_alone() -> None:
    def values(seed: int, targets: list[str]) -> dict[str, bytes]:
        model = get_peft_model(tiny_bert(), LoraConfig(target_modules=targets), seed=seed)
        return {name: p.data.tobytes() for name, p in model.named_parameters() if "lora_A" in name}

    alone, both = values(1, ["query"]), values(1, ["value", "query"])
    assert alone.items() <= both.items() and len(set(both.values())) == len(both) == 4
    assert values(2, ["query"]) != alone == values(1, ["query"])


def test_two_adapters_share_a_base_and_one_of_them_counts() -> None:
    model = tiny_peft()
    model.add_adapter("second", LoraConfig(r=3, target_modules=["key"], task_type="SEQ_CLS"), seed=7)
    for number, parameter in enumerate(model.adapter_parameters("second").values()):
        parameter.data = normal(number, *parameter.shape).astype(np.float32)
    first = model(IDS, MASK)[0].logits.tobytes()
    model.set_adapter("second")
    second = model(IDS, MASK)[0].logits.tobytes()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert first != second and trained and all(".second." in name for name in trained)
    model.set_adapter("default")
    assert model(IDS, MASK)[0].logits.tobytes() == first
    model.delete_adapter("second")
    assert not [name for name, _ in model.named_parameters() if ".second." in name]
    assert model(IDS, MASK)[0].logits.tobytes() == first


def test_merging_twice_and_training_what_is_merged_are_errors() -> None:
    model = tiny_peft()
    before = model(IDS, MASK)[0].logits.tobytes()
    with pytest.raises(RuntimeError, match="no adapter is merged"):
        model.unmerge_adapter()
    model.merge_adapter()
    with pytest.raises(RuntimeError, match=r"merged already: call unmerge_adapter\(\) first"):
        model.merge_adapter()
    with pytest.raises(RuntimeError, match="cannot be trained"):
        model(IDS, MASK, labels=np.array([0, 1]))[1]()
    with pytest.raises(RuntimeError, match="is merged"):
        model.set_adapter("default")
    model.unmerge_adapter()
    assert model(IDS, MASK)[0].logits.tobytes() == before
    layer = model.lora_layers()[0][1]
    layer.get_parameter("lora_B.default.weight").data = np.full_like(
        layer.get_parameter("lora_B.default.weight").data, np.inf
    )
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="not finite: it was not merged"):
        layer.merge(safe_merge=True)
