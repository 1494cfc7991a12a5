"""What a method states of itself: the identities that its gradients keep, and the numbers that they may lack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.lora.cases import METHODS, Method, adapted, adapter_of_layer

OF_A_PRODUCT = ["Bᵀ dB = dA Aᵀ"]
ONE_SUM = "W₁ ⊙ dW₁ and W₂ ⊙ dW₂ have one sum"
IDENTITIES = {
    "LoRA": OF_A_PRODUCT, "StartedLoRA": OF_A_PRODUCT, "BiasedLoRA": OF_A_PRODUCT, "DoRA": OF_A_PRODUCT,
    "DoRANorm": OF_A_PRODUCT, "HiRA": OF_A_PRODUCT, "VeRA": ["bᵀ db = dᵀ dd"], "HRA": ["u·du = 0"],
    "AdaLoRA": ["E ⊙ dE = Σ B ⊙ dB", "E ⊙ dE = Σ A ⊙ dA"],
    "LoHa": ["W1aᵀ dW1a = dW1b W1bᵀ", "W2aᵀ dW2a = dW2b W2bᵀ", "rows of W1a ⊙ dW1a = rows of W2a ⊙ dW2a",
             "columns of W1b ⊙ dW1b = columns of W2b ⊙ dW2b"],
    "lokr_linear": [ONE_SUM, ONE_SUM, "W₂aᵀ dW₂a = dW₂b W₂bᵀ"],
    "lokr_linear, of whole matrices": [ONE_SUM],
    "lokr_linear, of products": [ONE_SUM, ONE_SUM, ONE_SUM, "W₁aᵀ dW₁a = dW₁b W₁bᵀ", "W₂aᵀ dW₂a = dW₂b W₂bᵀ"],
    "FourierFT": ["dc at (p, q) and (o − p, i − q)"], "ia3_feedforward": ["l ⊙ dl = Σₙ xₙ ⊙ dxₙ"],
}  # fmt: skip
SUMS = {  # how many each is of: a rank's, an input's, an output's
    "E ⊙ dE = Σ B ⊙ dB": 3, "E ⊙ dE = Σ A ⊙ dA": 3, "rows of W1a ⊙ dW1a = rows of W2a ⊙ dW2a": 10,
    "columns of W1b ⊙ dW1b = columns of W2b ⊙ dW2b": 9, "l ⊙ dl = Σₙ xₙ ⊙ dxₙ": 9, "u·du = 0": 4,
}  # fmt: skip
FACTORS = {
    "lora_linear": {"α/r": 7 / 3, "r": 3}, "rslora_linear": {"α/r": 5 / 2**0.5, "r": 2},
    "adalora_linear": {"α/R": 7 / 3.00001, "R": 3}, "loha_linear": {"α/r": 5 / 2, "r": 2},
    "lokr_linear": {"α/r": 3, "r": 1}, "fourierft_linear": {"scaling": 11}, "vera_linear": {},
}  # fmt: skip


@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name)
def test_each_identity_is_stated_and_holds(case: Method) -> None:
    layer = adapted(case, 9, 10)
    adapter, rng = adapter_of_layer(layer), np.random.default_rng(1)
    x = rng.standard_normal((3, 9))
    y, backward = layer(x)
    assert not list(adapter.identities({"x": x}, {}))  # of gradients that are not there
    gradients = {"x": backward(rng.standard_normal(y.shape))}
    found = list(adapter.identities({"x": x}, gradients))
    assert [name for name, _ in found] == IDENTITIES.get(case.name, IDENTITIES.get(type(adapter).__name__, []))
    for name, terms in found:
        assert are_zero(terms) and abs(terms).sum(axis=-1).all(), name
        assert terms[..., 0].size == SUMS.get(name, terms[..., 0].size)


@pytest.mark.parametrize("name", ["lora", "adalora", "vera", "hra", "loha", "lokr"])
def test_no_gradient_is_wrong_and_keeps_them_all(name: str) -> None:
    for case in METHODS:
        if case.name.startswith(f"{name}_linear"):
            layer, rng = adapted(case, 9, 10), np.random.default_rng(1)
            adapter, x = adapter_of_layer(layer), rng.standard_normal((3, 9))
            y, backward = layer(x)
            backward(rng.standard_normal(y.shape))
            for parameter in adapter.parameters():
                if parameter.requires_grad:
                    right, parameter.grad = parameter.grad, rng.standard_normal(parameter.shape)
                    assert not all(are_zero(terms) for _, terms in adapter.identities({}, {}))
                    parameter.grad = right


def are_zero(terms: Any) -> bool:
    """The sums of these terms are, to rounding."""
    return bool((abs(terms.sum(axis=-1)) <= 1e-12 * abs(terms).sum(axis=-1)).all())


@pytest.mark.parametrize("case", [case for case in METHODS if case.name in FACTORS], ids=lambda case: case.name)
def test_a_difference_is_told_by_these_numbers(case: Method) -> None:
    assert adapter_of_layer(adapted(case, 9, 10)).factors() == pytest.approx(FACTORS[case.name], rel=1e-14)
