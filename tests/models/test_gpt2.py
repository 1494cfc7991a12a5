"""GPT-2's facts that need no reference beside them: counts, ties, and the files of its adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, load_metadata, save_file
from npora.models import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from npora.nn.init import Unset
from tests.shared_data import data
from tests.tiny import spread

IDS, MASK = np.array([[3, 5, 3, 9], [1, 4, 0, 0]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
SIZES: dict[str, Any] = {"vocab_size": 13, "n_positions": 16, "n_embd": 6, "n_layer": 2, "n_head": 3, "n_inner": 7}


def tiny(seed: int = 0, dtype: Any = np.float64, **changes: Any) -> GPT2LMHeadModel:
    return spread(GPT2LMHeadModel(GPT2Config(**{**SIZES, **changes}), rng=seed, dtype=dtype), seed)


def adapted(seed: int = 0, dtype: Any = np.float64, **config: Any) -> PeftModel:
    """A tiny GPT-2 with an adapter that does something."""
    model = get_peft_model(tiny(seed, dtype), LoraConfig(**{"r": 2, "task_type": "CAUSAL_LM", **config}))
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = (parameter.data + 0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        (GPT2LMHeadModel, "CAUSAL_LM", "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364"),
        (
            GPT2ForSequenceClassification,
            "SEQ_CLS",
            "trainable params: 296,448 || all params: 124,737,792 || trainable%: 0.2377",
        ),
    ],
)
def test_gpt2_with_lora_has_the_counts_that_peft_prints(
    model: Any, task: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = model(GPT2Config(), rng=Unset())  # takes no memory
    get_peft_model(blank, LoraConfig(r=8, task_type=task)).print_trainable_parameters()
    assert capsys.readouterr().out == expected + "\n"


def test_all_linear_leaves_out_the_projection_to_the_vocabulary() -> None:
    paths = [path for path, _ in adapted(target_modules="all-linear").lora_layers()]
    assert len(paths) == 2 * 4 and not any("lm_head" in path for path in paths)


def test_an_adapter_merged_into_the_tied_projection_leaves_the_embedding_alone(tmp_path: Path) -> None:
    model = adapted(target_modules=["lm_head"])
    base: Any = model.get_base_model()
    embedding, before = base.transformer.wte.weight, base.transformer.wte.weight.data.tobytes()
    logits = model(IDS, MASK)[0].logits
    merged: Any = model.merge_and_unload()
    # One sum of 6 products of size 1 in another order.
    np.testing.assert_allclose(merged(IDS, MASK)[0].logits, logits, rtol=0, atol=1e-13)
    assert merged.transformer.wte.weight is embedding and embedding.data.tobytes() == before
    assert merged.lm_head.weight is not embedding
    merged.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is False
    again = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=np.float64)
    np.testing.assert_array_equal(again(IDS, MASK)[0].logits, merged(IDS, MASK)[0].logits)


def test_a_tied_model_is_saved_as_one(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    GPT2ForSequenceClassification(GPT2Config(**SIZES), rng=0).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True


def test_an_untied_projection_starts_with_values_of_its_own() -> None:
    model: Any = GPT2LMHeadModel(GPT2Config(**SIZES, tie_word_embeddings=False), rng=0)
    assert model.lm_head.weight.data.std() > 0.01
    assert not np.array_equal(model.lm_head.weight.data, model.transformer.wte.weight.data)


def test_cross_attention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="add_cross_attention=True is not supported"):
        GPT2Config.from_dict({"add_cross_attention": True})


def as_peft_writes_it(directory: Path, more: dict[str, Any] | None = None) -> bytes:
    """Take npora's own record out of an adapter's file. Returns the file's bytes."""
    path = directory / "adapter_model.safetensors"
    tensors = {name: np.array(value) for name, value in load_file(path).items()}
    save_file({**tensors, **(more or {})}, path, {"format": "pt"})
    return path.read_bytes()


def test_an_adapter_that_was_only_loaded_is_saved_byte_for_byte(tmp_path: Path) -> None:
    adapted(dtype=np.float32).save_pretrained(tmp_path / "a")
    before = as_peft_writes_it(tmp_path / "a")
    for is_trainable in (False, True):
        model = PeftModel.from_pretrained(tiny(dtype=np.float32), tmp_path / "a", is_trainable=is_trainable)
        model.save_pretrained(tmp_path / "b")
        assert (tmp_path / "b" / "adapter_model.safetensors").read_bytes() == before
    trained = model.adapter_parameters("default")["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]
    trained.data[0, 0] += 1  # in place, as an optimiser does
    model.save_pretrained(tmp_path / "b")
    assert "base_sha256" in load_metadata(tmp_path / "b" / "adapter_model.safetensors")["npora"]


def test_an_adapter_whose_scale_was_changed_is_recorded_anew(tmp_path: Path) -> None:
    adapted(dtype=np.float32).save_pretrained(tmp_path / "a")
    as_peft_writes_it(tmp_path / "a")
    model = PeftModel.from_pretrained(tiny(dtype=np.float32), tmp_path / "a")
    model.peft_config["default"].lora_alpha = 3
    model.save_pretrained(tmp_path / "b")
    assert json.loads(load_metadata(tmp_path / "b" / "adapter_model.safetensors")["npora"])["lora_alpha"] == 3


def test_a_base_weight_beside_an_adapter_must_be_this_bases(tmp_path: Path) -> None:
    model = adapted(target_modules=["lm_head"])
    model.save_pretrained(tmp_path)
    name, weight = "base_model.model.lm_head.base_layer.weight", tiny().lm_head.weight.data  # type: ignore[attr-defined]
    as_peft_writes_it(tmp_path, {name: weight})
    loaded = PeftModel.from_pretrained(tiny(), tmp_path)
    np.testing.assert_array_equal(loaded(IDS, MASK)[0].logits, model(IDS, MASK)[0].logits)
    as_peft_writes_it(tmp_path, {name: weight * np.where(weight == weight[2, 3], 1.5, 1)})
    with pytest.raises(ValueError, match=r"lm_head\.base_layer\.weight is not this base's"):
        PeftModel.from_pretrained(tiny(), tmp_path)


def test_an_adapter_that_others_trained_on_gpt2_loads_merges_and_is_saved_byte_for_byte(tmp_path: Path) -> None:
    directory = data("adapters", "gpt2-lora-r8-textcls")
    stored = load_file(directory / "adapter_model.safetensors")
    base = GPT2ForSequenceClassification(GPT2Config(num_labels=6, pad_token_id=50256), rng=0)
    model = PeftModel.from_pretrained(base, directory)
    parameters = model.adapter_parameters("default")
    assert len(stored) == 25 and sum(value.size for value in stored.values()) == 299_520
    assert parameters.keys() == stored.keys()
    for name, parameter in parameters.items():
        assert parameter.data.tobytes() == stored[name].tobytes(), name
    # modules_to_save is null there, and score.weight is saved nevertheless: task_type SEQ_CLS trains the head.
    assert json.loads((directory / "adapter_config.json").read_text())["modules_to_save"] is None
    assert "base_model.model.score.weight" in parameters and model.peft_config["default"].fan_in_fan_out

    model.save_pretrained(tmp_path)
    name = "adapter_model.safetensors"
    assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()
    again = json.loads((tmp_path / "adapter_config.json").read_text())
    for key, value in json.loads((directory / "adapter_config.json").read_text()).items():
        assert again[key] == value, key

    ids, mask = np.array([[464, 2068, 7586], [15496, 50256, 50256]]), np.array([[1, 1, 1], [1, 0, 0]])
    logits = model(ids, mask)[0].logits
    with model.disable_adapter():
        plain = model(ids, mask)[0].logits
    model.merge_adapter()
    merged = model(ids, mask)[0].logits
    size = np.abs(logits).max()
    assert np.abs(logits - plain).max() > 0.1 * size
    # A merged weight is rounded once, by 2⁻²⁴ of itself; 768 in a sum, 12 layers: √9216 roundings. Here they are 35.
    assert 0 < np.abs(merged - logits).max() <= 100 * 2**-24 * size
    model.unmerge_adapter()
    np.testing.assert_array_equal(model(ids, mask)[0].logits, logits)


def test_a_text_longer_than_the_positions_is_an_error() -> None:
    assert tiny()(np.full((1, 16), 3))[0].logits.shape == (1, 16, 13)
    with pytest.raises(ValueError, match="a sequence of 17 tokens is longer than the 16 positions"):
        tiny()(np.full((1, 17), 3))


def test_the_idle_third_of_the_bias_is_the_keys() -> None:
    attention = tiny().transformer.h[0].attn
    assert attention.idle_parameters() == {"c_attn.bias": slice(6, 12)}
