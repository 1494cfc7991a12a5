"""LoftQ: A and B begin at what quantising took away from W."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora.starts.loftq import check_loftq
from npora.models.quantized import quantize_model
from npora.stored import NF4, QUANTIZED
from tests.models.test_quantized import save
from tests.models.test_stored import IDS

TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}


def config(family: str, **fields: Any) -> LoraConfig:
    return LoraConfig(
        r=3, lora_alpha=6, target_modules=TARGETS[family], **{"init_lora_weights": "loftq", **fields}
    )  # s = 2


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("family", TARGETS)
def test_it_begins_at_the_best_approximation_of_what_was_taken_away_and_leaves_the_base(
    tmp_path: Path, family: str, form: str
) -> None:
    kind = save(tmp_path / "base", family)
    whole = kind.from_pretrained(tmp_path / "base")
    base = kind.from_pretrained(tmp_path / "base", quantize=form)
    before, plain = {n: p.data.tobytes() for n, p in base.named_parameters()}, base(IDS)[0].logits
    model = get_peft_model(base, config(family))
    layers = {path.removeprefix("base_model.model."): layer for path, layer in model.lora_layers()}
    assert len(layers) > 1
    for path, layer in layers.items():
        adapter, taken = (
            layer.adapters["default"],
            whole.get_submodule(path).matrix - np.asarray(layer.base_layer.matrix),
        )
        values, vectors = np.linalg.eigh(taken.astype(np.float64).T @ taken)
        best = taken @ vectors[:, -3:] @ vectors[:, -3:].T
        assert adapter.s == 2 and np.abs(best).max() > 0
        np.testing.assert_allclose(2 * adapter.B.data @ adapter.A.data, best, rtol=0, atol=1e-4 * np.abs(taken).max())
        np.testing.assert_allclose(2 * adapter.A.data @ adapter.A.data.T, np.diag(values[:-4:-1] ** 0.5), atol=1e-5)
    with model.disable_adapter():
        np.testing.assert_array_equal(model(IDS)[0].logits, plain)
    assert {n: p.data.tobytes() for n, p in model.unload().named_parameters()} == before


def test_its_file_is_plain_lora_on_the_quantised_base(tmp_path: Path) -> None:
    kind = save(tmp_path / "base", "llama")
    fields = {"loftq_config": {"loftq_bits": 4, "loftq_iter": 1}, "use_rslora": True}
    model = get_peft_model(kind.from_pretrained(tmp_path / "base", quantize="nf4"), config("llama", **fields))
    model.save_pretrained(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (written["init_lora_weights"], written["loftq_config"], written["r"]) == (True, {}, 3)
    assert model.active_peft_config.init_lora_weights == "loftq"
    assert {name.rpartition(".lora_")[2] for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors")} == {
        "A.weight", "B.weight"
    }  # fmt: skip
    again = PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base", quantize="nf4"), tmp_path / "adapter")
    np.testing.assert_array_equal(again(IDS)[0].logits, model(IDS)[0].logits)


def test_the_model_is_nearer_to_the_one_that_was_not_quantised(tmp_path: Path) -> None:
    kind = save(tmp_path, "llama", hidden_size=32, intermediate_size=64)
    expected = kind.from_pretrained(tmp_path)(IDS)[0].logits
    base = kind.from_pretrained(tmp_path, quantize="nf4")
    apart = [np.linalg.norm(base(IDS)[0].logits - expected)]
    for r in (4, 16):
        settings = {"r": r, "lora_alpha": r, "target_modules": "all-linear", "init_lora_weights": "loftq"}
        model = get_peft_model(base, LoraConfig(**settings))
        apart.append(np.linalg.norm(model(IDS)[0].logits - expected))
        model.unload()
    assert apart[0] > apart[1] > apart[2]


def test_what_it_cannot_begin_with_is_refused(tmp_path: Path) -> None:
    kind = save(tmp_path, "llama")
    with pytest.raises(
        ValueError, match=r"this base is not quantised: load it with from_pretrained\(…, quantize='nf4'"
    ):
        get_peft_model(kind.from_pretrained(tmp_path), config("llama"))
    model = kind.from_pretrained(tmp_path).requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = np.array(parameter.data)  # of no file
    quantize_model(model, "nf4")
    with pytest.raises(ValueError, match="what W was before it was quantised"):
        get_peft_model(model, config("llama"))
    base = kind.from_pretrained(tmp_path, quantize="nf4")
    with pytest.raises(ValueError, match=r"takes r of 16 directions of W, \(16, 28\); got r=20"):
        get_peft_model(base, config("llama", rank_pattern={"down_proj": 20}))
    with pytest.raises(ValueError, match="says loftq_bits=8, and the base is in nf4"):
        get_peft_model(base, config("llama", loftq_config={"loftq_bits": 8}))
    for settings, message in [
        ({"loftq_iter": 5}, "loftq_iter must be 1: another turn would quantise the base anew"),
        ({"loftq_bits": 2}, "loftq_bits must be 4 or 8; got 2"),
        ({"bits": 4}, "loftq_config has loftq_bits and loftq_iter; got 'bits'"),
    ]:
        with pytest.raises(ValueError, match=message):
            config("llama", loftq_config=settings)
    with pytest.raises(ValueError, match="loftq_config is for init_lora_weights='loftq'"):
        config("llama", loftq_config={"loftq_bits": 4}, init_lora_weights=True)
    check_loftq(None)


def test_a_pickle_leaves_out_what_was_quantised(tmp_path: Path) -> None:
    model = save(tmp_path, "llama").from_pretrained(tmp_path, quantize="nf4")
    W: Any = model.get_parameter("model.layers.0.mlp.up_proj.weight").data
    assert W.original is not None and W.T.original.shape == W.T.shape
    again = pickle.loads(pickle.dumps(W))
    assert isinstance(again, NF4) and again.original is None and again.tobytes() == W.tobytes()
