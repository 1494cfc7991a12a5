"""A config's values are of their field's kind, in every family."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from npora.models import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    MPNetConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    T5Config,
)

DECODERS: list[Any] = [
    Gemma3TextConfig, GPT2Config, LlamaConfig, MistralConfig, Olmo2Config, Phi3Config, Qwen2Config, Qwen3Config,
    SmolLM3Config, T5Config,
]  # fmt: skip
CONFIGS: list[Any] = [
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    ModernBertConfig,
    *DECODERS,
]
_WRONG = {"float": ["0.1", True, [0.1]], "int": ["3", 3.5, True], "bool": ["false", 0, None]}
_TYPED = [
    (kind, f.name, value)
    for kind in CONFIGS
    for f in fields(kind)
    for value in _WRONG.get(str(f.type).split(" | ")[0], [])
    if not (value is None and f.default is None)
]


@pytest.mark.parametrize(("kind", "name", "value"), _TYPED)
def test_a_value_of_another_kind_than_its_field_is_refused_by_name(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"config: {name} .*(must|is not)"):
        kind.from_dict({name: value})


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_that_is_not_causal_is_refused(kind: Any) -> None:
    kind.from_dict({"is_causal": True})
    with pytest.raises(ValueError, match="is_causal=False is not supported"):
        kind.from_dict({"is_causal": False})


@pytest.mark.parametrize("said", [
    {"rope_parameters": "a"}, {"rope_parameters": {"full_attention": "a"}}, {"rope_scaling": "a"},
    {"rope_parameters": {"sliding_attention": 3}}, {"rope_scaling": [1]},
])  # fmt: skip
def test_angles_that_are_no_mapping_are_refused_by_name_where_kinds_of_layers_have_their_own(said: Any) -> None:
    with pytest.raises(ValueError, match=rf"config: {next(iter(said))} must"):
        ModernBertConfig.from_dict(said)


def test_classes_beyond_a_hundred_thousand_are_named() -> None:
    with pytest.raises(ValueError, match="num_labels is 100001; more than 100,000 classes need id2label"):
        BertConfig.from_dict({"num_labels": 100_001})


def test_of_a_long_value_the_beginning_is_said() -> None:
    value = {"a": "x" * 300}
    with pytest.raises(ValueError) as error:
        BertConfig.from_dict({"quantization_config": value})
    assert f"config: quantization_config={str(value)[:199]}… is not supported: " in str(error.value)
