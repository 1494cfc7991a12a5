"""What lies beside the weights: configs, a tokenizer's files, adapters. What is read is kept, what is not is said."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import AutoModelForCausalLM, AutoModelForSequenceClassification, LoraConfig, get_peft_model
from npora.files import load_file, save_file
from npora.models import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    RobertaModel,
    T5Config,
)
from tests.models.test_generation_families import FAMILIES
from tests.tiny import SIZES, tiny_bert
from tests.tiny_encoders import tiny_encoder

IDS = np.array([[3, 5, 7], [2, 4, 1]])
CONFIGS: list[Any] = [BertConfig, DistilBertConfig, GPT2Config, Gemma3TextConfig, LlamaConfig, Qwen3Config, T5Config]
TOKENIZER = {
    "tokenizer.json": b"{}", "tokenizer_config.json": b'{"a": 1}', "vocab.txt": b"a\nb\n", "spiece.model": b"\0\1",
    "chat_template.jinja": b"{{ x }}",
}  # fmt: skip


def load(directory: Path, **keywords: Any) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(directory, **keywords)


def rewrite(directory: Path, name: str = "config.json", **changes: Any) -> None:
    path = directory / name
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **changes}))


def config_of(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return values


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from(CONFIGS), st.dictionaries(st.from_regex(r"\A[a-z_]{2,8}_x\Z"), JSON, max_size=4))
def test_what_a_config_says_besides_is_kept(kind: Any, further: dict[str, Any]) -> None:
    values = {**kind().to_dict(), **further}
    config = kind.from_dict(values)
    assert config.to_dict() == values
    assert all(getattr(config, name) == value for name, value in further.items())


def test_a_config_goes_through_load_and_save_with_all_it_says(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path / "a")
    further = {
        "architectures": ["BertModel"], "transformers_version": "4.30.2", "torch_dtype": "float16",
        "task_specific_params": {"x": {"max_length": 9}}, "finetuning_task": "sst2", "use_cache": True, "own": [1, {}],
        "_name_or_path": "bert-base", "id2label": {"0": "no", "1": "perhaps", "2": "yes"},
        "label2id": {"no": 0, "perhaps": 1, "yes": 2},
    }  # fmt: skip
    rewrite(tmp_path / "a", **further)
    load(tmp_path / "a").save_pretrained(tmp_path / "b")
    load(tmp_path / "b").save_pretrained(tmp_path / "c")
    expected = {
        **config_of(tmp_path / "a"), "architectures": ["BertForSequenceClassification"],
        "torch_dtype": "float32",  # which the weights are now
    }  # fmt: skip
    assert config_of(tmp_path / "b") == config_of(tmp_path / "c") == expected


def test_a_merged_folder_is_complete(tmp_path: Path) -> None:
    FAMILIES["gpt2"]().save_pretrained(tmp_path / "base")
    rewrite(tmp_path / "base", own=1)
    rewrite(tmp_path / "base", "generation_config.json", eos_token_id=[3, 5], repetition_penalty=1.5)
    for name, content in TOKENIZER.items():
        (tmp_path / "base" / name).write_bytes(content)
    (tmp_path / "base" / "optimizer.pt").write_bytes(b"not a tokenizer's")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), LoraConfig(r=2))
    merged: Any = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        *TOKENIZER, "config.json", "generation_config.json", "model.safetensors"
    }  # fmt: skip
    for name, content in TOKENIZER.items():
        assert (tmp_path / "merged" / name).read_bytes() == content
    assert config_of(tmp_path / "merged")["own"] == 1
    said = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert said == {"eos_token_id": [3, 5], "repetition_penalty": 1.5}


def test_a_tokenizer_that_is_there_already_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "vocab.txt").write_text("a")
    model = load(tmp_path / "a")
    for name in ("b", "b", "a"):  # into a new directory, into that again, and into its own
        model.save_pretrained(tmp_path / name)
    assert not caplog.records and (tmp_path / "b" / "vocab.txt").read_text() == "a"
    (tmp_path / "b" / "vocab.txt").write_text("with a word more")
    model.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "vocab.txt").read_text() == "with a word more"
    assert "has a tokenizer that is not the one in" in caplog.text


@pytest.mark.parametrize("inside", ["", "adapter"])
@pytest.mark.parametrize("loader", [AutoModelForSequenceClassification, BertForSequenceClassification])
def test_an_adapter_in_the_place_of_a_model_is_named_with_its_base(tmp_path: Path, inside: str, loader: Any) -> None:
    tiny_bert().save_pretrained(tmp_path / "base")
    model = get_peft_model(load(tmp_path / "base"), LoraConfig(r=2, task_type="SEQ_CLS"))
    model.save_pretrained(tmp_path / "out" / inside)
    with pytest.raises(FileNotFoundError) as error:
        loader.from_pretrained(tmp_path / "out")
    assert f"is an adapter of '{tmp_path / 'base'}', and no model" in str(error.value)
    assert "PeftModel.from_pretrained(model, " in str(error.value)


def test_an_adapter_beside_the_weights_is_said_and_none_is_saved_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_bert().save_pretrained(tmp_path / "m")
    model = get_peft_model(load(tmp_path / "m"), LoraConfig(r=2, task_type="SEQ_CLS"))
    model.save_pretrained(tmp_path / "m")
    base = load(tmp_path / "m")
    assert caplog.text.count("holds an adapter beside the weights") == 1 and "the adapter is not" in caplog.text
    with pytest.raises(ValueError, match="transformers would load with a model saved beside it"):
        base.save_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "quantization_config={'quant",
        ),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads={'0': [1]} is not supported: npora computes every head"),
        ({"per_layer_config": {"0": {"num_attention_heads": 1}}}, "per_layer_config="),
        ({"id2label": {"0": "a", "2": "b"}, "num_labels": 2}, "id2label names 2 classes, numbered 0, 2"),
        ({"num_labels": 5, "id2label": {"0": "a", "1": "b", "2": "c"}}, "expected num_labels=5 of them"),
        ({"problem_type": "ranking"}, "problem_type must be one of"),
    ],
    ids=str,
)
def test_what_would_change_the_computation_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    tiny_bert().save_pretrained(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (T5Config, {"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"}, "dense_act_fn='silu' contradicts"),
        (T5Config, {"feed_forward_proj": "relu", "is_gated_act": True}, "is_gated_act=True contradicts"),
        (GPT2Config, {"n_embd": 8, "n_head": 2, "hidden_size": 16}, "n_embd is 8, and 16 under another of its names"),
        (LlamaConfig, {"rope_parameters": {"full": {"rope_type": "default"}}}, "differ from layer to layer"),
    ],
    ids=str,
)
def test_fields_that_contradict_each_other_are_an_error(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        kind.from_dict(values)
    assert message in str(error.value)


def test_code_of_a_checkpoints_own_is_said_not_to_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path)
    rewrite(tmp_path, auto_map={"AutoModel": "modeling.Own"})
    load(tmp_path, trust_remote_code=True)
    assert "code of the checkpoint's own (auto_map): npora runs none" in caplog.text


def test_a_config_of_another_kind_of_model_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body: Any = tiny_bert().bert
    body.save_pretrained(tmp_path)  # its names have no prefix, so that a RoBERTa would take it, with other positions
    BertModel.from_pretrained(tmp_path)
    assert not caplog.records
    RobertaModel.from_pretrained(tmp_path)
    assert "config.json is of a bert, and is read as that of a roberta" in caplog.text


def test_what_transformers_takes_when_it_saves_is_accepted_or_named(tmp_path: Path) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path, safe_serialization=True, push_to_hub=False)
    with pytest.raises(ValueError, match=r"safe_serialization=False has no meaning in npora: npora writes safetensors"):
        model.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(TypeError, match=r"save_pretrained\(\) got an unexpected keyword argument 'safe_serialisation'"):
        model.save_pretrained(tmp_path, safe_serialisation=True)


def test_names_of_classes_that_contradict_each_other_in_a_file_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_bert().save_pretrained(tmp_path)
    rewrite(tmp_path, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 1, "b": 0, "c": 2})
    load(tmp_path)
    assert "is not the inverse of id2label" in caplog.text


def without(directory: Path, *ends: str) -> None:
    path = directory / "model.safetensors"
    state = {k: np.array(v) for k, v in load_file(path).items() if not any(end in k for end in ends)}
    save_file(state, path)


def test_what_is_newly_drawn_is_said_when_it_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path / "m")
    without(tmp_path / "m", "pooler")
    uses: list[Any] = [lambda model: model(IDS), lambda model: model.save_pretrained(tmp_path / "n")]
    for use in uses:
        caplog.clear()
        model = load(tmp_path / "m")
        assert not caplog.records
        use(model)
        use(model)
        assert caplog.text.count("newly initialised") == 1 and "bert.pooler.dense.weight" in caplog.text
        assert model.newly_initialized == ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
        assert model.newly_initialized_modules() == ("bert.pooler",)


def test_what_is_newly_drawn_is_said_when_it_generates() -> None:
    with TemporaryDirectory() as directory, TestCase().assertLogs("npora", "WARNING") as logs:
        FAMILIES["gpt2"]().save_pretrained(directory)
        size = config_of(Path(directory))["vocab_size"] + 1
        model: Any = AutoModelForCausalLM.from_pretrained(directory, vocab_size=size, ignore_mismatched_sizes=True)
        model.generate(np.array([[3, 8]]), max_new_tokens=1)
    assert "newly initialised" in logs.output[0] and "transformer.wte.weight" in logs.output[0]


def test_a_pickle_beside_an_adapters_config_is_a_model_to_be_converted(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle.*convert it"):
        load(tmp_path)


def test_only_what_is_random_has_to_be_saved_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a new masked-language head the projection is drawn; its bias and its norm begin as zeros and ones."""
    tiny_encoder("bert", "TokenClassification").save_pretrained(tmp_path)
    model: Any = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert model.newly_initialized_modules() == ("cls.predictions.transform",)
    for parameter in model.cls.predictions.transform.parameters():
        parameter.data = parameter.data + 1
    model(IDS)
    assert model.newly_initialized == ("cls.predictions.bias",)
    assert "newly initialised" not in caplog.text


def test_what_is_brought_before_it_is_used_is_no_longer_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path / "m")
    without(tmp_path / "m", "pooler", "classifier")
    model = load(tmp_path / "m")
    assert model.newly_initialized_modules() == ("bert.pooler", "classifier")
    model.load_state_dict(tiny_bert(seed=1).state_dict())
    model(IDS)
    assert model.newly_initialized == model.newly_initialized_modules() == ()
    assert not caplog.records


def test_a_head_that_an_adapter_trains_or_brings_is_not_said_to_be_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_bert().save_pretrained(tmp_path / "m")
    without(tmp_path / "m", "classifier")
    config = LoraConfig(r=2, task_type="SEQ_CLS")
    model = get_peft_model(load(tmp_path / "m"), config)
    model(IDS)
    assert not caplog.records
    with model.disable_adapter():
        assert model.get_base_model().newly_initialized == ("classifier.weight", "classifier.bias")  # type: ignore[attr-defined]
    merged: Any = model.merge_and_unload()
    merged.classifier.weight.data = merged.classifier.weight.data + 1
    assert merged.newly_initialized == ()


def test_a_field_can_be_read_under_its_other_names() -> None:
    config = GPT2Config(n_embd=8, n_head=2)
    assert (config.hidden_size, config.num_attention_heads) == (8, 2)
    assert not hasattr(config, "hidden_sizes") and SIZES["hidden_size"] == BertConfig(**SIZES).hidden_size
