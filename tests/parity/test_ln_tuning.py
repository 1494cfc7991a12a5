"""LN tuning against PEFT: the same names, numbers and gradients, merged too, and files that each reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import AutoModelForCausalLM, LNTuningConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora.methods.ln_tuning import DEFAULTS
from tests.parity.both import assert_same_logits, backward, batch, moved
from tests.parity.reference import (
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

CASES: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"target_modules": ["LayerNorm"]}),
    ("bert", {"target_modules": r".*layer\.1.*LayerNorm", "modules_to_save": ["pooler.dense"]}),
    ("gpt2", {}),
    ("gpt2", {"target_modules": ["ln_1", "ln_f"], "exclude_modules": ["h.0.ln_1"]}),
]
every_case = pytest.mark.parametrize(("family", "config"), CASES, ids=str)


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
    theirs = randomize(peft.get_peft_model(theirs, peft.LNTuningConfig(**config, task_type=task))).eval()
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


@every_case
def test_an_adapter_of_npora_loads_in_peft_with_its_names_counts_and_outputs(
    tmp_path: Path, family: str, config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, base, task = pair(family, tmp_path / "base")
    ours = moved(get_peft_model(base, LNTuningConfig(**config, task_type=task)))
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()
    assert_same_logits(ours, theirs)
    theirs = peft.get_peft_model(pair(family, tmp_path / "again")[0], peft.LNTuningConfig(**config, task_type=task))
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
    assert saved.keys() == wanted.keys()


@pytest.mark.usefixtures("t5_norm_in_float64")
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_norms_by_the_root_of_the_mean_square_have_a_scale_alone(tmp_path: Path, family: str) -> None:
    folder = save_folder(tmp_path / "base", family)
    auto = {"llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM"}[family]
    ours = get_peft_model(getattr(npora, auto).from_pretrained(folder, dtype=np.float64), LNTuningConfig())
    moved(ours).save_pretrained(tmp_path / "adapter")
    theirs = getattr(transformers, auto).from_pretrained(folder, dtype=torch.float64).eval()
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    ids = {"input_ids": np.array([[4, 6, 5, 9, 3], [7, 8, 3, 11, 4]])}
    if family == "t5":
        ids["decoder_input_ids"] = np.array([[0, 4, 6], [0, 12, 9]])
    tolerance = 1e-5 if family == "llama" else 1e-11  # transformers' Llama takes its norms and angles in float32
    assert_close(ours(**ids)[0].logits, loaded(**tensors(ids)).logits, tolerance)


def test_the_defaults_are_pefts() -> None:
    constants = pytest.importorskip("peft.utils.constants")
    theirs = constants.TRANSFORMERS_MODELS_TO_LNTUNING_TARGET_MODULES_MAPPING
    assert {kind: set(names) for kind, names in DEFAULTS.items()} == {kind: set(theirs[kind]) for kind in DEFAULTS}
    assert not {"bert", "roberta", "distilbert"} & set(theirs)
