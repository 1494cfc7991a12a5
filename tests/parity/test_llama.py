"""Llama against transformers' and PEFT's, in float64: outputs, losses, every gradient, and adapters both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, save_file
from npora.models import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel
from npora.nn import Cache, Packing, Padding
from tests.parity.decoders import LINEAR, LLAMA3, assert_same_gradients, widen
from tests.parity.reference import assert_close, tensors, torch, transformers

peft = pytest.importorskip("peft", reason="needs the extra `parity`")
modeling_llama = pytest.importorskip("transformers.models.llama.modeling_llama", reason="needs the extra `parity`")

# Lengths 5, 1 and 3. The sizes are pairwise distinct, 6 query heads share 2 key heads, and 6·10 is not 24.
MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
BATCH: dict[str, Any] = {
    "input_ids": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "attention_mask": MASK,
}
LABELS = np.where(MASK == 1, BATCH["input_ids"], -100)
CLASSES = np.array([2, 0, 1])
SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 35,
    "num_hidden_layers": 3, "vocab_size": 50, "num_labels": 3, "pad_token_id": 0, "max_position_embeddings": 9,
}  # fmt: skip
# Values of size about 1 pass through three layers, at most 60 terms in a sum: 2¹³ roundings of 2⁻⁵³ are 1e-12.
LOGITS, LOSS, GRADIENT = 1e-11, 1e-12, 1e-9
VARIANTS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "no padding token": {"tie_word_embeddings": True, "pad_token_id": None},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "one key head": {"num_key_value_heads": 1},
    "as many key heads, width and eps of their own": {
        "num_key_value_heads": None, "head_dim": None, "rms_norm_eps": 1e-3,
    },
    "another theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 37.0}},
    "scaled linearly": {"rope_parameters": LINEAR},
    "scaled by wavelengths": {"rope_parameters": LLAMA3},
    "scaled by wavelengths, of the longest text": {
        "rope_parameters": {name: value for name, value in LLAMA3.items() if "original" not in name},
    },
}  # fmt: skip
every_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    widen(monkeypatch, modeling_llama)


def reference(directory: Path, kind: str = "LlamaForCausalLM", **changes: Any) -> Any:
    """A Llama of transformers in float64 with every parameter drawn anew, saved there too."""
    model = getattr(transformers, kind)(transformers.LlamaConfig(**{**SIZES, **changes})).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((1.0 if "norm" in name else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def load(directory: Path, kind: Any = LlamaForCausalLM) -> Any:
    return kind.from_pretrained(directory, dtype=np.float64)


def test_the_defaults_are_those_of_transformers() -> None:
    ours, theirs = LlamaConfig().to_dict(), json.loads(transformers.LlamaConfig().to_json_string(use_diff=False))
    assert {"head_dim", "hidden_act", "rms_norm_eps", "rope_parameters", "tie_word_embeddings"} <= theirs.keys()
    shared = ours.keys() & theirs.keys()
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}


@every_variant
def test_logits_loss_and_every_gradient_agree(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = reference(tmp_path, **changes)
    ours = load(tmp_path)
    output, backward = ours(**BATCH, labels=LABELS)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(LABELS))
    real = MASK.astype(bool)
    assert_close(output.logits[real], expected.logits[torch.tensor(real)], LOGITS)
    assert_close(output.loss, expected.loss, LOSS * abs(expected.loss.item()))
    backward()
    expected.loss.backward()
    biases = 3 * 7 if changes.get("attention_bias") else 0
    tied = bool(changes.get("tie_word_embeddings"))
    assert assert_same_gradients(ours, theirs) == 3 * 9 + 3 - tied + biases


@pytest.mark.parametrize("labels", [CLASSES, np.array([[0.0, 1, 1], [1, 0, 0], [0, 0, 1]])])
def test_the_classifier_agrees(tmp_path: Path, labels: Any) -> None:
    theirs = reference(tmp_path, "LlamaForSequenceClassification", attention_bias=True)
    ours = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=np.float64)
    assert isinstance(ours, LlamaForSequenceClassification)
    output, backward = ours(**BATCH, labels=labels)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(labels))
    assert_close(output.logits, expected.logits, LOGITS)
    assert_close(output.loss, expected.loss, LOSS * abs(expected.loss.item()))
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs) == 3 * 9 + 3 + 3 * 4


def test_padding_on_the_left_and_positions_that_are_given_agree(tmp_path: Path) -> None:
    theirs, ours = reference(tmp_path), load(tmp_path)
    left = {key: value[:, ::-1].copy() for key, value in BATCH.items()}
    given = {**BATCH, "position_ids": np.array([[3, 0, 8, 1, 4], [6, 0, 0, 0, 0], [2, 4, 6, 0, 0]])}
    shared = {**BATCH, "position_ids": np.array([[3, 0, 8, 1, 4]])}
    for batch in (left, given, shared):
        real = batch["attention_mask"].astype(bool)
        expected = theirs(**tensors(batch)).logits[torch.tensor(real)]
        assert_close(ours(**batch)[0].logits[real], expected, LOGITS)


def test_the_body_alone_agrees_and_pads_with_zeros(tmp_path: Path) -> None:
    theirs, ours = reference(tmp_path, "LlamaModel"), load(tmp_path, LlamaModel)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH)).last_hidden_state
    real = MASK.astype(bool)
    assert_close(output.last_hidden_state[real], expected[torch.tensor(real)], LOGITS)
    assert not output.last_hidden_state[~real].any()
    dhidden = np.random.default_rng(0).standard_normal((3, 5, 24)) * real[..., None]
    backward(dhidden)
    (expected * torch.tensor(dhidden)).sum().backward()
    assert assert_same_gradients(ours, theirs) == 3 * 9 + 2


def test_the_padding_tokens_embedding_has_no_gradient_though_the_token_occurs(tmp_path: Path) -> None:
    theirs, ours = reference(tmp_path), load(tmp_path)
    ids = np.array([[7, 0, 44, 9]])
    backward = ours(ids, labels=ids)[1]
    expected = theirs(torch.tensor(ids), labels=torch.tensor(ids))
    backward()
    expected.loss.backward()
    assert_close(ours.model.embed_tokens.weight.grad, theirs.model.embed_tokens.weight.grad, GRADIENT)
    assert not theirs.model.embed_tokens.weight.grad[0].any()


@pytest.mark.parametrize("tied", [True, False])
def test_next_logits_with_a_cache_are_those_of_the_whole(tmp_path: Path, tied: bool) -> None:
    theirs = reference(tmp_path, tie_word_embeddings=tied)
    ours, cache = load(tmp_path), Cache()
    prompt = Padding(MASK)
    first = ours.next_logits(prompt.pack(BATCH["input_ids"]), prompt.packing, cache)
    more = np.array([[11, 23], [17, 8], [4, 40]])
    second = ours.next_logits(more.ravel(), Packing.dense(3, 2), cache)
    for row, length in enumerate(MASK.sum(axis=1)):
        ids = np.concatenate([BATCH["input_ids"][row, :length], more[row]])
        expected = theirs(torch.tensor(ids[None])).logits[0]
        assert_close(first[row], expected[length - 1], LOGITS)
        assert_close(second[row], expected[-1], LOGITS)


def test_a_directory_of_npora_loads_in_transformers(tmp_path: Path) -> None:
    fields = {key: value for key, value in SIZES.items() if key != "num_labels"}
    for tied in (True, False):
        config = LlamaConfig(**fields, rope_theta=37.0, tie_word_embeddings=tied, attention_bias=True, mlp_bias=True)
        ours = LlamaForCausalLM(config, rng=3, dtype=np.float64)
        ours.save_pretrained(tmp_path / str(tied))
        assert ("lm_head.weight" in load_file(tmp_path / str(tied) / "model.safetensors")) != tied
        theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / str(tied), dtype=torch.float64).eval()
        assert theirs.config.rope_parameters["rope_theta"] == 37.0
        expected = theirs(**tensors(BATCH)).logits[torch.tensor(MASK.astype(bool))]
        assert_close(ours(**BATCH)[0].logits[MASK.astype(bool)], expected, LOGITS)


@pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3], ids=["default", "linear", "llama3"])
def test_files_of_older_versions_load_the_same(tmp_path: Path, scaling: dict[str, Any] | None) -> None:
    rope = {"rope_type": "default", **(scaling or {}), "rope_theta": 37.0}
    expected = reference(tmp_path, rope_parameters=rope)(**tensors(BATCH))
    path = tmp_path / "model.safetensors"
    state = {name: np.array(value) for name, value in load_file(path).items()}
    state["model.layers.1.self_attn.rotary_emb.inv_freq"] = np.ones(5)
    save_file(state, path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    older = scaling and {"type" if name == "rope_type" else name: value for name, value in scaling.items()}
    if older:
        del older["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 37.0, "rope_scaling": older}))
    assert_close(load(tmp_path)(**BATCH)[0].logits[0], expected.logits[0], LOGITS)
    load(tmp_path).save_pretrained(tmp_path / "again")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float64)
    assert theirs.config.rope_parameters == rope
    assert_close(load(tmp_path / "again")(**BATCH)[0].logits[0], theirs(**tensors(BATCH)).logits[0], LOGITS)


ADAPTERS: dict[str, dict[str, Any]] = {
    "defaults": {"target_modules": None},
    "attention": {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "all linear": {"target_modules": "all-linear"},
    "the mlp of one layer": {"target_modules": ["gate_proj", "up_proj", "down_proj"], "layers_to_transform": [1]},
}
every_adapter = pytest.mark.parametrize("fields", ADAPTERS.values(), ids=ADAPTERS.keys())
TASKS: dict[str, Any] = {
    "CAUSAL_LM": ("LlamaForCausalLM", LlamaForCausalLM, LABELS),
    "SEQ_CLS": ("LlamaForSequenceClassification", LlamaForSequenceClassification, CLASSES),
}
every_task = pytest.mark.parametrize("task", TASKS)


def complete(fields: dict[str, Any], task: str) -> dict[str, Any]:
    return {"r": 3, "lora_alpha": 5, "task_type": task, **fields}


@every_task
@every_adapter
def test_an_adapter_of_peft_loads_with_the_same_outputs_and_gradients(
    tmp_path: Path, fields: dict[str, Any], task: str
) -> None:
    kind, model, labels = TASKS[task]
    theirs = peft.get_peft_model(reference(tmp_path / "base", kind), peft.LoraConfig(**complete(fields, task))).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(theirs.named_parameters()):
            if parameter.requires_grad:  # B's away from zero, so that A has a gradient
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(load(tmp_path / "base", model), tmp_path / "adapter", is_trainable=True)
    output, backward = ours(**BATCH, labels=labels)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(labels))
    assert_close(output.loss, expected.loss, LOSS * abs(expected.loss.item()))
    assert_close(output.logits[0], expected.logits[0], LOGITS)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs) >= 6
    assert_close(ours.merge_and_unload()(**BATCH)[0].logits[0], theirs.merge_and_unload()(**tensors(BATCH)).logits[0],
                 LOGITS)  # fmt: skip


@every_task
@every_adapter
def test_an_adapter_of_npora_loads_in_peft_with_the_same_names_counts_and_outputs(
    tmp_path: Path, fields: dict[str, Any], task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, model, _ = TASKS[task]
    base = reference(tmp_path / "base", kind)
    ours = get_peft_model(load(tmp_path / "base", model), LoraConfig(**complete(fields, task)))
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True).eval()
    assert_close(ours(**BATCH)[0].logits[0], theirs(**tensors(BATCH)).logits[0], LOGITS)
    shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
    assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    ours.print_trainable_parameters()
    assert capsys.readouterr().out == expected
