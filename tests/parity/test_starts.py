"""The starts of LoRA against PEFT's: the same functions at first and in training, and files that PEFT reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from tests.parity.both import assert_same_logits, backward, moved
from tests.parity.reference import BATCH, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_gpt2_peft import pair
from tests.parity.test_peft import complete, peft

STARTS = ["pissa", "pissa_niter_20", "olora"]
RANKS: dict[str, Any] = {"rank_pattern": {"query": 2}, "alpha_pattern": {"value": 7}}


def adapted(model: Any) -> dict[str, Any]:
    """PEFT's layers by path."""
    return {name: m for name, m in model.named_modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, RANKS], ids=str)
def test_a_start_takes_from_w_what_peft_takes(tmp_path: Path, start: str, fields: dict[str, Any]) -> None:
    """PEFT decomposes in float32. Each matrix is orthogonal times random, so that its singular values lie apart."""
    base = reference_bert(tmp_path / "base")
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name.endswith(("query.weight", "value.weight")):
                U, S, V = torch.linalg.svd(parameter)
                parameter.copy_(U @ torch.diag(3 * 0.6 ** torch.arange(len(S))).double() @ V)
    base.save_pretrained(tmp_path / "base")
    config = complete({"init_lora_weights": start, "task_type": None, **fields})
    theirs = peft.get_peft_model(copy.deepcopy(base).float(), peft.LoraConfig(**config))
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**config))
    found = {name: layer for name, layer in ours.named_modules() if hasattr(layer, "base_layer")}
    assert found.keys() == adapted(theirs).keys() and len(found) == 4
    for name, layer in adapted(theirs).items():
        A, B = (getattr(layer, f"lora_{part}")["default"].weight.detach().double().numpy() for part in "AB")
        own_A, own_B = (getattr(found[name], f"lora_{part}")["default"].weight.data for part in "AB")
        assert own_A.shape == A.shape and own_B.shape == B.shape
        np.testing.assert_allclose(own_B @ own_A, B @ A, rtol=0, atol=2e-6)
        np.testing.assert_allclose(abs(own_A), abs(A), rtol=0, atol=2e-5)  # up to the signs of vectors
        np.testing.assert_allclose(abs(own_B), abs(B), rtol=0, atol=2e-5)
    assert_close(ours(**BATCH)[0].logits, base(**tensors(BATCH)).logits, 1e-12)


@pytest.mark.parametrize("start", STARTS)
def test_outputs_and_gradients_are_those_of_pefts_layer(tmp_path: Path, start: str) -> None:
    """In float64: PEFT's W − s B₀ A₀ is formed again of the A₀ and B₀ that npora begins with."""
    base = reference_bert(tmp_path / "base")
    config = complete({"init_lora_weights": start, **RANKS})
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**config))
    theirs = peft.get_peft_model(base, peft.LoraConfig(**{**config, "init_lora_weights": True}))
    values = dict(ours.named_parameters())
    with torch.no_grad():
        for name, layer in adapted(theirs).items():
            A, B = (torch.tensor(values[f"{name}.lora_{part}0.default.weight"].data) for part in "AB")
            layer.base_layer.weight -= layer.scaling["default"] * B @ A
        moved(ours)
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.tensor(np.array(dict(ours.named_parameters())[name].data)))
    assert_same_logits(ours, theirs.eval())
    backward(ours, theirs)
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert_close(values[name].grad, parameter.grad, 1e-10)
            compared += 1
    assert compared == 10


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, {**RANKS, "use_rslora": True}, RANKS], ids=str)
def test_the_file_of_a_start_is_plain_lora_to_peft(tmp_path: Path, start: str, fields: dict[str, Any]) -> None:
    base = reference_bert(tmp_path / "base")
    config = complete({"init_lora_weights": start, **fields})
    ours = moved(get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**config)))
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_same_logits(ours, theirs)
    assert_same_logits(ours.merge_and_unload(), theirs.merge_and_unload())


@pytest.mark.parametrize("start", STARTS)
def test_on_a_conv1d_it_is_plain_lora_to_peft_too(tmp_path: Path, start: str) -> None:
    theirs, base = pair(tmp_path / "base", "SEQ_CLS")
    config = {"r": 2, "lora_alpha": 3, "target_modules": ["c_attn", "mlp.c_proj"], "init_lora_weights": start}
    before = np.array(base(input_ids=np.array([[3, 4, 9]]))[0].logits)
    ours = get_peft_model(base, LoraConfig(**config, task_type="SEQ_CLS"))
    assert np.array_equal(ours(input_ids=np.array([[3, 4, 9]]))[0].logits, before)
    moved(ours).save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    batch = {"input_ids": np.array([[3, 4, 9]])}
    assert_close(ours(**batch)[0].logits, loaded(**tensors(batch)).logits, 1e-11)


def test_the_orthogonal_start_is_drawn_as_peft_draws_it() -> None:
    from npora.lora import LoRALinear
    from npora.nn import Linear

    torch.manual_seed(0)
    holder = torch.nn.Sequential(torch.nn.Linear(500, 300))
    config = peft.LoraConfig(r=6, init_lora_weights="orthogonal", target_modules=["0"])
    theirs = peft.get_peft_model(holder, config).base_model.model[0]
    ours = LoRALinear(Linear(500, 300), 6, init_lora_weights="orthogonal", rng=1)
    for part in "AB":
        found, expected = (
            getattr(ours, f"lora_{part}")["default"].weight.data,
            getattr(theirs, f"lora_{part}")["default"],
        )
        expected = expected.weight.detach().numpy()
        assert found.shape == expected.shape and abs(found.std() / expected.std() - 1) < 0.06
        assert np.linalg.matrix_rank(found) == np.linalg.matrix_rank(expected) == 3
