"""DoRA against PEFT: names, starts, outputs and gradients, files both ways, merging; on a BERT and on a GPT-2."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora import LoRALinear
from npora.nn import Linear
from npora.nn.functional import dropout
from tests.parity.both import assert_same_logits, backward, moved
from tests.parity.reference import (
    BATCH,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    torch,
)  # fmt: skip
from tests.parity.reference_gpt2 import BATCH as TEXTS
from tests.parity.reference_gpt2 import reference_gpt2
from tests.parity.test_peft import peft, randomize

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "query and value": ("bert", {"target_modules": ["query", "value"]}),
    "all linear, rank-stabilised": ("bert", {"target_modules": "all-linear", "use_rslora": True}),
    "ranks of their own, and biases": (
        "bert",
        {"target_modules": ["query", "value"], "bias": "lora_only", "rank_pattern": {"query": 2},
         "alpha_pattern": {"value": 7}},
    ),
    "no start at zero": ("bert", {"target_modules": ["key"], "init_lora_weights": False}),
    "Conv1D": ("gpt2", {"target_modules": ["c_attn", "mlp.c_proj"]}),
    "embeddings": ("bert", {"target_modules": ["word_embeddings", "position_embeddings", "query"]}),
}  # fmt: skip
every_config = pytest.mark.parametrize(("kind", "config"), CONFIGS.values(), ids=CONFIGS.keys())
ON = {"bert": {"target_modules": ["query", "value"]}, "gpt2": {"target_modules": ["c_attn", "mlp.c_proj"]}}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    made = {"bert": reference_bert, "gpt2": reference_gpt2}
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in made}
    return {kind: (folders[kind], made[kind](folders[kind])) for kind in made}


def pair(bases: dict[str, tuple[Path, Any]], kind: str) -> tuple[Any, Any]:
    """A base of transformers, and the same of npora."""
    folder, theirs = bases[kind]
    ours = npora_bert(folder) if kind == "bert" else AutoModelForCausalLM.from_pretrained(folder, dtype=np.float64)
    return copy.deepcopy(theirs), ours


def complete(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    task = "SEQ_CLS" if kind == "bert" else "CAUSAL_LM"
    return {"r": 3, "lora_alpha": 5, "use_dora": True, "task_type": task, **config}


@every_config
def test_names_starts_outputs_gradients_and_files_are_pefts(
    bases: Any, tmp_path: Path, kind: str, config: dict[str, Any]
) -> None:
    theirs, base = pair(bases, kind)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(**complete(kind, config)))
    fresh = get_peft_model(copy.deepcopy(base), LoraConfig(**complete(kind, config)))
    found, expected = dict(fresh.named_parameters()), dict(theirs.named_parameters())
    assert any(name.endswith("lora_magnitude_vector.default.weight") for name in found)
    assert {n: (tuple(p.shape), p.requires_grad) for n, p in found.items()} == {
        n: (tuple(p.shape), p.requires_grad) for n, p in expected.items()
    }
    for name, parameter in found.items():
        if "magnitude" in name and config.get("init_lora_weights", True):  # with B = 0 the lengths of W's rows
            assert_close(parameter.data, expected[name], 1e-12)

    randomize(theirs).eval().save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same_logits(ours, theirs)
    backward(ours, theirs)
    assert assert_same_gradients(ours, theirs, 1e-10) >= 6

    ours.save_pretrained(tmp_path / "again")
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("again", "adapter")]
    assert {n: v.shape for n, v in files[0].items()} == {n: v.shape for n, v in files[1].items()}
    assert any(name.endswith(".lora_magnitude_vector") for name in files[0])
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["use_dora"] is True


@pytest.mark.parametrize("kind", ON)
def test_an_adapter_of_npora_is_one_to_peft_and_is_merged_alike(bases: Any, tmp_path: Path, kind: str) -> None:
    theirs, ours = pair(bases, kind)
    plain = copy.deepcopy(theirs)
    ours = moved(get_peft_model(ours, LoraConfig(**complete(kind, ON[kind]))))
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert_same_logits(ours, theirs)
    if kind == "gpt2":  # a BERT's head is trained, and is off too
        with ours.disable_adapter():
            assert_same_logits(ours, plain)
    batch = BATCH if kind == "bert" else TEXTS
    before = ours(**batch)[0].logits
    ours.merge_adapter()
    assert_same_logits(ours, theirs)
    ours.unmerge_adapter()
    assert ours(**batch)[0].logits.tobytes() == before.tobytes()
    assert_same_logits(ours.merge_and_unload(), theirs.merge_and_unload())


@pytest.mark.parametrize(("kind", "names"), [("bert", ["default", "second"]), ("gpt2", ["second", "default"])])
def test_adapters_beside_each_other_and_merged_in_order_are_pefts(
    bases: Any, tmp_path: Path, kind: str, names: list[str]
) -> None:
    """The norm of each is that of the base with its own update, whatever was merged before."""
    theirs, ours = pair(bases, kind)
    config = complete(kind, ON[kind])
    ours = moved(get_peft_model(ours, LoraConfig(**config)))
    ours.add_adapter("second", LoraConfig(**{**config, "r": 2, "lora_alpha": 6}))
    ours.set_adapter("second")
    moved(ours, seed=4).save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path)
    theirs.load_adapter(tmp_path / "second", "second")
    for model in (ours, theirs.eval()):
        model.set_adapter(names[0])
    assert_same_logits(ours, theirs)
    for model in (ours, theirs):
        model.merge_adapter(names)
    assert_same_logits(ours, theirs)


def test_with_dropout_the_bases_path_is_whole_as_in_peft() -> None:
    """PEFT's own formula with torch's gradient, under npora's mask."""
    rng = np.random.default_rng(0)
    ours = LoRALinear(Linear(5, 4, dtype=np.float64), 3, 7, 0.4, use_dora=True)
    for parameter in ours.parameters():
        parameter.data = parameter.data + rng.standard_normal(parameter.shape)
    x, dy = rng.standard_normal((2, 6, 5)), rng.standard_normal((2, 6, 4))
    y, backward = ours(x, np.random.default_rng(8))
    mask = torch.tensor(dropout(np.ones_like(x), 0.4, np.random.default_rng(8))[0])

    config = peft.LoraConfig(r=3, lora_alpha=7, lora_dropout=0.4, target_modules=["0"], use_dora=True)
    theirs = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(5, 4).double()), config).train()
    adapted = theirs.base_model.model[0]
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            adapted.get_parameter(name).copy_(torch.tensor(parameter.data))
    adapted.lora_dropout["default"].forward = lambda value: value * mask
    given = torch.tensor(x, requires_grad=True)
    result = adapted(given)
    result.backward(torch.tensor(dy))
    assert_close(y, result, 1e-12)
    assert_close(backward(dy), given.grad, 1e-12)
    for name, parameter in ours.named_parameters():
        if "lora_" in name:
            assert_close(parameter.grad, adapted.get_parameter(name).grad, 1e-12)


def test_the_gradient_with_that_of_the_norm_is_autograds_and_peft_reads_the_file(
    tmp_path: Path, bases: dict[str, tuple[Path, Any]]
) -> None:
    folder, base = bases["bert"]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["query"], use_dora=True, dora_norm_grad=True)
    ours = moved(get_peft_model(npora_bert(folder), config))
    (_, layer), x = ours.lora_layers()[0], np.random.default_rng(0).standard_normal((4, 24))
    y, back = layer(x)
    A, B, m = (torch.tensor(part, requires_grad=True) for part in layer.adapters["default"].theta)
    inputs = torch.tensor(x, requires_grad=True)
    V = torch.tensor(layer.base_layer.weight.data) + 5 / 3 * B @ A
    expected = inputs @ (m[:, None] * V / V.norm(dim=1, keepdim=True)).T + torch.tensor(layer.base_layer.bias.data)
    assert_close(y, expected, 1e-12)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = back(dy)
    expected.backward(torch.tensor(dy))
    assert_close(dx, inputs.grad, 1e-12)
    for mine, theirs in zip(layer.adapters["default"].parameters(), (A, B, m), strict=True):
        assert_close(mine.grad, theirs.grad, 1e-12)
    ours.save_pretrained(tmp_path)
    theirs_model = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    assert_same_logits(ours, theirs_model)
