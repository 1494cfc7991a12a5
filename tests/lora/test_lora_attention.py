"""LoRAAttention is frozen attention, some of whose projections have LoRA."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from npora.lora import LoRAAttention, LoRALinear
from npora.nn import MultiHeadAttention
from npora.nn.module import Array


def values(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


ATTENTION: list[dict[str, Any]] = [
    {},
    {"target_modules": ["k_proj", "out_proj"], "r": 3, "lora_alpha": 5, "use_rslora": True, "causal": True},
    {"r": 2, "lora_alpha": 3, "lora_dropout": 0.4, "kdim": 5, "bias": False},
    {"target_modules": ["out_proj", "v_proj", "k_proj", "q_proj"], "dropout": 0.3, "lora_dropout": 0.2, "r": 1},
]


@pytest.mark.parametrize("options", ATTENTION)
def test_attention_with_lora_is_frozen_attention_whose_projections_have_it(options: dict[str, Any]) -> None:
    layer = LoRAAttention(6, 3, **options, rng=4, dtype=np.float64)
    of_lora = {name: options[name] for name in ("r", "lora_alpha", "lora_dropout", "use_rslora") if name in options}
    rest = {name: value for name, value in options.items() if name not in (*of_lora, "target_modules")}
    plain: Any = MultiHeadAttention(6, 3, **rest, rng=4, dtype=np.float64).requires_grad_(False)
    targets = options.get("target_modules", ["q_proj", "v_proj"])
    for name in targets:
        setattr(plain, name, LoRALinear(getattr(plain, name), **of_lora))
    trained = {f"{name}.lora_{part}.default.weight" for name in targets for part in "AB"}
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == trained
    assert layer.state_dict().keys() == plain.state_dict().keys()
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = values(number, *parameter.shape)
    plain.load_state_dict(layer.state_dict())
    inputs = (values(1, 2, 4, 6), *([values(2, 2, 7, 5)] if "kdim" in options else []))
    dy, found = values(3, 2, 4, 6), []
    for attention in (layer, plain):
        y, backward = attention(*inputs, rng=np.random.default_rng(5))
        dx = backward(dy)
        gradients = {name: p.grad for name, p in attention.named_parameters() if p.grad is not None}
        assert gradients.keys() == trained
        found.append([y, *(dx if isinstance(dx, tuple) else (dx,)), *gradients.values(), attention(*inputs)[0]])
    for own, other in zip(*found, strict=True):
        assert own.any() and own.tobytes() == other.tobytes()


@pytest.mark.parametrize("options", ATTENTION)
def test_the_scale_of_attention_with_lora_is_alpha_over_r_or_its_root(options: dict[str, Any]) -> None:
    layer = LoRAAttention(6, 3, **options, rng=4, dtype=np.float64)
    r, alpha = options.get("r", 8), options.get("lora_alpha", 8)
    for name in options.get("target_modules", ["q_proj", "v_proj"]):
        projection: Any = getattr(layer, name)
        A, B = (getattr(projection, f"lora_{part}")["default"].weight for part in "AB")
        B.data = values(1, *B.shape)
        assert A.shape[0] == r and not np.isclose(r, math.sqrt(r)) == (r > 1)
        s = alpha / math.sqrt(r) if options.get("use_rslora") else alpha / r
        np.testing.assert_allclose(projection.get_delta_weight("default"), s * B.data @ A.data, rtol=1e-13)
