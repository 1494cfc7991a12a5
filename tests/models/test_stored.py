"""A model whose matrices stay in half precision is the model of their floats, in everything that one does with it."""

from __future__ import annotations

import copy
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, Trainer, TrainingArguments, get_peft_model, gradcheck, models
from npora.data import Dataset
from npora.files import load_file, read_header, save_file
from npora.nn import Module
from npora.stored import HALF, BFloat16, Float16
from tests.tiny import spread
from tests.tiny_folders import BODIES, FAMILIES, WORDS

IDS = np.random.default_rng(0).integers(4, len(WORDS), (2, 7))
families = pytest.mark.parametrize(("family", "half"), [(f, [*HALF][n % 2]) for n, f in enumerate(FAMILIES)])


def save(directory: Path, family: str, head: str | None = None, half: str = "bfloat16", **fields: Any) -> Any:
    """A checkpoint all of whose tensors are in half precision, and its class."""
    name, sizes = FAMILIES[family]
    config = getattr(models, f"{name}Config")(**{"vocab_size": len(WORDS), **sizes, **fields})
    kind = getattr(models, name + (head or BODIES.get(family, "ForMaskedLM")))
    model = spread(kind(config, rng=1), seed=1)
    model.save_pretrained(directory)
    state = {name: HALF[half].rounded(array) for name, array in model.state_dict().items()}
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": half}))
    return kind


def both(directory: Path, family: str, half: str = "bfloat16", **keywords: Any) -> tuple[Any, Any]:
    kind = save(directory, family, half=half, **keywords)
    return kind.from_pretrained(directory, dtype=half), kind.from_pretrained(directory).requires_grad_(False)


def adapted(model: Any, **fields: Any) -> PeftModel:
    config: dict[str, Any] = {"r": 2, "target_modules": "all-linear", "init_lora_weights": False, **fields}
    return get_peft_model(model, LoraConfig(**config))


def loss_and_gradients(model: Module, ids: Any = IDS, **inputs: Any) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    output, backward = model(ids, labels=ids[::-1], **inputs)
    backward()
    return float(output.loss), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: Any, expected: Any, times: float = 200) -> None:
    """To the rounding of float32's sums, some of them on top of each other."""
    scale = float(np.abs(expected).max(initial=1e-6))
    np.testing.assert_allclose(found, expected, rtol=0, atol=times * 2**-24 * scale, strict=True)


@families
def test_lora_on_it_has_the_gradients_of_lora_on_the_floats(tmp_path: Path, family: str, half: str) -> None:
    stored, wide = map(adapted, both(tmp_path, family, half))
    kinds = {type(p.data) for n, p in stored.named_parameters() if p.data.ndim == 2 and not p.requires_grad}
    assert kinds == {HALF[half]}
    loss, gradients = loss_and_gradients(stored)
    expected, theirs = loss_and_gradients(wide)
    assert_same(loss, expected)
    assert gradients.keys() == theirs.keys() and gradients
    for name, gradient in gradients.items():
        assert_same(gradient, theirs[name], times=2000)


@families
def test_what_is_saved_has_the_bytes_that_were_read(tmp_path: Path, family: str, half: str) -> None:
    kind = save(tmp_path / "a", family, half=half)
    kind.from_pretrained(tmp_path / "a", torch_dtype="auto").save_pretrained(tmp_path / "b")
    one, other = ((tmp_path / place / "model.safetensors").read_bytes() for place in "ab")
    assert one == other
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == half


def test_a_step_forms_no_matrix(tmp_path: Path) -> None:
    """Neither at once nor one after another, kept by the pullbacks: the largest has 6 MB as floats, all have 14."""
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1, "vocab_size": 3000}
    save(tmp_path, "llama", **sizes, tie_word_embeddings=True)
    model = adapted(models.LlamaForCausalLM.from_pretrained(tmp_path, dtype="bfloat16"), target_modules=["q_proj"])
    ids = IDS[:1, :3]
    tracemalloc.start()
    try:
        _, backward = model(ids, labels=ids)
        held = tracemalloc.get_traced_memory()[0]
        backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 300_000 and peak < 3_000_000  # bytes; two tiles have 2


def test_generation_goes_as_with_the_floats(tmp_path: Path) -> None:
    for family in ("llama", "gpt2", "t5"):
        stored, wide = both(tmp_path / family, family)
        keywords = {"max_new_tokens": 6, "eos_token_id": -1} if family != "t5" else {"max_new_tokens": 6}
        np.testing.assert_array_equal(stored.generate(IDS, **keywords), wide.generate(IDS, **keywords))


@pytest.mark.parametrize("half", HALF)
def test_an_adapter_goes_from_one_form_to_the_other(tmp_path: Path, half: str) -> None:
    stored, wide = both(tmp_path / "base", "llama", half)
    kind = type(wide)
    for name, model, dtype in (("a", stored, "float32"), ("b", wide, half)):
        peft = adapted(model)
        peft.save_pretrained(tmp_path / name)
        other = PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base", dtype=dtype), tmp_path / name)
        assert_same(other(IDS)[0].logits, peft(IDS)[0].logits)
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in "ab"]
    assert files[0].keys() == files[1].keys()
    spread(kind.from_pretrained(tmp_path / "base"), 5).save_pretrained(tmp_path / "another")
    another = kind.from_pretrained(tmp_path / "another", dtype=half)
    with pytest.raises(ValueError, match="another base model"):
        PeftModel.from_pretrained(another, tmp_path / "a")


def test_what_two_matrices_or_models_have_in_common_is_found_to_their_last_rows(tmp_path: Path) -> None:
    kind = save(tmp_path, "llama", hidden_size=256, intermediate_size=8, vocab_size=2100, tie_word_embeddings=True)
    adapted(kind.from_pretrained(tmp_path, dtype="bfloat16"), target_modules=["q_proj"]).save_pretrained(tmp_path / "a")
    PeftModel.from_pretrained(kind.from_pretrained(tmp_path), tmp_path / "a")  # one digest for both forms
    path = tmp_path / "model.safetensors"
    tensors = load_file(path, {"BF16": BFloat16})
    twice = np.array(tensors["model.embed_tokens.weight"].bits)
    save_file({**tensors, "lm_head.weight": BFloat16(twice.copy())}, path)
    assert kind.from_pretrained(tmp_path, dtype="bfloat16").config.tie_word_embeddings
    twice[-1, -1] ^= 1
    save_file({**tensors, "lm_head.weight": BFloat16(twice)}, path)
    with pytest.raises(ValueError, match="which this model ties, with different values"):
        kind.from_pretrained(tmp_path, dtype="bfloat16")


def test_merging_makes_floats_of_what_is_merged_and_of_nothing_else(tmp_path: Path) -> None:
    stored, wide = both(tmp_path / "base", "llama")
    base = stored(IDS)[0].logits
    peft, theirs = (adapted(model, target_modules=["q_proj", "up_proj"]) for model in (stored, wide))
    expected = theirs(IDS)[0].logits
    peft.merge_adapter()
    assert_same(peft(IDS)[0].logits, expected)
    peft.unmerge_adapter()
    with peft.disable_adapter():
        np.testing.assert_array_equal(peft(IDS)[0].logits, base)
    merged: Any = peft.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    kinds = {name: info.dtype for name, info in read_header(tmp_path / "merged" / "model.safetensors").tensors.items()}
    assert {name for name, kind in kinds.items() if kind == "F32"} == {
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
    }  # fmt: skip
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"
    assert_same(type(wide).from_pretrained(tmp_path / "merged")(IDS)[0].logits, expected)


def test_a_new_head_is_trained_in_float32_and_the_rest_is_as_frozen_as_ever(tmp_path: Path) -> None:
    save(tmp_path / "base", "bert")
    model = models.BertForSequenceClassification.from_pretrained(tmp_path / "base", dtype="bfloat16")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(model.newly_initialized)
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    peft = adapted(model, target_modules=["query"], task_type="SEQ_CLS", modules_to_save=["intermediate"])
    held = {n: p.data.tobytes() for n, p in peft.named_parameters() if not p.requires_grad}
    rows = Dataset({"input_ids": row.tolist(), "labels": n % 2} for n, row in enumerate(IDS))
    arguments = TrainingArguments(tmp_path / "run", num_train_epochs=2, learning_rate=0.1, report_to="none")
    Trainer(peft, arguments, train_dataset=rows).train()
    assert held == {n: p.data.tobytes() for n, p in peft.named_parameters() if not p.requires_grad}
    peft.save_pretrained(tmp_path / "adapter")
    fresh = models.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    assert_same(PeftModel.from_pretrained(fresh, tmp_path / "adapter")(IDS)[0].logits, peft(IDS)[0].logits)


def test_it_is_printed_copied_checked_and_thawed(tmp_path: Path) -> None:
    stored, wide = both(tmp_path, "llama", tie_word_embeddings=True)
    assert "(q_proj): Linear(weight [16,16] bfloat16, frozen)" in str(stored)
    assert stored.lm_head.weight is stored.model.embed_tokens.weight
    twin = copy.deepcopy(stored)
    np.testing.assert_array_equal(twin(IDS)[0].logits, stored(IDS)[0].logits)
    peft = adapted(twin, target_modules=["v_proj"])
    for dtype in ("float32", "float64"):
        assert gradcheck(peft, IDS, labels=IDS, dtype=dtype, method="dot-product").ok
    stored.requires_grad_(True)
    assert not any(isinstance(p.data, BFloat16) for p in stored.parameters())
    np.testing.assert_array_equal(stored(IDS)[0].logits, wide(IDS)[0].logits)


def test_a_checkpoint_in_another_dtype_is_rounded_where_that_is_asked_for(tmp_path: Path) -> None:
    kind = save(tmp_path / "narrow", "bert")
    model = kind.from_pretrained(tmp_path / "narrow")
    wide = {n: np.asarray(p.data * np.float32(1 + 2**-10)) for n, p in model.named_parameters()}  # to be rounded back
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "config.json").write_bytes((tmp_path / "narrow" / "config.json").read_bytes())
    save_file(wide, tmp_path / "wide" / "model.safetensors")
    rounded = kind.from_pretrained(tmp_path / "wide", dtype="bfloat16")
    for name, parameter in rounded.named_parameters():
        np.testing.assert_array_equal(parameter.data, model.get_parameter(name).data)
        assert isinstance(parameter.data, BFloat16) == (parameter.data.ndim == 2) and not parameter.requires_grad
    assert not isinstance(kind.from_pretrained(tmp_path / "wide", dtype="auto").get_parameter(name).data, BFloat16)
    half = kind.from_pretrained(tmp_path / "wide", dtype="float16")
    for name, parameter in half.named_parameters():
        assert isinstance(parameter.data, Float16) == (parameter.data.ndim == 2)
        np.testing.assert_array_equal(parameter.data, wide[name].astype(np.float16).astype(np.float32))


def test_shards_stay_as_they_lie_and_the_whole_is_float32_unless_asked(tmp_path: Path) -> None:
    kind = save(tmp_path, "llama")
    tensors = load_file(tmp_path / "model.safetensors", {"BF16": BFloat16})
    names = sorted(tensors)
    places = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(names)}
    for place in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == place}, tmp_path / place)
    one = kind.from_pretrained(tmp_path, dtype="bfloat16")(IDS)[0].logits
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    np.testing.assert_array_equal(kind.from_pretrained(tmp_path, dtype="bfloat16")(IDS)[0].logits, one)
    assert not any(isinstance(p.data, BFloat16) for p in kind.from_pretrained(tmp_path).parameters())
