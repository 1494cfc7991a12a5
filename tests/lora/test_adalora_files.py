"""The files of AdaLoRA's adapters: of those whose ranks are cut, and of those that go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npora import PeftModel, get_peft_model
from npora.files import load_file
from tests.lora.test_adalora import NAMES, config, cut_model, outputs, ranks, trained
from tests.tiny import tiny_bert


def test_a_file_has_the_ranks_that_are_left_and_loads_as_they_are(tmp_path: Path) -> None:
    model = cut_model()
    model.save_pretrained(tmp_path / "a")
    shapes = {name: x.shape for name, x in load_file(tmp_path / "a" / "adapter_model.safetensors").items()}
    written = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["rank_pattern"]
    assert 0 < sum(ranks(model)) < 16 and [sum(pattern) for pattern in written.values()] == ranks(model)
    for (path, layer), rank in zip(model.lora_layers(), ranks(model), strict=True):
        assert written[f"{path}.lora_E"] == (layer.lora_E["default"].data[:, 0] != 0).tolist()
        expected = {"A": (rank, 6), "E": (rank, 1), "B": (6, rank)}
        assert {name: shapes[f"base_model.model.{path}.lora_{name}"] for name in NAMES} == expected
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / "a", is_trainable=True)
    np.testing.assert_allclose(outputs(again), outputs(model), rtol=0, atol=1e-12)
    assert model.peft_config["default"] == config()  # as it was, for who goes on with it
    again.save_pretrained(tmp_path / "b")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_a_cut_adapter_loads_its_own_file_under_its_own_name(tmp_path: Path) -> None:
    model, fresh = cut_model(), get_peft_model(tiny_bert(dtype=np.float64), config())
    y = outputs(model)
    model.save_pretrained(tmp_path / "a")
    for one in (model, fresh):
        parameters = {id(parameter): parameter.shape for parameter in trained(one)}
        for parameter in trained(one):
            parameter.data = parameter.data + 1.0
        one.load_adapter(tmp_path / "a", is_trainable=True)
        np.testing.assert_allclose(outputs(one), y, rtol=0, atol=1e-12)
        assert {id(parameter): parameter.shape for parameter in trained(one)} == parameters  # for an optimiser
        one.save_pretrained(tmp_path / "b")
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    cut = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / "a")
    get_peft_model(tiny_bert(dtype=np.float64), config()).save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match="has ranks that this adapter has not any more: load it under another name"):
        cut.load_adapter(tmp_path / "whole")
    np.testing.assert_allclose(outputs(cut), y, rtol=0, atol=1e-12)
    model.load_adapter(tmp_path / "whole")
    model.save_pretrained(tmp_path / "b")
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("b", "whole")]
    assert {name: x.shape for name, x in files[0].items()} == {name: x.shape for name, x in files[1].items()}


def test_who_goes_on_with_a_cut_adapter_cuts_what_it_has(tmp_path: Path) -> None:
    cut_model().save_pretrained(tmp_path / "a")
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / "a", is_trainable=True)
    first, rng = ranks(again), np.random.default_rng(1)
    for parameter in trained(again):
        parameter.grad = rng.standard_normal(parameter.shape)
    again.peft_config["default"].target_r = 1  # type: ignore[attr-defined]
    again.after_step(9)
    assert sum(ranks(again)) < sum(first)
    again.save_pretrained(tmp_path / "b")
    third = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path / "b")
    np.testing.assert_allclose(outputs(third), outputs(again), rtol=0, atol=1e-12)
    assert ranks(third) == ranks(again)


def test_what_has_grown_again_since_a_cut_is_in_the_file(tmp_path: Path) -> None:
    model = cut_model(deltaT=3)
    layer = model.lora_layers()[0][1]
    layer.lora_E["default"].data = layer.lora_E["default"].data + 0.5
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_bert(dtype=np.float64), tmp_path)
    np.testing.assert_allclose(outputs(again), outputs(model), rtol=0, atol=1e-12)
