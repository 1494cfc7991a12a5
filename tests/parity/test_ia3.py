"""(IA)³ against PEFT: the same targets, names, numbers and gradients, merged too, and files that each reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import AutoModelForCausalLM, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora import IA3Config
from tests.parity.both import assert_same_logits, backward, batch, moved
from tests.parity.encoders import LABELS as CLASSES
from tests.parity.encoders import ours as npora_encoder
from tests.parity.encoders import reference as reference_encoder
from tests.parity.reference import (
    BATCH,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    tensors,
    torch,
    transformers,
)  # fmt: skip
from tests.parity.reference_gpt2 import reference_gpt2
from tests.parity.test_peft import peft, randomize
from tests.tiny_folders import save_folder

BERT: dict[str, dict[str, Any]] = {
    "defaults": {},
    "outputs alone": {"target_modules": ["query", "value"], "feedforward_modules": []},
    "default inputs of named targets": {"target_modules": ["value", "output.dense", "pooler.dense"]},
    "default inputs under other names": {"target_modules": ["key", "layer.1.output.dense", "intermediate.dense"]},
    "patterns": {"target_modules": r".*layer\.1.*\.(key|dense)", "feedforward_modules": r".*intermediate\.dense"},
    "all linear": {"target_modules": "all-linear"},
    "some excluded": {"exclude_modules": ["attention.output.dense"], "modules_to_save": ["pooler.dense"]},
}
GPT2: dict[str, dict[str, Any]] = {
    "defaults": {},
    "an end of two names": {"target_modules": ["c_fc", "c_proj"], "feedforward_modules": ["c_proj"]},
}
CASES = [("bert", c) for c in BERT.values()] + [("gpt2", c) for c in GPT2.values()]
every_case = pytest.mark.parametrize(("family", "config"), CASES, ids=[*BERT, *(f"GPT-2, {name}" for name in GPT2)])


def pair(family: str, directory: Path) -> tuple[Any, Any, str]:
    """A base of transformers, the same of npora, and the task."""
    if family == "bert":
        return reference_bert(directory), npora_bert(directory), "SEQ_CLS"
    theirs = reference_gpt2(directory)
    return theirs, AutoModelForCausalLM.from_pretrained(directory, dtype=np.float64), "CAUSAL_LM"


@every_case
def test_an_adapter_of_peft_loads_with_the_same_outputs_gradients_and_merged_weights(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    theirs, base, task = pair(family, tmp_path / "base")
    theirs = randomize(peft.get_peft_model(theirs, peft.IA3Config(**config, task_type=task))).eval()
    if "target_modules" in config and "feedforward_modules" not in config:
        # PEFT would not read back what it writes of these either: its one list is no part of the other.
        theirs.peft_config["default"].feedforward_modules = r".*output\.dense"
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same_logits(ours, theirs)
    backward(ours, theirs)
    assert assert_same_gradients(ours, theirs, 1e-10) >= 4
    with ours.disable_adapter(), theirs.disable_adapter():
        assert_same_logits(ours, theirs)
    before = ours(**batch(ours))[0].logits
    ours.merge_adapter()
    assert_same_logits(ours, theirs)
    ours.unmerge_adapter()
    assert ours(**batch(ours))[0].logits.tobytes() == before.tobytes()
    ours, theirs = ours.merge_and_unload(), theirs.merge_and_unload()
    assert_same_logits(ours, theirs)
    values = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert_close(parameter.data, values[name], 1e-14)


@every_case
def test_an_adapter_of_npora_loads_in_peft_with_its_names_counts_and_outputs(
    tmp_path: Path, family: str, config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, base, task = pair(family, tmp_path / "base")
    ours = moved(get_peft_model(base, IA3Config(**config, task_type=task)))
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()
    assert_same_logits(ours, theirs)
    theirs = peft.get_peft_model(theirs.unload(), peft.IA3Config(**config, task_type=task))
    shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
    assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
    ours.print_trainable_parameters()
    theirs.print_trainable_parameters()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    theirs.save_pretrained(tmp_path / "theirs")
    found, expected = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("adapter", "theirs"))
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in expected.items()}
    saved, wanted = (json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in ("adapter", "theirs"))
    assert saved.keys() == wanted.keys() and saved["fan_in_fan_out"] == wanted["fan_in_fan_out"]
    for name, value in expected.items():
        assert "ia3_l" not in name or (value == 1).all(), "a fresh one of PEFT"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_second_adapter_beside_the_first_is_pefts(tmp_path: Path, family: str) -> None:
    theirs, base, task = pair(family, tmp_path / "base")
    theirs, ours = (
        peft.get_peft_model(theirs, peft.IA3Config(task_type=task)).eval(),
        moved(get_peft_model(base, IA3Config(task_type=task))),
    )
    only = {"target_modules": ["value"] if family == "bert" else ["c_attn"], "feedforward_modules": []}
    theirs.add_adapter("second", peft.IA3Config(**only, task_type=task))
    ours.add_adapter("second", IA3Config(**only, task_type=task))
    ours.set_adapter("second")
    moved(ours, 3)
    values = {name: parameter.data for name, parameter in ours.named_parameters()}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.tensor(np.array(values[name])))
    for name in ("second", "default"):
        theirs.set_adapter(name)
        ours.set_adapter(name)
        assert_same_logits(ours, theirs)
    merged = (model.merge_and_unload(adapter_names=["default", "second"]) for model in (ours, theirs))
    assert_same_logits(*merged)


def test_distilbert_has_no_default_in_peft_and_none_here(tmp_path: Path) -> None:
    head = "SequenceClassification"
    theirs = reference_encoder("distilbert", head, tmp_path)
    for named in ({}, {"target_modules": ["v_lin", "lin2"]}, {"feedforward_modules": ["lin2"]}):
        with pytest.raises(ValueError, match="Please specify"):
            peft.get_peft_model(theirs, peft.IA3Config(**named))
        with pytest.raises(ValueError, match=r"no defaults for a model of the type 'distilbert': name target_modules"):
            get_peft_model(npora_encoder(head, tmp_path), IA3Config(**named))
    named = {"target_modules": ["v_lin", "lin2"], "feedforward_modules": ["lin2"]}
    theirs = randomize(peft.get_peft_model(theirs, peft.IA3Config(**named))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_encoder(head, tmp_path), tmp_path / "adapter", is_trainable=True)
    ids = {key: BATCH[key] for key in ("input_ids", "attention_mask")}
    output, backward = ours(**ids, labels=CLASSES[head])
    expected = theirs(**tensors(ids), labels=torch.tensor(CLASSES[head]))
    assert_close(output.logits, expected.logits, 1e-12)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, 1e-10) == 4


T5_ENDS = {"target_modules": ["o", "wo"], "feedforward_modules": ["o"]}  # in PEFT "o" is an end of "wo" too


@pytest.mark.usefixtures("t5_norm_in_float64")
@pytest.mark.parametrize(
    ("family", "config"), [("roberta", {}), ("llama", {}), ("t5", {}), ("t5", T5_ENDS)], ids=lambda part: str(part)[:9]
)
def test_other_families_have_pefts_defaults_and_scale_the_same(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    folder = save_folder(tmp_path / "base", family)
    auto = {"llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM", "roberta": "AutoModelForMaskedLM"}[family]
    ours = get_peft_model(getattr(npora, auto).from_pretrained(folder, dtype=np.float64), IA3Config(**config))
    moved(ours).save_pretrained(tmp_path / "adapter")
    theirs = getattr(transformers, auto).from_pretrained(folder, dtype=torch.float64).eval()
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    batch = {"input_ids": np.array([[4, 6, 5, 9, 3], [7, 8, 3, 11, 4]])}
    if family == "t5":
        batch["decoder_input_ids"] = np.array([[0, 4, 6], [0, 12, 9]])
    tolerance = 1e-5 if family == "llama" else 1e-11  # transformers' Llama takes its norms and angles in float32
    assert_close(ours(**batch)[0].logits, loaded(**tensors(batch)).logits, tolerance)
    fresh = peft.get_peft_model(
        getattr(transformers, auto).from_pretrained(folder, dtype=torch.float64), peft.IA3Config(**config)
    )
    shapes = {name: tuple(p.shape) for name, p in fresh.named_parameters() if p.requires_grad}
    assert shapes == {name: p.shape for name, p in ours.named_parameters() if p.requires_grad}


def test_the_defaults_are_pefts() -> None:
    utils = pytest.importorskip("peft.utils.constants")
    from npora.lora.methods.ia3 import DEFAULTS

    for kind, (targets, scaled) in DEFAULTS.items():
        assert set(targets) == set(utils.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[kind])
        assert set(scaled) == set(utils.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind])
