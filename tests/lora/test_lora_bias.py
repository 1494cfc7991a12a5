"""A bias of B, on layers with a bias and without, beside other adapters, and where it has no meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model, gradcheck
from npora.files import load_file
from npora.lora import convert_to_lora
from npora.lora.inject import adapted_layer
from npora.nn import Linear
from tests.lora.test_embeddings import Net
from tests.lora.test_methods import Held, drawn


def test_without_a_bias_of_its_own_a_layer_has_it_unmerged_alone() -> None:
    layer = adapted_layer(
        Linear(5, 4, bias=False, rng=1, dtype=np.float64), LoraConfig(r=2, lora_bias=True), np.random.default_rng(0)
    )
    for parameter in layer.adapters["default"].parameters():
        parameter.data = parameter.data + drawn(1, *parameter.shape)
    y = layer(drawn(2, 3, 5))[0]
    for merge in (layer.merge, layer.merged_linear):
        with pytest.raises(RuntimeError, match=r"'default' adds a bias .*, and the layer that it is on has none"):
            merge()
    assert layer(drawn(2, 3, 5))[0].tobytes() == y.tobytes() and layer.get_delta_weight("default").shape == (4, 5)


def test_a_method_that_forms_matrices_passes_its_gradient_on() -> None:
    for bias in (True, False):
        base = Linear(5, 4, bias=bias, rng=1, dtype=np.float64)
        layer = adapted_layer(base, LoraConfig(r=2, lora_bias=True), np.random.default_rng(0))
        layer.adapters["second"] = adapted_layer(
            base, LoraConfig(r=3, use_dora=True), np.random.default_rng(0)
        ).adapters["default"]
        layer.active_adapters = ["default", "second"]
        for number, adapter in enumerate(layer.adapters.values()):
            for parameter in adapter.parameters():
                parameter.data = parameter.data + drawn(number, *parameter.shape)
        report = gradcheck(layer, drawn(2, 3, 5))
        assert report.ok, report
        y, _ = layer(drawn(2, 3, 5))
        merged = layer._composed(["default", "second"])
        np.testing.assert_allclose(merged(drawn(2, 3, 5))[0], y, rtol=0, atol=1e-12)


def test_it_is_reached_saved_and_merged_under_pefts_names_and_has_no_place_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = get_peft_model(Held(), LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=["dense"]))
    layer = model.base_model.model.dense
    B = layer.lora_B["default"]
    assert B.weight.shape == (4, 2) and B.bias.shape == (4,) and not B.bias.data.any()
    for parameter in (B.weight, B.bias):
        parameter.data = parameter.data + drawn(1, *parameter.shape)
    y = model(drawn(0, 3, 5))[0]
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    np.testing.assert_array_equal(saved["base_model.model.dense.lora_B.bias"], B.bias.data)
    assert PeftModel.from_pretrained(Held(), tmp_path)(drawn(0, 3, 5))[0].tobytes() == y.tobytes()
    assert convert_to_lora(model, 2).changed_biases.keys() == {"dense"} and "LoRA has no place" in caplog.text
    for combination in ("linear", "cat", "svd"):
        with pytest.raises(ValueError, match=r"no plain LoRA at dense|changes the bias of dense"):
            model.add_weighted_adapter(["default", "default"], [1, 2], "new", combination)
    np.testing.assert_allclose(model.merge_and_unload().dense.bias.data, Held().dense.bias.data + 1.5 * B.bias.data)
    with pytest.raises(ValueError, match="lora_bias=True has no meaning on an embedding, which table is"):
        get_peft_model(Net(), LoraConfig(target_modules=["table", "head"], lora_bias=True))
