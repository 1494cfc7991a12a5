"""Adapters on GPT-2 against PEFT: Conv1D's shapes, counts, gradients, generation, and files both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch
from tests.parity.reference_gpt2 import BATCH, REAL, reference_gpt2
from tests.parity.test_gpt2 import BACKWARD, CLASSES, FORWARD, LABELS, causal_loss
from tests.parity.test_peft import peft, randomize

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {"target_modules": None},
    "attention": {"target_modules": ["c_attn"]},
    "every Conv1D": {"target_modules": ["c_attn", "c_proj", "c_fc"]},
    "all linear": {"target_modules": "all-linear"},
    "one output": {"target_modules": ["mlp.c_proj"], "use_rslora": True},
    "biases": {"target_modules": ["c_fc"], "bias": "lora_only"},
    "some layers": {"target_modules": ["c_attn"], "layers_to_transform": [1]},
    "positions": {"target_modules": ["wpe", "c_fc"]},
    "a bias of B": {"target_modules": ["c_attn"], "lora_bias": True},
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
every_task = pytest.mark.parametrize("task", ["CAUSAL_LM", "SEQ_CLS"])


def complete(config: dict[str, Any], task: str) -> dict[str, Any]:
    return {"r": 3, "lora_alpha": 5, "task_type": task, **config}


def pair(directory: Path, task: str) -> tuple[Any, Any]:
    """A base of transformers and the same of npora."""
    kind = "GPT2LMHeadModel" if task == "CAUSAL_LM" else "GPT2ForSequenceClassification"
    auto = AutoModelForCausalLM if task == "CAUSAL_LM" else AutoModelForSequenceClassification
    return reference_gpt2(directory, kind), auto.from_pretrained(directory, dtype=np.float64)


def assert_same_logits(ours: Any, theirs: Any, task: str) -> None:
    found, expected = ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits
    assert_close(found[REAL], expected[torch.tensor(REAL)], FORWARD) if task == "CAUSAL_LM" else assert_close(
        found, expected, FORWARD
    )


@every_config
@every_task
def test_an_adapter_of_peft_loads_with_the_same_outputs_and_gradients(
    tmp_path: Path, config: dict[str, Any], task: str
) -> None:
    theirs, base = pair(tmp_path / "base", task)
    theirs = randomize(peft.get_peft_model(theirs, peft.LoraConfig(**complete(config, task)))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same_logits(ours, theirs, task)
    if task == "CAUSAL_LM":
        ours(**BATCH, labels=LABELS)[1]()
        causal_loss(theirs(**tensors(BATCH)).logits).backward()
    else:
        ours(**BATCH, labels=CLASSES)[1]()
        theirs(**tensors(BATCH), labels=torch.tensor(CLASSES)).loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) >= 2
    merged = theirs.merge_and_unload()
    assert_same_logits(ours.merge_and_unload(), merged, task)


@every_config
@every_task
def test_an_adapter_of_npora_loads_in_peft_with_the_same_outputs(
    tmp_path: Path, config: dict[str, Any], task: str
) -> None:
    base, ours = pair(tmp_path / "base", task)
    ours = get_peft_model(ours, LoraConfig(**complete(config, task)))
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["fan_in_fan_out"] is True
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_same_logits(ours, theirs, task)


@every_config
@every_task
def test_names_counts_and_files_are_pefts(
    tmp_path: Path, config: dict[str, Any], task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = pair(tmp_path / "base", task)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**complete(config, task)))
    ours = get_peft_model(ours, LoraConfig(**complete(config, task)))
    shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
    assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
    capsys.readouterr()
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    ours.print_trainable_parameters()
    assert capsys.readouterr().out == expected
    files = []
    for model, name in ((ours, "ours"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / name)
        files.append(load_file(tmp_path / name / "adapter_model.safetensors"))
        assert json.loads((tmp_path / name / "adapter_config.json").read_text())["fan_in_fan_out"] is True
    assert {n: v.shape for n, v in files[0].items()} == {n: v.shape for n, v in files[1].items()}
    for name, value in files[0].items():  # as for a Linear, whichever way the base is stored
        assert (
            value.shape[0 if name.endswith(("lora_A.weight", "_A")) else -1] == 3
            or "lora_" not in name
            or value.ndim == 1
        )


def test_a_model_with_an_adapter_generates_what_pefts_does(tmp_path: Path) -> None:
    theirs, base = pair(tmp_path / "base", "CAUSAL_LM")
    plain = base.generate(BATCH["input_ids"][:1], max_new_tokens=4)
    config = complete(CONFIGS["every Conv1D"], "CAUSAL_LM")  # changes enough to change the tokens
    theirs = randomize(peft.get_peft_model(theirs, peft.LoraConfig(**config))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter")
    for options in ({}, {"num_beams": 2}):
        found = ours.generate(BATCH["input_ids"][:1], max_new_tokens=4, **options)
        expected = theirs.generate(torch.tensor(BATCH["input_ids"][:1]), max_new_tokens=4, **options)
        np.testing.assert_array_equal(found, expected.numpy())
        assert (found != plain).any()
    with ours.disable_adapter():
        np.testing.assert_array_equal(ours.generate(BATCH["input_ids"][:1], max_new_tokens=4), plain)


def test_an_adapter_on_the_tied_projection_is_pefts_and_merges_without_changing_the_embedding(tmp_path: Path) -> None:
    theirs, base = pair(tmp_path / "base", "CAUSAL_LM")
    config = {"r": 3, "lora_alpha": 5, "task_type": "CAUSAL_LM", "target_modules": ["c_attn", "lm_head"]}
    theirs = randomize(peft.get_peft_model(theirs, peft.LoraConfig(**config))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same_logits(ours, theirs, "CAUSAL_LM")
    ours(**BATCH, labels=LABELS)[1]()
    causal_loss(theirs(**tensors(BATCH)).logits).backward()
    assert_same_gradients(ours, theirs, BACKWARD)
    logits, before = ours(**BATCH)[0].logits, base.transformer.wte.weight.data.tobytes()
    merged = ours.merge_and_unload()
    np.testing.assert_allclose(merged(**BATCH)[0].logits, logits, rtol=0, atol=FORWARD)
    assert merged.transformer.wte.weight.data.tobytes() == before
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=np.float64)
    np.testing.assert_array_equal(again(**BATCH)[0].logits, merged(**BATCH)[0].logits)
    from_ours = type(theirs.get_base_model()).from_pretrained(tmp_path / "merged", dtype=torch.float64)
    assert_same_logits(again, from_ours, "CAUSAL_LM")
