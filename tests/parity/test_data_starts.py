"""The starts made of data against PEFT's: the same factors, functions and gradients, and files both ways.

PEFT decomposes in float32, and EVA's and LoRA-GA's matrices by a randomised decomposition. Here it is let do so in
float64, and exactly; npora's randomised decomposition takes so many turns that it is exact too.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.lora import (
    CordaConfig,
    EvaConfig,
    LoraGAConfig,
    get_eva_state_dict,
    initialize_lora_eva_weights,
    preprocess_corda,
    preprocess_loraga,
)
from tests.parity.both import assert_same_logits, backward, moved
from tests.parity.reference import Wide, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.reference_gpt2 import reference_gpt2
from tests.parity.test_gpt2_peft import pair
from tests.parity.test_peft import complete, peft
from tests.parity.test_starts import adapted

if importlib.util.find_spec("attr") is None:  # which PEFT takes a dataclass from, and does not depend on
    sys.modules["attr"] = types.ModuleType("attr")
    vars(sys.modules["attr"])["dataclass"] = dataclasses.dataclass
    corda_of_peft = importlib.import_module("peft.tuners.lora.corda")
    del sys.modules["attr"]
else:
    corda_of_peft = importlib.import_module("peft.tuners.lora.corda")
RANKS: dict[str, Any] = {"rank_pattern": {"query": 2}, "alpha_pattern": {"value": 7}}
LAYERS = ["query", "value", "intermediate.dense"]


class Exact(Wide):
    """torch with float64 under the name of float32, and with exact decompositions under that of randomised ones."""

    @staticmethod
    def svd_lowrank(matrix: Any, q: int, niter: int) -> Any:
        U, S, V = torch.linalg.svd(matrix, full_matrices=False)
        return U[:, :q], S[:q], V[:q].T


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (peft.tuners.lora.eva, peft.utils.incremental_pca, peft.tuners.lora.layer, corda_of_peft):
        monkeypatch.setattr(module, "torch", Exact())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    for page in ("eva", "lora_ga"):
        monkeypatch.setattr(importlib.import_module(f"npora.lora.starts.{page}"), "_TURNS", 100)
    # PEFT's backward hook on a layer whose input needs no gradient; a config of another start, when it converts.
    torch.set_default_dtype(torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing|`corda_config` specified")
        yield
    torch.set_default_dtype(torch.float32)


def batches(number: int = 4, rows: int = 5, labels: bool = False, padded: bool = True) -> list[dict[str, Any]]:
    """Batches of which all but the first sequence are padded."""
    rng, found = np.random.default_rng(1), []
    for _ in range(number):
        mask = (
            np.arange(8)
            < (np.concatenate([[8], rng.integers(3, 8, rows - 1)]) if padded else np.full(rows, 8))[:, None]
        )
        batch: dict[str, Any] = {"input_ids": rng.integers(3, 50, (rows, 8)) * mask, "attention_mask": mask.astype(int)}
        if labels:
            batch["labels"] = rng.integers(0, 3, rows)
        found.append(batch)
    return found


def both_ways(tmp_path: Path, ours: Any, theirs: Any, base: Path) -> None:
    """The adapters begin alike, are alike once moved, and each is read by the other."""
    own = dict(ours.named_parameters())
    layers = adapted(theirs)
    assert {name.rpartition(".lora_A.")[0] for name in own if ".lora_A." in name} == layers.keys()
    signs_are_one = theirs.peft_config["default"].init_lora_weights != "lora_ga"  # where A and B have other vectors
    for name, layer in layers.items():
        A, B = (getattr(layer, f"lora_{part}")["default"].weight.detach() for part in "AB")
        found_A, found_B = (own[f"{name}.lora_{part}.default.weight"].data for part in "AB")
        signs = np.sign((found_A * A.numpy()).sum(axis=1))
        assert_close(signs[:, None] * found_A, A, 1e-9)
        assert_close(found_B * signs if signs_are_one else abs(found_B), B if signs_are_one else B.abs(), 1e-9)
        for part, value in () if signs_are_one else (("A", A), ("A0", A), ("B", B), ("B0", B)):
            own[f"{name}.lora_{part}.default.weight"].data = value.numpy().copy()
        assert layer.scaling["default"] == pytest.approx(
            dict(ours.named_modules())[name].adapters["default"].s, rel=1e-15
        )
    assert_same_logits(ours, theirs.eval(), 1e-9)
    theirs.save_pretrained(tmp_path / "initial")
    moved(ours)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.tensor(np.array(own[name].data)))
    assert_same_logits(ours, theirs, 1e-9)
    backward(ours, theirs)
    compared = 0
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert_close(own[name].grad, parameter.grad, 1e-9)
            compared += 1
    assert compared > 4
    ours.save_pretrained(tmp_path / "ours")
    kind = type(theirs.get_base_model())
    assert_same_logits(
        ours, peft.PeftModel.from_pretrained(kind.from_pretrained(base).double(), tmp_path / "ours").eval(), 1e-9
    )
    start = theirs.peft_config["default"].init_lora_weights
    conversion = {} if start == "eva" else {"path_initial_model_for_weight_conversion": str(tmp_path / "initial")}
    theirs.save_pretrained(tmp_path / "theirs", **conversion)
    fresh = type(ours.get_base_model()).from_pretrained(base, dtype=np.float64)
    assert_same_logits(PeftModel.from_pretrained(fresh, tmp_path / "theirs"), theirs, 1e-9)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, {}),
        ({"rho": 1.0}, RANKS),
        ({"rho": 3.0, "tau": 0.9, "adjust_scaling_factors": False}, {"use_rslora": True}),
        ({"whiten": True}, {"target_modules": ["key", "output.dense"]}),
    ],
    ids=str,
)
def test_eva_begins_as_pefts(tmp_path: Path, settings: dict[str, Any], fields: dict[str, Any]) -> None:
    base = reference_bert(tmp_path / "base")
    values = complete({"target_modules": LAYERS, "init_lora_weights": "eva", **fields})
    theirs = peft.get_peft_model(base, peft.LoraConfig(**values, eva_config=peft.EvaConfig(**settings)))
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**values, eva_config=EvaConfig(**settings)))
    data = batches()
    peft.initialize_lora_eva_weights(theirs, [tensors(batch) for batch in data], show_progress_bar=False)
    initialize_lora_eva_weights(ours, data)
    found, expected = ours.peft_config["default"], theirs.peft_config["default"]
    assert found.rank_pattern == expected.rank_pattern and found.alpha_pattern == pytest.approx(expected.alpha_pattern)
    both_ways(tmp_path, ours, theirs, tmp_path / "base")


def test_eva_gives_a_layer_no_rank_where_peft_gives_it_none(tmp_path: Path) -> None:
    base = reference_bert(tmp_path / "base")
    values = complete(
        {"target_modules": "all-linear", "exclude_modules": ["pooler.dense"], "init_lora_weights": "eva", "r": 1}
    )
    theirs = peft.get_peft_model(base, peft.LoraConfig(**values, eva_config=peft.EvaConfig(rho=7.0)))
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**values, eva_config=EvaConfig(rho=7.0)))
    data = batches(rows=9)
    peft.initialize_lora_eva_weights(theirs, [tensors(batch) for batch in data], show_progress_bar=False)
    initialize_lora_eva_weights(ours, data)
    assert sorted(ours.peft_config["default"].target_modules) == sorted(theirs.peft_config["default"].target_modules)
    assert 0 < len(adapted(theirs)) < 12
    both_ways(tmp_path, ours, theirs, tmp_path / "base")


@pytest.mark.parametrize("settings", [{}, {"use_label_mask": False}, {"label_mask_value": 7}], ids=str)
def test_eva_leaves_out_rows_without_a_label_as_peft_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs, base = pair(tmp_path / "base", "CAUSAL_LM")
    data = batches(rows=7)
    for batch in data:
        hidden = (np.random.default_rng(2).random(batch["input_ids"].shape) < 0.3) | (batch["attention_mask"] == 0)
        batch["labels"] = np.where(hidden, -100, batch["input_ids"])
    values = {"r": 2, "target_modules": ["c_attn", "c_fc"], "init_lora_weights": "eva"}
    config = LoraConfig(**values, eva_config=EvaConfig(**settings))
    theirs = peft.get_peft_model(
        theirs, peft.LoraConfig(**values, fan_in_fan_out=True, eva_config=peft.EvaConfig(**settings))
    )
    expected = peft.get_eva_state_dict(theirs, [tensors(batch) for batch in data], show_progress_bar=False)
    found = get_eva_state_dict(get_peft_model(base, config), data)
    assert found.keys() == expected.keys()
    for name, A in expected.items():
        assert_close(found[name], A, 1e-9)


@pytest.mark.parametrize("method", ["ipm", "kpm"])
@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, RANKS], ids=str)
def test_corda_begins_as_pefts(tmp_path: Path, method: str, fields: dict[str, Any]) -> None:
    base = reference_bert(tmp_path / "base")
    values = complete({"target_modules": LAYERS, "init_lora_weights": "corda", "task_type": None, **fields})
    config = peft.LoraConfig(**values, corda_config=peft.tuners.lora.config.CordaConfig(corda_method=method))
    data = batches(number=9, rows=1)

    def run_model() -> None:
        for batch in data:
            base(**tensors(batch))

    corda_of_peft.preprocess_corda(base, config, run_model)
    theirs = peft.get_peft_model(base, config)
    model = npora_bert(tmp_path / "base")
    config = LoraConfig(**values, corda_config=CordaConfig(corda_method=method))
    preprocess_corda(model, config, data)
    both_ways(tmp_path, get_peft_model(model, config), theirs, tmp_path / "base")


@pytest.mark.parametrize(
    ("direction", "scale"), [("ArB2r", "stable"), ("A2rBr", "weight_svd"), ("ArBr", "gd_scale"), ("ArB2r", "unit")]
)
def test_lora_ga_begins_as_pefts(tmp_path: Path, direction: str, scale: str) -> None:
    base = reference_bert(tmp_path / "base")
    values = complete({"target_modules": LAYERS, "init_lora_weights": "lora_ga", "task_type": None, **RANKS})
    settings = {"direction": direction, "scale": scale, "stable_gamma": 5}
    config = peft.LoraConfig(**values, lora_ga_config=peft.tuners.lora.config.LoraGAConfig(**settings))
    data = batches(labels=True)

    def train_step() -> None:
        for batch in data:
            base(**tensors(batch)).loss.backward()

    peft.preprocess_loraga(base, config, train_step)
    theirs = peft.get_peft_model(base, config)
    model = npora_bert(tmp_path / "base")
    config = LoraConfig(**values, lora_ga_config=LoraGAConfig(**settings))
    preprocess_loraga(model, config, data)
    both_ways(tmp_path, get_peft_model(model, config), theirs, tmp_path / "base")


@pytest.mark.parametrize("start", ["corda", "lora_ga"])
def test_on_a_conv1d_they_begin_as_pefts_too(tmp_path: Path, start: str) -> None:
    theirs, model = pair(tmp_path / "base", "SEQ_CLS")
    values = {"r": 2, "lora_alpha": 3, "target_modules": ["c_attn", "mlp.c_proj"], "init_lora_weights": start}
    values["task_type"] = "SEQ_CLS"
    if start == "lora_ga":  # whose "stable" goes by another axis of a Conv1D in PEFT
        values["lora_ga_config"] = {"scale": "unit"}
    config, own = peft.LoraConfig(**copy.deepcopy(values), fan_in_fan_out=True), LoraConfig(**values)
    data = batches(rows=1, labels=True, padded=False)
    if start == "corda":
        corda_of_peft.preprocess_corda(theirs, config, lambda: [theirs(**tensors(batch)) for batch in data])
        preprocess_corda(model, own, lambda: [model(**batch) for batch in data])
    else:
        peft.preprocess_loraga(theirs, config, lambda: [theirs(**tensors(b)).loss.backward() for b in data])
        preprocess_loraga(model, own, lambda: [model(**batch)[1]() for batch in data])
    found, expected = get_peft_model(model, own), peft.get_peft_model(theirs, config)
    for name, layer in adapted(expected).items():
        for part in "AB":
            theirs_part = getattr(layer, f"lora_{part}")["default"].weight.detach()
            ours_part = dict(found.named_parameters())[f"{name}.lora_{part}.default.weight"].data
            assert_close(abs(ours_part), theirs_part.abs(), 1e-9)
    moved(found).save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(
        reference_gpt2(tmp_path / "again", "GPT2ForSequenceClassification"), tmp_path / "adapter"
    )
    batch = {"input_ids": np.array([[3, 4, 9]])}
    assert_close(found(**batch)[0].logits, again.eval()(**tensors(batch)).logits, 1e-9)
