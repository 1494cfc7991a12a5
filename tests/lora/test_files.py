"""Adapters on disk: nothing but the adapter, and nothing that does not fit is loaded."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, load_metadata, save_file
from tests.tiny import tiny_bert, tiny_peft

IDS = np.array([[3, 5, 7, 2], [4, 6, 1, 1]])
B = "base_model.model.bert.encoder.layer.1.attention.self.value.lora_B.weight"


def trained(**config: Any) -> PeftModel:
    """An adapter whose B's are not zero."""
    model = tiny_peft(**config)
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = rng.standard_normal(parameter.shape).astype(parameter.dtype)
    return model


def logits(model: Any) -> bytes:
    return bytes(model(IDS)[0].logits.tobytes())


@pytest.mark.parametrize("config", [{}, {"bias": "all"}, {"bias": "lora_only"}, {"modules_to_save": ["pooler"]}])
def test_saving_and_loading_is_the_identity(tmp_path: Path, config: dict[str, Any]) -> None:
    model = trained(**config)
    model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["adapter_config.json", "adapter_model.safetensors"]
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert logits(again) == logits(model) != logits(tiny_bert())
    assert not any(parameter.requires_grad for parameter in again.parameters())
    again.save_pretrained(tmp_path / "again")
    for name in os.listdir(tmp_path / "again"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_order_of_patterns_is_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alphas = {r"layer\.1.*": 7, "attention.*": 2}
    model = trained(r=2, rank_pattern={"value": 3, r"layer\.1.*": 1}, alpha_pattern=alphas)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert logits(again) == logits(model) and not caplog.records
    found = [(layer.adapters["default"].r, layer.adapters["default"].s) for _, layer in again.lora_layers()]
    assert found == [(2, 1), (3, 2 / 3), (1, 7), (3, 7 / 3)]
    path = tmp_path / "adapter_model.safetensors"
    save_file(load_file(path), path, {"format": "pt"})  # as one that PEFT saved
    PeftModel.from_pretrained(tiny_bert(), tmp_path)
    (said,) = caplog.messages
    assert "alpha_pattern in" in said and "7 and 'attention.*': 2 for bert.encoder.layer.1.attention.self.query" in said


def test_the_file_of_another_method_is_named_as_one(tmp_path: Path) -> None:
    get_peft_model(tiny_bert(), HiraConfig(r=2, target_modules=["query"])).save_pretrained(tmp_path)
    model = trained()
    before = logits(model)
    with pytest.raises(ValueError, match=r"is of HIRA, and this one of LORA: load it under another name"):
        model.load_adapter(tmp_path)
    assert logits(model) == before


def test_an_excluded_string_is_a_whole_path_in_a_file_as_in_peft(tmp_path: Path) -> None:
    trained(target_modules=["query", "pooler.dense"]).save_pretrained(tmp_path)
    change_config(exclude_modules="pooler.dense")(tmp_path)
    model = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert [path for path, _ in model.lora_layers()][-1] == "bert.pooler.dense"
    change_config(exclude_modules="bert.pooler.dense")(tmp_path)
    with pytest.raises(ValueError, match=r"unexpected: base_model\.model\.bert\.pooler\.dense\.lora_A"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    for excluded in ("bert.pooler.*", "(?:pooler.dense)"):
        assert LoraConfig.from_dict({"exclude_modules": excluded}).exclude_modules == excluded


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_adapter_that_is_not_finite_is_saved_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    model = tiny_peft()
    model.save_pretrained(tmp_path)
    assert not caplog.messages
    name, parameter = next((name, p) for name, p in model.named_parameters() if "query.lora_B" in name)
    parameter.data[1, 0] = value
    model.save_pretrained(tmp_path)
    assert f"{tmp_path} is saved with nan or inf in ['{name.replace('.default', '')[:40]}" in caplog.text
    assert not np.isfinite(load_file(tmp_path / "adapter_model.safetensors")[name.replace(".default", "")]).all()


def test_an_adapter_loads_to_be_trained_on(tmp_path: Path) -> None:
    model = trained()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_bert(), tmp_path, is_trainable=True)
    assert again.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def change_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        path = directory / "adapter_model.safetensors"
        tensors, metadata = dict(load_file(path)), load_metadata(path)
        change(tensors)
        save_file({name: np.array(value) for name, value in tensors.items()}, path, metadata)

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_config(r=3), f"{B} has shape (6, 2), expected (6, 3)"),
        (change_config(lora_alpha=9), "adapter_config.json says lora_alpha=9, but"),
        (change_config(use_rslora=True), "adapter_config.json says use_rslora=True, but"),
        (change_tensors(lambda tensors: tensors.pop(B)), f"missing: {B}"),
        (change_tensors(lambda tensors: tensors.update(extra=np.ones(2))), "unexpected: extra"),
        (change_tensors(lambda tensors: tensors.update({B: np.ones((6, 1))})), f"{B} has shape (6, 1)"),
        (lambda directory: (directory / "adapter_model.safetensors").write_bytes(b"12345"), "truncated"),
        (lambda directory: (directory / "adapter_config.json").write_bytes(b"{"), "not valid JSON"),
    ],
)
def test_an_adapter_that_does_not_fit_is_an_error_and_changes_nothing(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    trained().save_pretrained(tmp_path)
    change(tmp_path)
    base = tiny_bert()
    before = logits(base)
    with pytest.raises(ValueError) as error:
        PeftModel.from_pretrained(base, tmp_path)
    assert message in str(error.value)
    assert logits(base) == before and not [name for name, _ in base.named_parameters() if "lora" in name]
    model = tiny_peft()
    before = logits(model)
    with pytest.raises(ValueError):
        model.load_adapter(tmp_path, "second")
    with pytest.raises(ValueError):
        model.load_adapter(tmp_path)
    assert logits(model) == before and list(model.peft_config) == ["default"]


@pytest.mark.parametrize(
    ("name", "message"), [("key", "self.key.lora_A.weight"), ("other", "unexpected: .*self.query.lora_A.weight")]
)
def test_a_config_that_names_other_targets_than_its_tensors_is_an_error(
    tmp_path: Path, name: str, message: str
) -> None:
    trained().save_pretrained(tmp_path)
    change_config(target_modules=[name, "value"])(tmp_path)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)


def test_an_adapter_of_another_base_is_an_error_that_names_both(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"was trained on another base model .* SHA-256"):
        PeftModel.from_pretrained(tiny_bert(seed=1), tmp_path)


def test_the_same_base_in_float64_is_still_the_same_base(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    base = tiny_bert()
    for parameter in base.parameters():
        parameter.data = parameter.data.astype(np.float64)
    model = PeftModel.from_pretrained(base, tmp_path)
    assert model(IDS)[0].logits.dtype == np.float64


def test_an_adapter_without_a_digest_is_loaded_with_a_word_where_the_names_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({name: np.array(value) for name, value in load_file(path).items()}, path, {"format": "pt"})
    change_config(base_model_name_or_path="org/bert-large")(tmp_path)
    base = tiny_bert()
    base.name_or_path = "models/bert-large"
    with caplog.at_level(logging.WARNING, "npora"):
        PeftModel.from_pretrained(base, tmp_path)
        assert not caplog.text
        base = tiny_bert()
        base.name_or_path = "models/bert-small"
        PeftModel.from_pretrained(base, tmp_path)
    assert "was trained on 'org/bert-large', and this model is 'models/bert-small'" in caplog.text
