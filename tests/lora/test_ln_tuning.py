"""LN tuning: a norm with a scale and a shift of its own, on each kind of norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LNTuningConfig, LoraConfig, PeftModel, TrainingArguments, get_peft_model, gradcheck
from npora.lora.inject import adapted_layer
from npora.nn import CentredRMSNorm, LayerNorm, Linear, Module, RMSNorm
from npora.train.optimizer import make_optimizer
from tests.tiny import tiny_bert

KINDS = [LayerNorm, RMSNorm, CentredRMSNorm]
CONFIG = LNTuningConfig(target_modules=["LayerNorm"], task_type="SEQ_CLS")
IDS: dict[str, Any] = {"input_ids": np.array([[3, 4, 9]])}


def layer_of(kind: Any) -> Any:
    base = kind(6, 0.1, dtype=np.float64)
    rng = np.random.default_rng(0)
    for parameter in base.parameters():
        parameter.data = rng.standard_normal(parameter.shape)
    return adapted_layer(base, LNTuningConfig(), rng, "dense")


def moved(model: Any) -> Any:
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + rng.standard_normal(parameter.shape).astype(parameter.dtype)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_norm_with_a_scale_and_shift_of_its_own(kind: Any) -> None:
    layer, x = layer_of(kind), np.random.default_rng(2).standard_normal((2, 3, 6))
    assert layer(x)[0].tobytes() == layer.base_layer(x)[0].tobytes()
    before = [p.data.tobytes() for p in layer.base_layer.parameters()]
    moved(layer)
    gamma, *beta = layer.adapters["default"].theta
    assert (gamma != layer.base_layer.weight.data).all() and len(beta) == (kind is LayerNorm)
    centred = x - x.mean(axis=-1, keepdims=True) if kind is LayerNorm else x
    xhat = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 0.1)
    expected = (gamma + (kind is CentredRMSNorm)) * xhat + (beta[0] if beta else 0)
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-13)
    report = gradcheck(layer, x)
    assert report.ok, report
    dy = np.random.default_rng(3).standard_normal(x.shape)
    layer.zero_grad()
    layer(x)[1](dy)
    found = [p.grad for p in layer.adapters["default"].parameters()]
    for gradient, wanted in zip(found, [(dy * xhat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))], strict=False):
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-13)
    layer.merge()
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-13)
    layer.unmerge()
    assert [p.data.tobytes() for p in layer.base_layer.parameters()] == before


@pytest.mark.parametrize("bias", [True, False])
def test_what_a_merged_norm_was_has_no_gradient_and_what_it_is_has_all_of_it(bias: bool) -> None:
    adapter = layer_of(LayerNorm if bias else RMSNorm).adapters["default"]
    W, b, dW, db = np.random.default_rng(0).standard_normal((4, 6))
    changed, c, backward = adapter.merged(W, b if bias else None, *adapter.theta)
    assert changed is adapter.gamma.data and c is (adapter.beta.data if bias else None)
    of_W, of_b, *dtheta = backward(dW, db if bias else None)
    assert not of_W.any() and (of_b is None or not of_b.any())
    assert [x.tolist() for x in dtheta] == ([dW.tolist(), db.tolist()] if bias else [dW.tolist()])


def test_an_adapter_is_switched_merged_saved_and_loaded_beside_one_of_lora(tmp_path: Path) -> None:
    base = tiny_bert()
    plain = base(**IDS)[0].logits
    model = get_peft_model(base, CONFIG)
    assert model(**IDS)[0].logits.tobytes() == plain.tobytes()
    y = moved(model)(**IDS)[0].logits
    assert not np.allclose(y, plain)
    model.add_adapter("second", LoraConfig(target_modules=["query"]))
    model.set_adapter("second")
    model.set_adapter("default")
    with model.disable_adapter():
        assert model(**IDS)[0].logits.tobytes() == plain.tobytes()
    model.merge_adapter()
    assert model(**IDS)[0].logits.tobytes() == y.tobytes()
    model.unmerge_adapter()
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    assert PeftModel.from_pretrained(tiny_bert(), tmp_path)(**IDS)[0].logits.tobytes() == y.tobytes()
    assert model.merge_and_unload()(**IDS)[0].logits.tobytes() == y.tobytes()


def test_two_on_one_norm_are_not_merged_and_nothing_is_changed() -> None:
    model = get_peft_model(tiny_bert(), CONFIG)
    model.add_adapter("second", CONFIG)
    with pytest.raises(ValueError, match="'default' replaces what it is on, and cannot be there with others"):
        model.merge_adapter(["default", "second"])
    _, layer = model.lora_layers()[0]
    layer.active_adapters = ["default", "second"]
    with pytest.raises(ValueError, match="'default' replaces what it is on, and cannot be there with others"):
        layer(np.zeros((1, layer.base_layer.in_features), np.float32))
    layer.active_adapters = ["default"]
    model.merge_adapter(["second"])


def test_the_adapters_scales_decay_as_little_as_the_norms() -> None:
    class Holder(Module):
        def __init__(self) -> None:
            self.ln_1, self.dense = LayerNorm(4), Linear(4, 4)

    model = get_peft_model(Holder(), LNTuningConfig(target_modules=["ln_1"], modules_to_save=["dense"]))
    groups = make_optimizer(model, TrainingArguments("out", weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (3, 0.0)]


def test_what_is_no_norm_is_refused_and_so_is_a_model_without_a_default() -> None:
    with pytest.raises(ValueError, match=r"a Linear; .* goes on LayerNorm or RMSNorm modules"):
        get_peft_model(tiny_bert(), LNTuningConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="no default for a model of the type 'bert': name its norms"):
        get_peft_model(tiny_bert(), LNTuningConfig())
    with pytest.raises(ValueError, match="a LayerNorm; an adapter of a LoraConfig goes on Linear, Conv1D or Embedding"):
        get_peft_model(tiny_bert(), LoraConfig(target_modules=["LayerNorm"]))
