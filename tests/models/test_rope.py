"""What a config says of rotary positions: read from newer and older files, checked, and written for both."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import read_json, write_json
from npora.models import AutoModelForCausalLM, LlamaConfig
from npora.models.auto import tasks_of
from npora.nn.functional import frequencies
from npora.nn.rotary import linear, llama3
from tests.tiny_decoders import FAMILIES, tiny_decoder

LINEAR = {"rope_type": "linear", "factor": 3.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
ONE_BASE = [family for family in FAMILIES if family not in ("gemma3_text", "phi3")]
SHAPE = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "max_position_embeddings": 100,
}


def without(name: str, scaling: dict[str, Any] = LLAMA3) -> dict[str, Any]:
    return {key: value for key, value in scaling.items() if key != name}


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({}, None, None),
        ({"rope_theta": 7.0}, 7.0, None),
        ({"rope_theta": 7.0, "rope_scaling": None, "rope_parameters": None}, 7.0, None),
        ({"rope_theta": 7.0, "rope_scaling": {"rope_type": "default"}}, 7.0, None),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}, 9.0, None),
        ({"rope_theta": 7.0, "rope_parameters": {"rope_theta": 9.0}}, 9.0, None),
        ({"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 3.0}}, 7.0, LINEAR),
        ({"rope_parameters": {**LINEAR, "rope_theta": 9.0}}, 9.0, LINEAR),
        ({"rope_theta": 7.0, "rope_scaling": LLAMA3}, 7.0, LLAMA3),
        ({"rope_theta": 7.0, "rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 9.0}}, 7.0, LLAMA3),
        ({"rope_parameters": {**LLAMA3, "rope_theta": 9.0}}, 9.0, LLAMA3),
        (
            {"rope_scaling": without("original_max_position_embeddings")}, None,
            {**LLAMA3, "original_max_position_embeddings": 100},
        ),
        ({"rope_parameters": {"rope_theta": 9.0, "own": 1}}, 9.0, {"rope_type": "default", "own": 1}),
        ({"rope_scaling": {**LINEAR, "own": 1}}, None, {**LINEAR, "own": 1}),
    ],
)  # fmt: skip
def test_base_and_scaling_are_where_newer_and_older_files_put_them(
    fields: dict[str, Any], theta: float | None, scaling: dict[str, Any] | None
) -> None:
    """Where nobody names a base it is the family's usual one."""
    for family in ONE_BASE:
        kind: Any = tasks_of(family)["CausalLM"].config_class
        config, base = kind.from_dict({**SHAPE, **fields}), theta or kind.rope_theta
        assert (config.rope_theta, config.rope_scaling) == (base, scaling)
        written = config.to_dict()
        assert kind.from_dict(written) == config
        assert written["rope_parameters"] == {"rope_type": "default", "rope_theta": base, **(scaling or {})}
        scaled = scaling is not None and scaling["rope_type"] != "default"
        assert written.get("rope_scaling") == (scaling if scaled else None)


def test_frequencies_are_scaled_as_the_config_says() -> None:
    omega = frequencies(8, 7.0)
    numbers = without("rope_type")
    for scaling, expected in ((None, omega), (LINEAR, linear(omega, factor=3.0)), (LLAMA3, llama3(omega, **numbers))):
        config = LlamaConfig(**SHAPE, rope_theta=7.0, rope_scaling=scaling)
        np.testing.assert_array_equal(config.frequencies(), expected)
    assert LlamaConfig(**SHAPE, rope_scaling={**LINEAR, "rope_theta": 7.0}).rope_theta == 7.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "rope_type 'yarn' is not supported; npora has default",
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic' is not supported; npora has defau"),
        ({"rope_scaling": {"type": "linear"}}, "factor of rope_type 'linear' must be a number of at least 1; got None"),
        ({"rope_scaling": {**LINEAR, "factor": 0.5}}, "must be a number of at least 1; got 0.5"),
        ({"rope_scaling": {**LINEAR, "factor": "2"}}, "must be a number of at least 1; got '2'"),
        ({"rope_scaling": {**LINEAR, "factor": True}}, "must be a number of at least 1; got True"),
        ({"rope_scaling": {**LINEAR, "factor": float("nan")}}, "must be a number of at least 1; got nan"),
        ({"rope_scaling": without("low_freq_factor")}, "low_freq_factor of rope_type 'llama3' must be a number of at"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "low_freq_factor 1.0 of rope_type 'llama3' must be be"),
        ({"rope_scaling": {**LINEAR, "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5 is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported; only 1.0 is"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "rope_parameters that differ from layer to la"),
        ({"rope_scaling": "linear"}, "rope_scaling must map names to numbers; got 'linear'"),
        ({"rope_theta": 0}, "rope_theta must be a positive number; got 0"),
        ({"rope_theta": "1e4"}, "rope_theta must be a number; got '1e4'"),
        ({"rope_parameters": {"rope_theta": None, **LINEAR, "factor": None}}, "factor of rope_type 'linear' must be"),
        ({"rope_scaling": {**LINEAR, "rope_theta": "1e4"}}, "rope_theta must be a number; got '1e4'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    for family in ONE_BASE:
        with pytest.raises(ValueError, match=re.escape(message)):
            tasks_of(family)["CausalLM"].config_class.from_dict({**SHAPE, **fields})


def test_what_the_caller_says_of_the_angles_counts_whatever_the_file_says(tmp_path: Path) -> None:
    tiny_decoder("llama", rope_theta=9.0).save_pretrained(tmp_path)
    written = read_json(tmp_path / "config.json")
    for older in ({}, {"rope_parameters": None}):
        write_json(tmp_path / "config.json", {**written, **older})

        def read(**fields: Any) -> Any:
            config = AutoModelForCausalLM.from_pretrained(tmp_path, **fields).config
            return config.rope_theta, config.rope_scaling

        assert read() == (9.0, None)
        assert read(rope_theta=5.0) == (5.0, None)
        assert read(rope_scaling=LINEAR) == (9.0, LINEAR)
        assert read(rope_parameters={**LLAMA3, "rope_theta": 5.0}) == (5.0, LLAMA3)


def test_the_least_and_the_most_that_are_honoured() -> None:
    least = {"factor": 1, "low_freq_factor": 0, "high_freq_factor": 0.5, "original_max_position_embeddings": 1}
    assert LlamaConfig(**SHAPE, rope_scaling={"rope_type": "llama3", **least}).rope_scaling is not None
    assert LlamaConfig(**SHAPE, rope_scaling={**LINEAR, "factor": 1}).rope_scaling is not None
    assert LlamaConfig(**{**SHAPE, "head_dim": 16_384}).head_dim == 16_384
    with pytest.raises(ValueError, match=r"head_dim is 16,386; at most 16,384"):
        LlamaConfig(**{**SHAPE, "head_dim": 16_386})


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({**LINEAR, "own": 1, "beta": 2}, "config: rope_type 'linear' does not read 'beta', 'own': not used"),
        ({"rope_type": "default", "factor": 3.0}, "config: rope_type 'default' does not read 'factor': not used"),
        ({**LINEAR, "partial_rotary_factor": 1.0}, None),
        (LLAMA3, None),
    ],
)
def test_what_a_scaling_does_not_read_is_said(
    scaling: dict[str, Any], message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "npora"):
        LlamaConfig.from_dict({**SHAPE, "rope_scaling": scaling})
    assert caplog.messages == ([] if message is None else [message])
