"""Any method's adapter as plain LoRA: the nearest of its rank, with the error it makes, in files that load."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import IA3Config, LoHaConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from npora.lora import convert_to_lora, save_as_lora
from npora.lora.folder import PREFIX
from npora.nn import Conv1D, Linear, Module
from tests.lora.cases import METHODS, Method, goes_on
from tests.lora.test_methods import Held, drawn
from tests.lora.test_two_adapters import Net, values
from tests.lora.test_weighted import deltas, model_of
from tests.tiny import tiny_bert

cases = pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name.replace(" ", "-"))


class Turned(Module):
    def __init__(self) -> None:
        self.dense = Conv1D(5, 3, rng=1, dtype=np.float64)

    def forward(self, x: Any, rng: Any = None) -> Any:
        return self.dense(x, rng)


def moved(base: Module, config: Any) -> PeftModel:
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + drawn(1, *parameter.shape)
    return model


@cases
@pytest.mark.parametrize("kind", [Linear, Conv1D])
def test_of_each_rank_it_is_the_nearest_and_of_the_full_one_the_same(case: Method, kind: Any, tmp_path: Path) -> None:
    if not goes_on(case, kind):
        return
    base = Held if kind is Linear else Turned
    model = moved(base(), replace(case.config, target_modules=["dense"]))
    W = model.lora_layers()[0][1].base_layer.matrix
    delta = model.lora_layers()[0][1].merged_linear().matrix - W
    _, sigma, _ = np.linalg.svd(delta)
    for rank in range(1, len(sigma) + 1):
        found = save_as_lora(tmp_path / str(rank), model, rank)
        config, state = found
        assert type(config) is LoraConfig and config.r == config.lora_alpha == rank
        product = state[f"{PREFIX}dense.lora_B.weight"] @ state[f"{PREFIX}dense.lora_A.weight"]
        error = np.linalg.norm(product - delta)
        assert abs(error - np.linalg.norm(sigma[rank:])) < 1e-12
        assert abs(found.errors["dense"] - error / np.linalg.norm(delta)) < 1e-12
        again = PeftModel.from_pretrained(base(), tmp_path / str(rank))
        np.testing.assert_allclose(again.merge_and_unload().dense.matrix - W, product, rtol=0, atol=1e-12)
    if not found.changed_biases:
        again = PeftModel.from_pretrained(base(), tmp_path / str(len(sigma)))
        np.testing.assert_allclose(again(drawn(0, 4, 5))[0], model(drawn(0, 4, 5))[0], rtol=0, atol=1e-11)


@cases
@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_a_share_of_the_energy_takes_the_lowest_rank_that_holds_it(case: Method, share: float) -> None:
    model = moved(Held(), replace(case.config, target_modules=["dense"]))
    layer = model.lora_layers()[0][1]
    energy = np.linalg.svd(layer.get_delta_weight("default"))[1] ** 2
    found = convert_to_lora(model, share)
    r = found.config.r
    assert energy[:r].sum() >= share * energy.sum() * (1 - 1e-12)
    assert r == 1 or energy[: r - 1].sum() < share * energy.sum()


def test_layers_get_ranks_of_their_own_and_what_else_is_trained_goes_along(tmp_path: Path) -> None:
    model = model_of(LoHaConfig(r=2, target_modules=["lower", "upper"], modules_to_save=["head"]))
    for part, rank in (("lower", 1), ("upper", 3)):
        layer = dict(model.lora_layers())[part].adapters["a"]
        layer.W1a.data[:, 1:], layer.W2a.data[:, 1:] = (0, 0) if rank == 1 else (layer.W1a.data[:, 1:], 1)
    config, state = save_as_lora(tmp_path, model, 0.999, adapter_name="a")
    ranks = {name.split(".")[2]: len(array) for name, array in state.items() if "lora_A" in name}
    assert ranks["lower"] == 1 < ranks["upper"] == config.r and config.rank_pattern == ranks == config.alpha_pattern
    assert {name for name in state if "head" in name} == {f"{PREFIX}head.weight", f"{PREFIX}head.bias"}
    x, again = values(1, 6, 5), PeftModel.from_pretrained(Net(), tmp_path)
    y = model(x)[0]
    assert 0 < np.linalg.norm(again(x)[0] - y) / np.linalg.norm(y) < 0.1
    np.testing.assert_allclose(deltas(again, "default")["lower"], deltas(model, "a")["lower"], rtol=0, atol=1e-12)


def test_the_targets_are_those_of_the_adapter_whatever_its_config_leaves_out(tmp_path: Path) -> None:
    config = LoHaConfig(
        r=2, target_modules=["query", "dense"], layers_to_transform=[1], exclude_modules=["pooler.dense"]
    )
    model = moved(tiny_bert(), config)
    _, state = save_as_lora(tmp_path, model, 3)
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert state.keys() == again.adapter_parameters("default").keys() and len(state) == 8
    assert all((state[name] == part.data).all() for name, part in again.adapter_parameters("default").items())


@pytest.mark.parametrize("bias", ["all", "vera_only"])
def test_trained_biases_of_the_base_go_along(bias: Any, tmp_path: Path) -> None:
    model = moved(Net(), VeraConfig(r=4, target_modules=["lower"], bias=bias))
    with model.disable_adapter():
        config, _ = save_as_lora(tmp_path, model, 4)
    assert config.bias == ("all" if bias == "all" else "lora_only")
    x = values(1, 6, 5)
    np.testing.assert_allclose(PeftModel.from_pretrained(Net(), tmp_path)(x)[0], model(x)[0], rtol=0, atol=1e-12)


def test_a_changed_bias_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of(IA3Config(target_modules=["lower", "upper"], feedforward_modules=["upper"]))
    layer = dict(model.lora_layers())["lower"]
    with caplog.at_level(logging.WARNING, "npora"):
        found = convert_to_lora(model, 4, "a")
    b, scale = layer.base_layer.bias.data, layer.adapters["a"].l.data.ravel()
    assert found.changed_biases == {"lower": pytest.approx(np.linalg.norm(scale * b - b) / np.linalg.norm(b))}
    assert "changes the biases of 1 layers, by up to" in caplog.text and "(lower)" in caplog.text
    assert found.errors["lower"] < 1e-12


def test_an_update_of_zero_is_one_of_rank_one() -> None:
    model = get_peft_model(Net(), LoHaConfig(r=2, target_modules=["lower"]))
    config, state = convert_to_lora(model, 0.9)
    assert config.r == 1 and not any(array.any() for name, array in state.items() if "lora_B" in name)
    assert convert_to_lora(model, 2).errors == {"lower": 0.0}


@pytest.mark.parametrize("rank", [0, -1, 0.0, 1.5, True, "4"])
def test_a_rank_without_meaning_is_refused(rank: Any) -> None:
    model = get_peft_model(Net(), LoHaConfig(r=2, target_modules=["lower"]))
    with pytest.raises(ValueError, match="a whole number of at least 1, or a share of the energy"):
        convert_to_lora(model, rank)
    with pytest.raises(ValueError, match="lower has a matrix of 4 × 5, and no update of it has the rank 5"):
        convert_to_lora(model, 5)
    with pytest.raises(ValueError, match="there is no adapter 'x'"):
        convert_to_lora(model, 2, "x")
    with pytest.raises(TypeError, match="takes a PeftModel; got a Net"):
        convert_to_lora(Net(), 2)
