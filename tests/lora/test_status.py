"""What is said of a model's adapters is how they stand, in fields and in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, VeraConfig, get_peft_model
from npora.lora import get_layer_status, get_model_status
from tests.lora.test_two_adapters import Net, both
from tests.tiny import tiny_bert


def test_a_model_says_in_words_how_its_adapters_stand() -> None:
    model = both()
    assert str(model.get_model_status()) == (
        "A Net with adapters on 3 of its modules, on.\n"
        "default (LORA): active, trainable.\n"
        "other (LORA): inactive, frozen.\n"
        f"{model.get_nb_trainable_parameters()[0]:,} of {model.get_nb_trainable_parameters()[1]:,} numbers are trained."
    )
    model.merge_adapter(["other"])
    with model.disable_adapter():
        lines = str(model.get_model_status()).splitlines()
        assert lines[0].endswith("switched off.") and lines[2] == "other (LORA): inactive, merged, frozen."
    layer, _, head = model.get_layer_status()
    assert str(layer) == ("model.lower, a lora.Linear: default is active, trainable, other is inactive, merged, frozen")
    assert (head.name, head.module_type, head.merged_adapters) == ("model.head", "ModulesToSaveWrapper", [])


def test_layers_that_do_not_agree_are_irregular() -> None:
    model = both()
    assert model.get_model_status().merged_adapters == []
    (_, layer), (_, second) = model.lora_layers()
    layer.merge()
    assert model.get_model_status().merged_adapters == "irregular"
    assert "merged in some of its layers alone" in str(model.get_model_status())
    layer.unmerge()
    layer.disable_adapters = True
    assert model.get_model_status().enabled == "irregular"
    assert "on in some layers and off in others" in str(model.get_model_status())
    layer.disable_adapters = False
    second.active_adapters = ["other"]
    assert model.get_model_status().active_adapters == "irregular"
    assert "differs between layers" in str(model.get_model_status())
    layer.get_parameter("lora_A.default.weight").requires_grad = False
    status = model.get_model_status()
    assert status.requires_grad == {"default": "irregular", "other": False}
    assert "trainable in part" in str(status)


def test_constants_count_for_nothing_and_a_stored_base_is_told_of() -> None:
    model = get_peft_model(Net(), VeraConfig(r=3, target_modules=["lower"]))
    assert model.get_model_status().requires_grad == {"default": True}
    assert model.get_layer_status()[0].module_type == "vera.Linear"
    model.add_adapter("second", LoraConfig(target_modules=["lower"]))
    assert model.get_layer_status()[0].module_type == "vera+lora.Linear"
    assert model.get_model_status().quantization_backend is None


def test_a_model_without_adapters_has_no_status() -> None:
    model = both()
    for status in (get_layer_status, get_model_status):
        with pytest.raises(TypeError, match="that of a PeftModel; got a Net"):
            status(Net())  # type: ignore[arg-type]
    model.unload()
    for status in (get_layer_status, get_model_status):
        with pytest.raises(ValueError, match="was unloaded"):
            status(model)


def test_several_that_are_active_are_told_in_their_order_where_they_are_not_too() -> None:
    model: Any = get_peft_model(tiny_bert(dtype=np.float64), LoraConfig(target_modules=["query"]))
    model.add_adapter("second", LoraConfig(target_modules=["key"], modules_to_save=["pooler"]))
    model.set_adapter(["second", "default"])
    assert {tuple(layer.active_adapters) for layer in model.get_layer_status()} == {("second", "default")}
    assert model.get_model_status().active_adapters == ["second", "default"]
    model.merge_adapter()  # each where it is
    assert model.get_model_status().merged_adapters == ["default", "second"]
