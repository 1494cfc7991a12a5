"""A model whose matrices are quantised as they are read is the model of the floats that they stand for."""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftModel,
    Trainer,
    TrainingArguments,
    get_peft_model,
    gradcheck,
    models,
)
from npora.data import Dataset
from npora.files import load_metadata, read_header
from npora.lora import read_record
from npora.models.quantized import quantize_model
from npora.stored import NF4, Q8_0, QUANTIZED, BFloat16, Stored
from tests.models.test_stored import IDS, adapted, assert_same, loss_and_gradients
from tests.models.test_stored import save as save_bfloat16
from tests.tiny import spread
from tests.tiny_folders import BODIES, FAMILIES, WORDS

forms = pytest.mark.parametrize("form", QUANTIZED)


def save(directory: Path, family: str, head: str | None = None, **fields: Any) -> Any:
    """A checkpoint in float32, and its class."""
    name, sizes = FAMILIES[family]
    config = getattr(models, f"{name}Config")(**{"vocab_size": len(WORDS), **sizes, **fields})
    kind = getattr(models, name + (head or BODIES.get(family, "ForMaskedLM")))
    spread(kind(config, rng=1), seed=1).save_pretrained(directory)
    return kind


def widened(model: Any) -> Any:
    wide = copy.deepcopy(model)
    for parameter in wide.parameters():
        parameter.data = np.asarray(parameter.data)
    return wide


def forms_of(model: Any) -> dict[str, type]:
    return {name: type(p.data) for name, p in model.named_parameters() if isinstance(p.data, Stored)}


@pytest.mark.parametrize(("family", "form"), [(f, [*QUANTIZED][n % 2]) for n, f in enumerate(FAMILIES)])
def test_lora_on_it_has_the_gradients_of_lora_on_the_floats(tmp_path: Path, family: str, form: str) -> None:
    model = save(tmp_path, family).from_pretrained(tmp_path, quantize=form)
    assert set(forms_of(model).values()) == {QUANTIZED[form]}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    stored, wide = map(adapted, [model, widened(model)])
    (loss, gradients), (expected, theirs) = loss_and_gradients(stored), loss_and_gradients(wide)
    assert_same(loss, expected)
    assert gradients.keys() == theirs.keys() and gradients
    for name, gradient in gradients.items():
        assert_same(gradient, theirs[name], times=2000)


def test_nf4_is_for_the_linear_layers_of_the_body_and_int8_for_its_tables_too(tmp_path: Path) -> None:
    layers = [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj",
    ]  # fmt: skip
    own, tables = {f"model.layers.0.{name}.weight" for name in layers}, {"model.embed_tokens.weight", "lm_head.weight"}
    kind = save(tmp_path / "untied", "llama", tie_word_embeddings=False)
    assert forms_of(kind.from_pretrained(tmp_path / "untied", quantize="nf4")) == dict.fromkeys(own, NF4)
    assert forms_of(kind.from_pretrained(tmp_path / "untied", quantize="int8")) == dict.fromkeys(own | tables, Q8_0)
    kind = save(tmp_path / "tied", "t5", tie_word_embeddings=True)
    for form, found in (("nf4", False), ("int8", True)):
        assert ("shared.weight" in forms_of(kind.from_pretrained(tmp_path / "tied", quantize=form))) is found
    kind = save(tmp_path / "bert", "bert", "ForSequenceClassification", num_labels=3)
    for form in QUANTIZED:
        names = forms_of(kind.from_pretrained(tmp_path / "bert", quantize=form))
        assert all(name.startswith("bert.") for name in names) and "bert.pooler.dense.weight" in names


def test_the_rest_is_as_dtype_has_it(tmp_path: Path) -> None:
    kind = save_bfloat16(tmp_path, "llama", tie_word_embeddings=True)
    narrow = kind.from_pretrained(tmp_path, dtype="bfloat16", quantize="nf4")
    wide = kind.from_pretrained(tmp_path, quantize="nf4")
    table = "model.embed_tokens.weight"
    assert isinstance(narrow.get_parameter(table).data, BFloat16) and type(wide.get_parameter(table).data) is np.ndarray
    for name, form in forms_of(wide).items():
        assert form is NF4 and narrow.get_parameter(name).data.tobytes() == wide.get_parameter(name).data.tobytes()
    np.testing.assert_array_equal(narrow(IDS)[0].logits, wide(IDS)[0].logits)


def test_nothing_as_large_as_the_floats_is_made_on_the_way(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = save_bfloat16(tmp_path, "llama", **sizes).from_pretrained(tmp_path, dtype="bfloat16")
    floats = 4 * sum(parameter.size for parameter in model.parameters())  # 9 MB
    tracemalloc.start()
    try:
        quantize_model(model, "nf4")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert forms_of(model) and held < 0.15 * floats and peak < 0.6 * floats  # of 2¹⁸ numbers at a time, and temporaries


@forms
def test_what_is_saved_are_the_floats(tmp_path: Path, form: str) -> None:
    kind = save(tmp_path / "a", "gpt2")
    model = kind.from_pretrained(tmp_path / "a", quantize=form)
    model.save_pretrained(tmp_path / "b")
    assert {info.dtype for info in read_header(tmp_path / "b" / "model.safetensors").tensors.values()} == {"F32"}
    for name, parameter in kind.from_pretrained(tmp_path / "b").named_parameters():
        np.testing.assert_array_equal(parameter.data, model.get_parameter(name).data)


def test_an_adapter_says_what_it_was_trained_on_and_is_for_that_alone(tmp_path: Path) -> None:
    kind = save(tmp_path / "base", "llama", head="ForCausalLM")
    bases = {form: kind.from_pretrained(tmp_path / "base", quantize=form) for form in (None, *QUANTIZED)}
    for form, base in bases.items():
        model = adapted(base, target_modules=["q_proj"], task_type="CAUSAL_LM")
        expected, directory = model(IDS)[0].logits, tmp_path / str(form)
        model.save_pretrained(directory)
        assert read_record(directory)["base_forms"] == ([form] if form else [])
        assert ("base_forms" in load_metadata(directory / "adapter_model.safetensors")["npora"]) is bool(form)
        again = AutoPeftModelForCausalLM.from_pretrained(directory)  # with what it was trained on
        np.testing.assert_array_equal(again(IDS)[0].logits, expected)
    for form, other, message in [
        ("nf4", None, "on a base in nf4, and this one is in plain floats: load the base with quantize='nf4'"),
        ("nf4", "int8", "on a base in nf4, and this one is in int8: load the base with quantize='nf4'"),
        (None, "nf4", "on a base in plain floats, and this one is in nf4: load the base without quantize"),
    ]:
        with pytest.raises(ValueError, match=message):
            PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base", quantize=other), tmp_path / str(form))


def test_the_digest_is_over_the_bytes_that_there_are(tmp_path: Path) -> None:
    kind = save(tmp_path / "base", "llama")
    model = kind.from_pretrained(tmp_path / "base", quantize="nf4")
    expected = model(IDS)[0].logits
    adapted(model, target_modules=["q_proj"]).save_pretrained(tmp_path / "a")
    other = kind.from_pretrained(tmp_path / "base", quantize="nf4")
    parameter = other.get_parameter("model.layers.0.mlp.up_proj.weight")
    bits = parameter.data.bits.copy()
    bits[-1, 31] ^= 1  # of what lies beyond the row's end
    parameter.data = NF4(bits, parameter.shape)
    np.testing.assert_array_equal(other(IDS)[0].logits, expected)
    with pytest.raises(ValueError, match="another base model"):
        PeftModel.from_pretrained(other, tmp_path / "a")


@forms
def test_merging_makes_floats_of_what_is_merged(tmp_path: Path, form: str) -> None:
    kind = save(tmp_path / "base", "llama")
    model = adapted(kind.from_pretrained(tmp_path / "base", quantize=form), target_modules=["q_proj", "up_proj"])
    before, expected = len(forms_of(model)), model(IDS)[0].logits
    merged: Any = model.merge_and_unload()
    assert len(forms_of(merged)) == before - 2
    assert_same(merged(IDS)[0].logits, expected)
    merged.save_pretrained(tmp_path / "merged")
    assert_same(kind.from_pretrained(tmp_path / "merged")(IDS)[0].logits, expected)


@forms
def test_training_leaves_its_bytes_and_a_new_head_is_float32(tmp_path: Path, form: str) -> None:
    save(tmp_path / "base", "bert")
    model = models.BertForSequenceClassification.from_pretrained(tmp_path / "base", quantize=form)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(model.newly_initialized)
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= set(model.newly_initialized) - forms_of(model).keys()
    peft = adapted(model, target_modules=["query"], task_type="SEQ_CLS", modules_to_save=["intermediate"])
    held = {n: p.data.tobytes() for n, p in peft.named_parameters() if not p.requires_grad}
    rows = Dataset({"input_ids": row.tolist(), "labels": n % 2} for n, row in enumerate(IDS))
    arguments = TrainingArguments(tmp_path / "run", num_train_epochs=2, learning_rate=0.1, report_to="none")
    Trainer(peft, arguments, train_dataset=rows).train()
    assert held == {n: p.data.tobytes() for n, p in peft.named_parameters() if not p.requires_grad}
    peft.save_pretrained(tmp_path / "adapter")
    fresh = models.BertForSequenceClassification.from_pretrained(tmp_path / "base", quantize=form)
    np.testing.assert_array_equal(
        PeftModel.from_pretrained(fresh, tmp_path / "adapter")(IDS)[0].logits, peft(IDS)[0].logits
    )


@forms
def test_a_gradient_check_and_generation_go_through_it(tmp_path: Path, form: str) -> None:
    kind = save(tmp_path, "llama")
    model = kind.from_pretrained(tmp_path, quantize=form)
    assert f"(q_proj): Linear(weight [16,16] {form}, frozen)" in str(model)
    keywords = {"max_new_tokens": 4, "eos_token_id": -1}
    np.testing.assert_array_equal(model.generate(IDS, **keywords), widened(model).generate(IDS, **keywords))
    peft = adapted(model)
    for dtype in ("float32", "float64"):
        assert gradcheck(peft, IDS, labels=IDS, dtype=dtype, method="dot-product").ok


def test_what_cannot_be_quantised_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    kind = save(tmp_path, "llama")
    model = kind.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="quantize must be 'int8' or 'nf4', or None; got 'nf5'"):
        kind.from_pretrained(tmp_path, quantize="nf5")
    with pytest.raises(ValueError, match=r"quantize='nf4' is for float32.* leave dtype out"):
        kind.from_pretrained(tmp_path, quantize="nf4", dtype="float64")
    model.requires_grad_(False)
    model.get_parameter("model.layers.0.mlp.down_proj.weight").requires_grad = True
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.down_proj\.weight is trained"):
        quantize_model(model, "nf4")
    assert not forms_of(model)
    broken = model.get_parameter("model.layers.0.mlp.down_proj.weight")
    broken.data[0, 0] = np.nan
    model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"model\.layers\.0\.mlp\.down_proj\.weight: a matrix in nf4 holds finite"):
        quantize_model(model, "nf4")
    with pytest.raises(ValueError, match="load_in_4bit=True has no meaning in npora: pass quantize='nf4'"):
        kind.from_pretrained(tmp_path, load_in_4bit=True)


def test_lora_alone_is_trained_where_a_quantised_layer_is_thawed_as_floats(tmp_path: Path) -> None:
    model = save(tmp_path, "llama").from_pretrained(tmp_path, quantize="nf4")
    logits = model(IDS)[0].logits
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert all("lora_" in name for name, p in peft.named_parameters() if p.requires_grad)
    model.requires_grad_(True)
    assert not forms_of(model)
    assert_same(model(IDS)[0].logits, logits)
