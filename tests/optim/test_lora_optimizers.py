"""LoRA+ and LoRA-FA: which rate is whose, the gradient of B by least squares, and what a frozen A spares."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, get_peft_model
from npora.lora import LoRALinear
from npora.nn import Linear, Parameter
from npora.optim import SGD, AdamW, LoraFAOptimizer, create_lorafa_optimizer, create_loraplus_optimizer
from tests.tiny import tiny_bert

BATCH: dict[str, Any] = {"input_ids": np.array([[3, 4, 9], [5, 1, 2]]), "labels": np.array([0, 1])}


def model_of(**fields: Any) -> Any:
    config = {"r": 2, "lora_alpha": 6, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
    return get_peft_model(tiny_bert(), LoraConfig(**{**config, **fields}))


def test_b_takes_steps_that_are_so_many_times_as_large() -> None:
    model = model_of(init_lora_weights=False, use_dora=True)
    optimizer = create_loraplus_optimizer(model, SGD, lr=0.01, loraplus_lr_ratio=16, loraplus_weight_decay=0.5)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    model(**BATCH)[1]()
    optimizer.step()
    seen = set()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert (p.data == before[name]).all()
            continue
        kind = "B" if "lora_B" in name else "bias" if "bias" in name else "m" if "magnitude" in name else "other"
        seen.add(kind)
        rate, decay = (0.01 if kind == "other" else 0.16), (0.0 if kind == "bias" else 0.5)
        expected = before[name] - rate * (p.grad + decay * before[name])
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=1e-6)
    assert seen == {"B", "bias", "m", "other"}


def test_a_ratio_below_one_is_refused() -> None:
    for ratio in (0.5, float("nan")):
        with pytest.raises(ValueError, match="that of B is, at least 1; got"):
            create_loraplus_optimizer(model_of(), AdamW, lr=0.1, loraplus_lr_ratio=ratio)


def test_a_ratio_for_a_model_without_b_is_refused() -> None:
    with pytest.raises(ValueError, match="this model trains no lora_B: leave it out, or train LoRA, DoRA or AdaLoRA"):
        create_loraplus_optimizer(get_peft_model(tiny_bert(), HiraConfig(r=1)), SGD, lr=0.1, loraplus_lr_ratio=4)


@pytest.mark.parametrize("use_rslora", [False, True])
def test_the_gradient_of_b_is_the_one_that_moves_w_nearest_to_its_own_gradient(use_rslora: bool) -> None:
    layer = LoRALinear(
        Linear(7, 5, rng=1, dtype=np.float64), 3, 6, use_rslora=use_rslora, init_lora_weights=False, rng=2
    )
    optimizer = create_lorafa_optimizer(layer, 3, 6, lr=0.1)
    A, B = (getattr(layer, f"lora_{name}")["default"].weight for name in "AB")
    s, start, frozen = layer.adapters["default"].s, B.data.copy(), A.data.copy()
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((9, 7)), rng.standard_normal((9, 5))
    layer(x)[1](dy)
    assert A.grad is None
    optimizer.step()
    G = dy.T @ x
    g = np.linalg.lstsq((s * A.data).T, G.T, rcond=None)[0].T  # min ‖s g A − G‖
    m = optimizer.state[0]["exp_avg"] / 0.1
    np.testing.assert_allclose(m, g, rtol=1e-6)
    np.testing.assert_allclose(start - B.data, 0.1 * g / (abs(g) + 1e-6 / np.sqrt(0.001)), rtol=1e-6)
    assert (A.data == frozen).all()


@pytest.mark.parametrize("correct_bias", [True, False])
def test_each_step_of_lora_fa_is_its_formula(correct_bias: bool) -> None:
    rng = np.random.default_rng(0)
    # A so small that what is added to A Aᵀ counts.
    A, B, w = (
        Parameter(1e-4 * rng.standard_normal((2, 7))),
        Parameter(rng.standard_normal((5, 2))),
        Parameter(np.ones(3)),
    )
    optimizer = LoraFAOptimizer(
        [{"params": [B], "A": A, "scaling": 1.5}, {"params": [w]}], 0.1, (0.7, 0.8), 0.01, 0.3, correct_bias
    )
    inverse = np.linalg.inv(A.data @ A.data.T + 1e-8 * np.eye(2))
    expected = {parameter: [parameter.data.copy(), 0.0, 0.0] for parameter in (B, w)}
    for t in (1, 2, 3):
        for parameter, (theta, m, v) in expected.items():
            parameter.grad = rng.standard_normal(parameter.shape)
            g = parameter.grad @ inverse / 1.5**2 if parameter is B else parameter.grad
            m, v = 0.7 * m + 0.3 * g, 0.8 * v + 0.2 * g**2
            rate = 0.1 * (np.sqrt(1 - 0.8**t) / (1 - 0.7**t) if correct_bias else 1)
            expected[parameter] = [(theta - rate * m / (np.sqrt(v) + 0.01)) * (1 - 0.1 * 0.3), m, v]
        optimizer.step()
        for parameter, (theta, _, _) in expected.items():
            np.testing.assert_allclose(parameter.data, theta, rtol=1e-8)


def test_a_step_of_lora_fa_to_the_last_digits() -> None:
    """With an ε that leaves the step its size: Adam's own hides whatever multiplies a gradient."""
    rng = np.random.default_rng(0)
    A, B = Parameter(rng.standard_normal((2, 7))), Parameter(rng.standard_normal((5, 2)))
    optimizer = LoraFAOptimizer([{"params": [B], "A": A, "scaling": 1.5}], 0.1, eps=10.0, correct_bias=False)
    B.grad, start = rng.standard_normal((5, 2)), B.data.copy()
    g = np.linalg.solve((A.data @ A.data.T + 1e-8 * np.eye(2)) * 1.5**2, B.grad.T).T
    optimizer.step()
    np.testing.assert_allclose(start - B.data, 0.1 * 0.1 * g / (np.sqrt(0.001 * g * g) + 10), rtol=1e-10)


def test_a_frozen_a_spares_the_layers_input() -> None:
    """2,048 rows of 1,024 numbers are no longer kept, and 8 of each are."""
    n, i, r = 2048, 1024, 8
    kept = []
    for is_fa in (False, True):
        layer = LoRALinear(Linear(i, 64, rng=1), r, rng=2)
        if is_fa:
            create_lorafa_optimizer(layer, r, 8, lr=0.1)
        gc.collect()
        tracemalloc.start()
        y, backward = layer(np.random.default_rng(0).standard_normal((n, i)).astype(np.float32))
        gc.collect()
        kept.append(tracemalloc.get_traced_memory()[0] - y.nbytes)
        tracemalloc.stop()
        backward(y)
    assert kept[0] > n * i * 4 and n * r * 4 < kept[1] < 1.5 * n * r * 4


def test_the_decay_of_lora_fa_is_of_the_rate_that_is_given_and_not_of_the_corrected_one() -> None:
    optimizer = create_lorafa_optimizer(model := model_of(init_lora_weights=False), 2, 6, lr=0.1, weight_decay=0.5)
    B = model.get_parameter("base_model.model.bert.encoder.layer.0.attention.self.query.lora_B.default.weight")
    before, B.grad = B.data.copy(), np.zeros_like(B.data)
    optimizer.step()
    np.testing.assert_allclose(B.data, before * (1 - 0.1 * 0.5), rtol=1e-6)


def test_heads_learn_beside_b_and_the_state_is_saved_without_the_model() -> None:
    models = [model_of(), model_of()]
    optimizers = [create_lorafa_optimizer(model, 2, 6, lr=0.01, weight_decay=0.1) for model in models]
    for _ in range(2):
        models[0](**BATCH)[1]()
        optimizers[0].step()
        optimizers[0].zero_grad()
    saved = optimizers[0].state_dict()
    assert all("A" not in group for group in saved["param_groups"])
    optimizers[1].load_state_dict(saved)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        second.data = first.data.copy()
    for model, optimizer in zip(models, optimizers, strict=True):
        model(**BATCH)[1]()
        optimizer.step()
    assert all((a.data == b.data).all() for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    fresh = model_of()
    head = [name for name, p in models[0].named_parameters() if p.requires_grad and "classifier" in name]
    assert len(head) == 2
    for name in head:
        assert (models[0].get_parameter(name).data != fresh.get_parameter(name).data).any()


def test_of_layers_alone_there_is_no_group_of_others() -> None:
    optimizer = create_lorafa_optimizer(model_of(task_type=None), 2, 6, lr=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1] * 4


def test_the_tables_of_an_embedding_have_a_rate_of_their_own() -> None:
    model = model_of(target_modules=["word_embeddings", "query"])
    groups = create_loraplus_optimizer(model, SGD, lr=0.01, loraplus_lr_ratio=16, loraplus_lr_embedding=1e-5)
    rates = {id(p): group["lr"] for group in groups.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters() if "lora_embedding_" in name}
    assert set(found.values()) == {1e-5} and len(found) == 2


def test_the_scale_of_an_adapter_that_is_not_active_is_none_of_the_models() -> None:
    model = model_of()
    model.add_adapter("other", LoraConfig(r=2, lora_alpha=10, target_modules=["query"]))
    with pytest.raises(ValueError, match=r"the scales of this model's LoRA layers are \[3.0\]"):
        create_lorafa_optimizer(model, 2, 10, lr=0.1)


@pytest.mark.parametrize("options", [{"r": 5, "lora_alpha": 6}, {"r": 2, "lora_alpha": 6, "use_rslora": True}])
def test_another_scale_than_the_models_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the scales of this model's LoRA layers are \[3.0\]"):
        create_lorafa_optimizer(model_of(), **options, lr=0.1)
    with pytest.raises(ValueError, match="layers are none"):
        create_lorafa_optimizer(tiny_bert(), 2, 6, lr=0.1)
    with pytest.raises(ValueError, match="r is the rank of the model's LoRA, at least 1; got 0"):
        create_lorafa_optimizer(model_of(), 0, 6, lr=0.1)


def test_one_layer_of_the_configs_scale_is_enough() -> None:
    for scale in (1.5, 3.0, 6.0):  # of r=4 and of r=2 by rank_pattern, and of alpha_pattern
        model = model_of(rank_pattern={"0.attention.self.query": 4}, alpha_pattern={"1.attention.self.query": 12})
        assert create_lorafa_optimizer(model, 2, 2 * scale, 0.1).param_groups[0]["lr"] == 0.1
