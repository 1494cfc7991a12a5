"""Adapters that others saved: their tensors say what they are on, whatever else their config names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, save_file
from npora.lora import PeftConfig
from npora.models import BertConfig, BertForSequenceClassification
from tests.lora.test_files import change_config, logits, trained
from tests.tiny import SIZES, spread, tiny_bert, tiny_peft

WEIGHTS = "adapter_model.safetensors"


def as_peft_saves(directory: Path, **config: Any) -> bytes:
    """An adapter without npora's record. Returns the logits that it gives."""
    model = trained(**config)
    model.save_pretrained(directory)
    rename(lambda name: name)(directory)
    return logits(model)


def rename(change: Callable[[str], str]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        save_file({change(name): np.array(value) for name, value in tensors.items()}, directory / WEIGHTS)

    return rewrite


# What PEFT or a program around it writes, and what means nothing for an adapter whose tensors fit.
IDLE: dict[str, list[Any]] = {
    "target_modules": [["query", "value"], ["query", "value", "q_proj", "v_proj"], ["layer.0.attention.self.query",
                       "value", "layer.1.attention.self.query", "layer.2.attention.self.query"],
                       ".*(query|value|c_attn)", None],
    "exclude_modules": [None, ["vision_tower"], "vision.*"],
    "modules_to_save": [None, ["classifier", "score", "classifier", "score"], ["lm_head"], []],
    "rank_pattern": [{}, None, {"c_attn": 64}],
    "alpha_pattern": [{}, None, {"model.layers.7": 64}],
    "init_lora_weights": [True, False, None, "gaussian", "eva", "orthogonal", "mica"],
    "eva_config": [None, {"rho": 2.0, "tau": 0.99}],
    "corda_config": [None, {"corda_method": "ipm"}],
    "lora_ga_config": [None, {"direction": "ArB2r"}],
    "loftq_config": [{}, None, {"loftq_bits": 4, "loftq_iter": 1}],
    "megatron_core": ["megatron.core", None, "megatron.other"],
    "megatron_config": [None, {}],
    "runtime_config": [{"ephemeral_gpu_offload": True}],
    "merge_weights": [False, True],  # of PEFT's first versions, as the next one
    "enable_lora": [None],
    "layers_pattern": [None, [], ""],
    "layers_to_transform": [None, [], [0, 1], [0, 1, 7]],
    "auto_mapping": [None, {"base_model_class": "BertModel", "parent_library": "transformers"}],
    "revision": [None, "main", "refs/pr/1"],
    "base_model_name_or_path": [None, "", "org/moved"],
    "peft_version": ["0.7.0", "9.0.0.dev0@UNKNOWN", None],
    "inference_mode": [True, False],
    "use_qalora": [False, None],
    "qalora_group_size": [16, 32],
    "ensure_weight_tying": [False, True],
    "trainable_token_indices": [None, [], {}],
    "alora_invocation_tokens": [None, []],
    "target_parameters": [None, []],
    "layer_replication": [None, []],
    "lora_dropout": [0.0, 0.3, None],
    "fan_in_fan_out": [False, True],
    "use_dora": [False, None],
    "use_rslora": [False, None],
    "lora_bias": [False, None],
    "bias": ["none", None],
    "newer_config": [None, {}, [], False, ""],
    "newer_size": [7, "words"],
}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in IDLE.items()}))
def test_fields_that_say_nothing_of_the_tensors_change_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    if isinstance(changes.get("target_modules"), str) and changes.get("layers_to_transform"):
        del changes["layers_to_transform"]  # PEFT refuses the two together
    expected = as_peft_saves(tmp_path)
    change_config(**changes)(tmp_path)
    model = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert logits(model) == expected
    model.save_pretrained(tmp_path / "again")
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path / "again")) == expected


def test_layers_that_this_model_lacks_are_passed_over(tmp_path: Path) -> None:
    expected = as_peft_saves(tmp_path, layers_to_transform=[1])
    change_config(layers_to_transform=[1, 7, 30], layers_pattern=["layer", "h"])(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == expected


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "PiSSA", "olora", "corda", "lora_ga", "loftq"])
def test_an_adapter_that_altered_its_base_is_refused_with_the_reason_and_the_way_on(tmp_path: Path, start: str) -> None:
    expected = as_peft_saves(tmp_path)
    change_config(init_lora_weights=start)(tmp_path)
    base = tiny_bert()
    before = logits(base)
    with pytest.raises(ValueError, match=r"altered the base's weights.*path_initial_model_for_weight_conversion"):
        PeftModel.from_pretrained(base, tmp_path)
    assert logits(base) == before and all(parameter.requires_grad for parameter in base.parameters())
    config = LoraConfig.from_pretrained(tmp_path)
    config.init_lora_weights = True
    assert logits(PeftModel.from_pretrained(base, tmp_path, config=config)) == expected


def test_a_start_that_is_not_known_or_trains_a_part_is_named(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    change_config(init_lora_weights="novel")(tmp_path)
    with pytest.raises(ValueError, match="init_lora_weights='novel', which npora does not know"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    change_config(init_lora_weights="mica")(tmp_path)
    with pytest.raises(ValueError, match="trains A alone"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path, is_trainable=True)


def test_new_adapters_are_taken_at_their_word(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    refused = {
        "is not supported": {"init_lora_weights": "mica"},
        "belongs to init_lora_weights='eva'": {"eva_config": {"rho": 2.0}},
    }
    for message, changes in refused.items():
        change_config(init_lora_weights=True, eva_config=None)(tmp_path)
        change_config(**changes)(tmp_path)
        config, base = LoraConfig.from_pretrained(tmp_path), tiny_bert()
        with pytest.raises(ValueError, match=message):
            get_peft_model(base, config)
        assert all(parameter.requires_grad for parameter in base.parameters())


def test_a_field_of_newer_peft_that_may_change_the_outputs_is_refused_with_a_way_on(tmp_path: Path) -> None:
    expected = as_peft_saves(tmp_path)
    change_config(use_novel=True)(tmp_path)
    with pytest.raises(ValueError, match=r"does not know the fields use_novel.*ignore=\['use_novel'\]"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    config = LoraConfig.from_pretrained(tmp_path, ignore=["use_novel"])
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path, config=config)) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda name: "base_model.model." + name,
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."),
        lambda name: (
            name.replace("classifier.", "classifier.modules_to_save.other.")
            .replace(".lora_A.", ".lora_A.other.").replace(".lora_B.", ".lora_B.other.")
        ),
    ],
)  # fmt: skip
def test_tensors_are_found_under_the_names_of_every_way_to_save_them(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    expected = as_peft_saves(tmp_path)
    rename(change)(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == expected


def test_tensors_of_two_adapters_in_one_file_are_refused_by_name(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    rename(lambda name: name.replace(".lora_A.", ".lora_A.one.").replace(".lora_B.", ".lora_B.two."))(tmp_path)
    with pytest.raises(ValueError, match="several adapters, one, two"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_an_adapter_of_another_precision_takes_its_bases(tmp_path: Path, dtype: Any) -> None:
    as_peft_saves(tmp_path)
    tensors = {name: value.astype(dtype) for name, value in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    model = PeftModel.from_pretrained(tiny_bert(), tmp_path)
    for name, parameter in model.adapter_parameters("default").items():
        assert parameter.dtype == np.float32
        np.testing.assert_array_equal(parameter.data, tensors[name].astype(np.float32))


def test_an_adapter_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    tensors = {name: (9 * value).astype(np.int8) for name, value in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"lora_A.weight is int8: npora computes with floating point"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)


def test_a_module_that_is_in_the_file_though_the_config_does_not_name_it_is_loaded(tmp_path: Path) -> None:
    expected = as_peft_saves(tmp_path, modules_to_save=["pooler"])
    change_config(modules_to_save=None, task_type=None)(tmp_path)
    base = tiny_bert()
    before = logits(base)
    model = PeftModel.from_pretrained(base, tmp_path)
    assert logits(model) == expected != before
    with model.disable_adapter():
        assert logits(model) == before


def test_copies_of_the_bases_own_weights_are_passed_over_and_others_refused(tmp_path: Path) -> None:
    expected = as_peft_saves(tmp_path)
    name = "bert.embeddings.word_embeddings.weight"
    words = tiny_bert().state_dict()[name].copy()
    for value, fits in ((words, True), (words + 1, False), (words[:-1], False)):
        tensors = {key: np.array(tensor) for key, tensor in load_file(tmp_path / WEIGHTS).items()}
        save_file({**tensors, f"base_model.model.{name}": value}, tmp_path / WEIGHTS)
        if fits:
            assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == expected
        else:
            with pytest.raises(ValueError, match=f"unexpected: base_model.model.{name} .the base's own"):
                PeftModel.from_pretrained(tiny_bert(), tmp_path)


def test_an_adapter_of_other_classes_says_how_to_build_its_model(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    base = tiny_bert(num_labels=2)
    with pytest.raises(ValueError, match=r"has 3 classes, and this model has 2: build the model with num_labels=3"):
        PeftModel.from_pretrained(base, tmp_path)


def test_a_pickled_adapter_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    as_peft_saves(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=r"adapter_model.bin is a pickle.*python -c .*weights_only=True"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)


def test_an_adapters_base_may_be_renamed(tmp_path: Path) -> None:
    model = trained()
    model.save_pretrained(tmp_path)
    change_config(base_model_name_or_path="org/published")(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == logits(model)


def test_each_of_two_adapters_loads_alone(tmp_path: Path) -> None:
    model = tiny_peft()
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    rng = np.random.default_rng(1)
    for parameter in model.adapter_parameters("second").values():
        parameter.data = rng.standard_normal(parameter.shape).astype(np.float32)
    model.set_adapter("second")
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", WEIGHTS, "second"]
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path / "second")) == logits(model)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path, subfolder="second")) == logits(model)


def test_loading_says_what_else_a_config_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    as_peft_saves(tmp_path)
    change_config(target_modules=["query", "value", "q_proj"], newer_size=7)(tmp_path)
    with caplog.at_level("INFO", "npora"):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    assert "q_proj match nothing in this model" in caplog.text and "newer_size" in caplog.text


def test_a_config_is_read_from_wherever_its_adapter_is(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path / "adapter")
    assert PeftConfig.from_pretrained(tmp_path) == LoraConfig.from_pretrained(tmp_path / "adapter")
    assert PeftConfig.from_pretrained(tmp_path, subfolder="adapter").r == 2


def test_a_config_of_another_kind_is_named(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    base = tiny_bert()
    for use in (
        lambda: get_peft_model(base, {"r": 8}),  # type: ignore[arg-type]
        lambda: tiny_peft().add_adapter("second", {"r": 8}),  # type: ignore[arg-type]
        lambda: PeftModel.from_pretrained(base, tmp_path, config={"r": 8}),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"must be one of npora's, .*LoraConfig.*; got a builtins\.dict"):
            use()


class Drawn(BertForSequenceClassification):
    """A BERT that says it drew its pooler and its head, as one that was read from a checkpoint without them."""

    def newly_initialized_modules(self) -> tuple[str, ...]:
        return ("bert.pooler", "classifier")


@pytest.mark.parametrize("task", ["SEQ_CLS", None])
def test_what_a_model_drew_is_trained_and_saved_with_its_adapter(tmp_path: Path, task: str | None) -> None:
    def model(seed: int) -> BertForSequenceClassification:
        drawn = spread(Drawn(BertConfig(**SIZES, num_labels=3), rng=0), 0)
        for parameter in (*drawn.bert.pooler.parameters(), *drawn.classifier.parameters()):
            parameter.data = np.random.default_rng(seed).standard_normal(parameter.shape).astype(np.float32)
        return drawn

    adapted = get_peft_model(model(42), LoraConfig(task_type=task))
    assert adapted.peft_config["default"].modules_to_save == ["bert.pooler"] + ["classifier"] * (task is None)
    adapted.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    adapted.save_pretrained(tmp_path)
    for place, seed in ((tmp_path, 43), (tmp_path / "second", 44)):
        assert sum("pooler" in name for name in load_file(place / WEIGHTS)) == 2
        assert logits(PeftModel.from_pretrained(model(seed), place)) == logits(adapted)
    change_config(task_type=None, modules_to_save=None, target_modules=["key"])(tmp_path / "second")
    tensors = {k: np.array(v) for k, v in load_file(tmp_path / "second" / WEIGHTS).items() if "lora_" in k}
    save_file(tensors, tmp_path / "second" / WEIGHTS)  # as PEFT saves one that brings nothing of it
    assert logits(PeftModel.from_pretrained(model(45), tmp_path / "second")) == logits(model(45))


def test_a_module_whose_tensors_are_missing_is_named_with_the_way_to_leave_it_out(tmp_path: Path) -> None:
    expected = as_peft_saves(tmp_path)
    change_config(target_modules=["query", "value", "pooler.dense"])(tmp_path)
    with pytest.raises(
        ValueError, match=r"missing: .*pooler\.dense\.lora_A.*; exclude_modules in the config leaves out"
    ):
        PeftModel.from_pretrained(tiny_bert(), tmp_path)
    change_config(exclude_modules=["dense"])(tmp_path)
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == expected
