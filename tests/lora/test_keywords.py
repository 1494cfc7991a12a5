"""PEFT's keywords: what has a meaning works, what says nothing is accepted, and the rest is named."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from npora import LoraConfig, PeftModel, TaskType, get_peft_model
from npora.lora import PeftType
from tests.lora.test_files import logits, trained
from tests.tiny import tiny_bert, tiny_peft


@pytest.mark.parametrize(
    ("name", "meant"),
    [("rank", "r"), ("alpha", "lora_alpha"), ("dropout", "lora_dropout"), ("target_module", "target_modules"),
     ("lora_alfa", "lora_alpha"), ("modules_to_train", "modules_to_save")],
)  # fmt: skip
def test_a_field_that_there_is_not_names_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"LoraConfig has no field '{name}'; did you mean .*\b{meant}\b"):
        LoraConfig(**{name: 8})  # type: ignore[arg-type]


def test_a_config_is_copied_changed_and_compared_as_any_dataclass() -> None:
    config = LoraConfig(4, target_modules=["query"])
    assert copy.deepcopy(config) == copy.copy(config) == config != dataclasses.replace(config, r=5)


def test_names_may_come_in_any_collection() -> None:
    for names in (["value", "query"], ("value", "query"), {"value", "query"}, iter(["query", "value"])):
        assert LoraConfig(target_modules=names).target_modules == ["query", "value"]  # type: ignore[arg-type]
    assert LoraConfig(modules_to_save="pooler").modules_to_save == ["pooler"]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target_modules holds names, which are strings; got"):
        LoraConfig(target_modules=[1])  # type: ignore[list-item]
    for wrong in ("16", True, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"lora_alpha must be a finite number; got {wrong!r}"):
            LoraConfig(lora_alpha=wrong)  # type: ignore[arg-type]


def test_enumerations_are_written_as_plain_strings(tmp_path: Path) -> None:
    config = LoraConfig(task_type=TaskType.SEQ_CLS, peft_type=PeftType.LORA)
    assert type(config.task_type) is str and config == LoraConfig(task_type="SEQ_CLS")
    assert config.task_type == TaskType.SEQ_CLS
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (written["task_type"], written["peft_type"]) == ("SEQ_CLS", "LORA")


def test_what_tutorials_write_builds_the_same_model() -> None:
    config = LoraConfig(r=2, target_modules=["query"])
    plain = get_peft_model(tiny_bert(), copy.deepcopy(config))
    named = get_peft_model(
        tiny_bert(), config, "default", mixed=False, autocast_adapter_dtype=True, revision="v2", low_cpu_mem_usage=True
    )
    assert plain.state_dict().keys() == named.state_dict().keys()
    assert all((plain.state_dict()[name] == array).all() for name, array in named.state_dict().items())
    assert named.peft_config["default"].revision == "v2" and named.active_adapters == ["default"]
    assert named.active_peft_config is named.peft_config["default"]
    with pytest.raises(ValueError, match="mixed=True is not supported: adapters of several methods may share a model"):
        get_peft_model(tiny_bert(), config, mixed=True)
    with pytest.raises(TypeError, match="sead"):
        get_peft_model(tiny_bert(), config, sead=1)  # type: ignore[call-arg]


def test_a_base_is_recorded_by_its_name_and_its_revision() -> None:
    config = LoraConfig(target_modules=["query"])
    for name, expected in (("org/base@v2", ("org/base", "v2")), ("org/other", ("org/other", "v2"))):
        base = tiny_bert()
        base.name_or_path = name
        get_peft_model(base, config)
        assert (config.base_model_name_or_path, config.revision) == expected


IDLE: dict[str, Any] = {
    "torch_device": "cpu", "autocast_adapter_dtype": False, "ephemeral_gpu_offload": False, "low_cpu_mem_usage": True,
    "key_mapping": None, "revision": None, "cache_dir": None, "local_files_only": True, "subfolder": None,
    "token": None, "use_safetensors": True, "device_map": "auto",
}  # fmt: skip


@pytest.mark.parametrize("name", IDLE)
def test_keywords_that_say_nothing_here_are_accepted(tmp_path: Path, name: str) -> None:
    model = trained()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_bert(), model_id=tmp_path, **{name: IDLE[name]})
    assert logits(again) == logits(model)
    again.load_adapter(tmp_path, adapter_name="second", **{name: IDLE[name]})


@pytest.mark.parametrize(
    ("keywords", "kind", "message"),
    [
        ({"foo": 1}, TypeError, "got an unexpected keyword argument 'foo'; it has: model_id, adapter_name"),
        ({"is_trainabel": True}, TypeError, "'is_trainabel'; did you mean is_trainable"),
        ({"torch_dtype": "float16"}, TypeError, "has no use for 'torch_dtype': an adapter has its base's dtype"),
        ({"max_memory": {}}, TypeError, "has no use for 'max_memory'"),
        ({"torch_device": "cuda"}, ValueError, "torch_device='cuda' is not supported"),
        ({"key_mapping": {"a": "b"}}, ValueError, "key_mapping={'a': 'b'} is not supported"),
        ({"ephemeral_gpu_offload": True}, ValueError, "npora computes on the CPU"),
        ({"token": "secret"}, ValueError, "taken from HF_TOKEN"),
    ],
)
def test_other_keywords_are_named_and_nothing_is_changed(
    tmp_path: Path, keywords: dict[str, Any], kind: type[Exception], message: str
) -> None:
    trained().save_pretrained(tmp_path)
    base = tiny_bert()
    before = logits(base)
    with pytest.raises(kind) as error:
        PeftModel.from_pretrained(base, tmp_path, **keywords)
    assert message in str(error.value) and "secret" not in str(error.value)
    with pytest.raises(kind):
        tiny_peft().load_adapter(tmp_path, **keywords)
    assert logits(base) == before and all(parameter.requires_grad for parameter in base.parameters())


def test_saving_takes_pefts_keywords(tmp_path: Path) -> None:
    model = tiny_peft()
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    model.save_pretrained(tmp_path, selected_adapters=["second"], save_embedding_layers="auto", safe_serialization=True)
    assert [path.name for path in tmp_path.iterdir()] == ["second"]
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    for keywords, kind, message in (
        ({"safe_serialization": False}, ValueError, "safe_serialization=False is not supported"),
        ({"save_embedding_layers": True}, ValueError, "save_embedding_layers=True is not supported"),
        ({"selected_adapters": ["third"]}, ValueError, "there is no adapter 'third'; there are: default, second"),
        ({"push_to_hub": True}, TypeError, "has no use for 'push_to_hub': upload the folder with"),
        ({"selected": ["second"]}, TypeError, "did you mean selected_adapters"),
    ):
        with pytest.raises(kind, match=message):
            model.save_pretrained(tmp_path / "none", **keywords)  # type: ignore[arg-type]
        assert not (tmp_path / "none").exists()


def test_merging_takes_pefts_keywords() -> None:
    model = trained()
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ValueError, match="there is no adapter 'third'"):
            merge(adapter_names=["third"])
    with pytest.raises(TypeError, match="adapter_names must be a list of names; got True"):
        model.merge_adapter(True)  # type: ignore[arg-type]
    model.merge_adapter(adapter_names=["default"], safe_merge=True)
    model.unmerge_adapter()
    model.set_adapter(["default"])
    assert not [
        n for n, _ in model.merge_and_unload(progressbar=True, safe_merge=True).named_parameters() if "lora" in n
    ]
