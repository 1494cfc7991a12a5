"""VeRA against PEFT: the shared matrices bit for bit, outputs and gradients, names, counts, and files both ways."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, PeftModel, get_peft_model
from npora.files import load_file, save_file
from npora.lora import VeraConfig
from npora.lora.torch_words import TorchWords
from tests.parity.both import assert_same_logits, backward
from tests.parity.reference import (
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    torch,
)
from tests.parity.reference_gpt2 import reference_gpt2
from tests.parity.test_peft import peft, randomize

CONFIGS: dict[str, dict[str, Any]] = {
    "one size": {"target_modules": ["query", "value"]},
    "sizes that differ": {"target_modules": ["query", "intermediate.dense", "output.dense"]},
    "defaults": {"r": 256},
    "all linear": {"target_modules": "all-linear", "projection_prng_key": 2**32 + 9},
    "biases": {"target_modules": ["value", "intermediate.dense"], "bias": "vera_only", "projection_prng_key": -3},
    "one layer, not saved": {"target_modules": ["dense"], "layers_to_transform": [1], "save_projection": False},
}
CONV1D: dict[str, dict[str, Any]] = {
    "defaults": {"r": 256},
    "every Conv1D": {"target_modules": ["c_attn", "c_proj", "c_fc"], "projection_prng_key": 7},
    "not saved": {"target_modules": ["c_fc"], "save_projection": False, "bias": "all"},
}
pytestmark = pytest.mark.filterwarnings("ignore:Specified to not")


class Pair:
    """A base of transformers and the same of npora, fresh copies at each call."""

    def __init__(self, folder: Path) -> None:
        self.folders = {name: folder / name for name in ("bert", "gpt2")}
        self.bases = {"bert": reference_bert(self.folders["bert"]), "gpt2": reference_gpt2(self.folders["gpt2"])}

    def __call__(self, name: str) -> tuple[Any, Any]:
        if name == "bert":
            return copy.deepcopy(self.bases[name]), npora_bert(self.folders[name])
        ours = AutoModelForCausalLM.from_pretrained(self.folders[name], dtype=np.float64)
        return copy.deepcopy(self.bases[name]), ours


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("bases"))


def complete(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"r": 5, "task_type": "SEQ_CLS" if name == "bert" else "CAUSAL_LM", **config}


every_model = pytest.mark.parametrize(
    ("name", "config"),
    [("bert", config) for config in CONFIGS.values()] + [("gpt2", config) for config in CONV1D.values()],
    ids=[f"bert, {name}" for name in CONFIGS] + [f"gpt2, {name}" for name in CONV1D],
)


@pytest.mark.parametrize("key", [0, 7, 2**31 + 5, 2**40 + 3, -1])
def test_torchs_uniform_numbers_are_drawn_bit_for_bit(key: int) -> None:
    theirs, ours = torch.Generator().manual_seed(key), TorchWords(key)
    for shape, low, high in (((5, 31), -0.3, 0.3), ((7,), 0.0, 1.0), ((2, 3), -1.7, 0.1)):
        expected = torch.empty(shape).uniform_(low, high, generator=theirs).numpy()
        assert ours.uniform(shape, low, high).tobytes() == expected.tobytes()


@every_model
def test_a_new_adapter_is_pefts_bit_for_bit(tmp_path: Path, pair: Pair, name: str, config: dict[str, Any]) -> None:
    """Names, values, what is trained, counts and files, with the sizes of A and B from all targets."""
    (theirs, ours), config = pair(name), complete(name, config)
    theirs, ours = peft.get_peft_model(theirs, peft.VeraConfig(**config)), get_peft_model(ours, VeraConfig(**config))
    expected = dict(theirs.named_parameters())
    shared = {f"base_model.vera_{name}.default": getattr(theirs.base_model, f"vera_{name}")["default"] for name in "AB"}
    found = dict(ours.named_parameters())
    assert found.keys() == expected.keys() | shared.keys()
    for key, value in {**expected, **shared}.items():
        assert_close(found[key].data, value, 2e-9 if "lambda_d" in key else 0)  # 0.1 in float32, and cast
        assert found[key].requires_grad == value.requires_grad
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    files = []
    for model, name in ((ours, "ours"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / name)
        files.append(load_file(tmp_path / name / "adapter_model.safetensors"))
    assert files[0].keys() == files[1].keys()
    assert ("base_model.vera_A" in files[0]) == config.get("save_projection", True)
    assert all(np.allclose(files[0][name], files[1][name], rtol=0, atol=2e-9) for name in files[0])
    written = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    same = written[0].keys() & written[1].keys() - {
        "base_model_name_or_path", "peft_version", "target_modules", "modules_to_save", "auto_mapping"
    }  # fmt: skip
    assert {key: written[0][key] for key in same} == {key: written[1][key] for key in same} and "r" in same


@every_model
def test_an_adapter_of_peft_loads_with_the_same_outputs_and_gradients(
    tmp_path: Path, pair: Pair, name: str, config: dict[str, Any]
) -> None:
    (theirs, base), config = pair(name), complete(name, config)
    theirs = randomize(peft.get_peft_model(theirs, peft.VeraConfig(**config))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same_logits(ours, theirs)
    backward(ours, theirs)
    assert assert_same_gradients(ours, theirs, 1e-10) >= 2
    ours.merge_adapter()
    assert_same_logits(ours, theirs)
    ours.unmerge_adapter()
    merged = theirs.merge_and_unload()
    assert_same_logits(ours.merge_and_unload(), merged)


@every_model
def test_an_adapter_of_npora_loads_in_peft_with_the_same_outputs(
    tmp_path: Path, pair: Pair, name: str, config: dict[str, Any]
) -> None:
    (theirs, ours), config = pair(name), complete(name, config)
    ours = get_peft_model(ours, VeraConfig(**config))
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    assert_same_logits(ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval())


def test_matrices_of_a_file_count_whatever_the_key_would_give(tmp_path: Path, pair: Pair) -> None:
    (theirs, base), config = pair("bert"), complete("bert", CONFIGS["sizes that differ"])
    adapter = randomize(peft.get_peft_model(copy.deepcopy(theirs), peft.VeraConfig(**config)))
    adapter.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    arrays = load_file(path)
    rng = np.random.default_rng(0)
    for name in ("base_model.vera_A", "base_model.vera_B"):
        arrays[name] = rng.standard_normal(arrays[name].shape)
    save_file(arrays, path, {"format": "pt"})
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert_same_logits(ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval())
    np.testing.assert_array_equal(ours.get_parameter("base_model.vera_A.default").data, arrays["base_model.vera_A"])


@pytest.mark.parametrize("active", ["default", "second"])
def test_a_second_adapter_of_the_same_sizes_has_the_same_matrices_as_in_peft(pair: Pair, active: str) -> None:
    first = complete("bert", {"target_modules": ["query", "value"]})
    second = complete("bert", {"target_modules": ["key", "value"]})
    theirs, ours = pair("bert")
    theirs, ours = peft.get_peft_model(theirs, peft.VeraConfig(**first)), get_peft_model(ours, VeraConfig(**first))
    theirs.add_adapter("second", peft.VeraConfig(**second))
    ours.add_adapter("second", VeraConfig(**second))
    rng, own = np.random.default_rng(0), dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        if "vera_lambda" in name or "modules_to_save" in name:
            own[name].data = rng.standard_normal(tuple(parameter.shape))
            parameter.data = torch.tensor(own[name].data)
    for model in (theirs, ours):
        model.set_adapter(active)
    assert_same_logits(ours, theirs.eval())
