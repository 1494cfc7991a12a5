"""LoraConfig: PEFT's fields, and no field that is silently ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npora import EvaConfig, LoHaConfig, LoraConfig
from npora.lora.config import PeftConfig
from npora.lora.starts.lora_ga import LoraGAConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "the rank must be a whole number of at least 1; got 0 for r"),
        ({"r": True}, "got True for r"),
        ({"rank_pattern": {"query": -1}}, "got -1 for query"),
        ({"lora_dropout": 1.0}, "lora_dropout must lie in [0, 1); got 1.0"),
        ({"lora_dropout": "0"}, "lora_dropout must lie in [0, 1); got '0'"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a finite number; got nan for lora_alpha"),
        ({"use_rslora": "false"}, "use_rslora must be True or False; got 'false'"),
        ({"bias": "some"}, "bias must be 'none', 'all' or 'lora_only'; got 'some'"),
        ({"init_lora_weights": "mica"}, "init_lora_weights='mica' is not supported"),
        ({"task_type": "CHAT"}, "task_type 'CHAT' is not one of CAUSAL_LM"),
        ({"peft_type": "LOHA"}, "peft_type 'LOHA' is not supported"),
        ({"lora_bias": 1}, "lora_bias must be True or False; got 1"),
        ({"lora_bias": True, "use_dora": True}, "lora_bias=True is for plain LoRA, as in PEFT; got use_dora=True"),
        ({"lora_bias": True, "init_lora_weights": "pissa"}, "plain LoRA, as in PEFT; got init_lora_weights='pissa'"),
        ({"use_dora": "yes"}, "use_dora must be True or False; got 'yes'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication=[[0, 1]] is not supported"),
        ({"layers_pattern": "layer"}, "layers_pattern needs layers_to_transform"),
        ({"layers_to_transform": 1, "target_modules": ".*query"}, "needs target_modules as a list"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        LoraConfig(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "the rank must be a whole number of at least 1; got 0 for r"),
        ({"alpha_pattern": {"query": None}}, "alpha must be a finite number; got None for query"),
        ({"rank_dropout": 0.1}, "LoHaConfig: rank_dropout=0.1 is not supported by npora; leave it out"),
        ({"module_dropout": 0.1}, "module_dropout=0.1 is not supported"),
        ({"init_weights": "gaussian"}, "init_weights must be True or False"),
        ({"layers_pattern": "layer"}, "layers_pattern needs layers_to_transform"),
    ],
)
def test_what_fields_may_hold_is_the_same_for_every_method(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        LoHaConfig(**changes)
    assert message in str(error.value)
    assert LoHaConfig(rank_dropout=0.0, use_effective_conv2d=True).alpha == 8


def test_the_defaults_are_pefts() -> None:
    config = LoraConfig()
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (8, 8, 0.0, "none")
    assert config.target_modules is None and config.init_lora_weights is True and not config.use_rslora
    assert LoraConfig(use_dora=False, lora_bias=False) == config  # idle fields may be named


def test_a_config_round_trips_through_its_file(tmp_path: Path) -> None:
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["value", "query"], rank_pattern={"query": 4}, task_type="SEQ_CLS"
    )
    config.save_pretrained(tmp_path)
    again = LoraConfig.from_pretrained(tmp_path)
    assert again.inference_mode  # as PEFT writes it
    again.inference_mode = False
    assert again == config and again.target_modules == ["query", "value"]


def test_an_unknown_field_that_says_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "novel": None, "r": 4}))
    assert LoraConfig.from_pretrained(tmp_path).r == 4
    path.write_text(json.dumps({"peft_type": "LORA", "novel": {"a": 1}}))
    with pytest.raises(ValueError, match="does not know the fields novel"):
        LoraConfig.from_pretrained(tmp_path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="it is not the config of an adapter"):
        LoraConfig.from_pretrained(tmp_path)


def test_the_scale_is_alpha_over_r_or_over_its_root() -> None:
    assert LoraConfig(r=4, lora_alpha=6).rank_and_scaling("query") == (4, 1.5)
    assert LoraConfig(r=4, lora_alpha=6, use_rslora=True).rank_and_scaling("query") == (4, 3.0)


PEFTS: dict[str, dict[str, float]] = {
    "LORA": {"r": 8, "lora_alpha": 8, "lora_dropout": 0}, "LOHA": {"r": 8, "alpha": 8},
    "LOKR": {"r": 8, "alpha": 8, "decompose_factor": -1}, "HIRA": {"r": 32}, "HRA": {"r": 8},
    "MISS": {"r": 64, "mini_r": 1}, "FOURIERFT": {"n_frequency": 1000, "scaling": 150, "random_loc_seed": 777},
    "VERA": {"r": 256, "d_initial": 0.1, "projection_prng_key": 0}, "ROAD": {"group_size": 64},
    "OFT": {"r": 0, "oft_block_size": 32, "eps": 6e-5, "num_cayley_neumann_terms": 5},
    "ADALORA": {"init_r": 12, "target_r": 8, "tinit": 0, "tfinal": 0, "deltaT": 1, "beta1": 0.85, "beta2": 0.85,
                "orth_reg_weight": 0.5, "lora_alpha": 8},
}  # fmt: skip


def test_the_numbers_that_a_config_begins_with_are_pefts() -> None:
    for kind, expected in PEFTS.items():
        assert {name: getattr(PeftConfig.kinds[kind], name) for name in expected} == expected
    assert (LoraGAConfig().stable_gamma, EvaConfig().rho, EvaConfig().tau) == (16, 2.0, 0.99)
