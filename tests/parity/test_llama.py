"""Llama against transformers' and PEFT's, in float64: the suite of its kind, and what is its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from npora.files import load_file, save_file
from npora.models import LlamaModel
from tests.parity.decoders import (
    GRADIENT,
    IDS,
    LINEAR,
    LLAMA3,
    LOGITS,
    MASK,
    RIGHT,
    SIZES,
    Decoder,
    assert_same_gradients,
)
from tests.parity.reference import assert_close, tensors, torch, transformers

BATCH = {"input_ids": IDS, "attention_mask": MASK}


class TestLlama(Decoder):
    family = "llama"
    sizes: ClassVar = {**SIZES, "head_dim": 10}
    variants: ClassVar = {
        "untied": {},
        "tied": {"tie_word_embeddings": True},
        "no padding token": {"tie_word_embeddings": True, "pad_token_id": None},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "one key head": {"num_key_value_heads": 1},
        "as many key heads, width and eps of their own": {
            "num_key_value_heads": None, "head_dim": None, "rms_norm_eps": 1e-3,
        },
        "another gate": {"hidden_act": "gelu"},
        "another theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 37.0}},
        "scaled linearly": {"rope_parameters": LINEAR},
        "scaled by wavelengths": {"rope_parameters": LLAMA3},
        "scaled by wavelengths, of the longest text": {
            "rope_parameters": {name: value for name, value in LLAMA3.items() if "original" not in name},
        },
    }  # fmt: skip

    def test_several_classes_at_once_agree(self, tmp_path: Path) -> None:
        theirs = self.reference(tmp_path, "SequenceClassification", attention_bias=True)
        ours = self.load(tmp_path, "SequenceClassification")
        self.assert_same(ours, theirs, {**RIGHT, "labels": np.array([[0.0, 1, 1], [1, 0, 0], [0, 0, 1]])})

    def test_the_body_alone_agrees_and_pads_with_zeros(self, tmp_path: Path) -> None:
        theirs = transformers.LlamaModel(self.reference(tmp_path).config).double().eval()
        theirs.save_pretrained(tmp_path)
        ours = LlamaModel.from_pretrained(tmp_path, dtype=np.float64)
        output, backward = ours(**BATCH)
        expected, real = theirs(**tensors(BATCH)).last_hidden_state, MASK.astype(bool)
        assert_close(output.last_hidden_state[real], expected[torch.tensor(real)], LOGITS)
        assert not output.last_hidden_state[~real].any()
        dhidden = np.random.default_rng(0).standard_normal((3, 7, 24)) * real[..., None]
        backward(dhidden)
        (expected * torch.tensor(dhidden)).sum().backward()
        assert assert_same_gradients(ours, theirs) == 3 * 9 + 2

    def test_the_padding_tokens_embedding_has_no_gradient_though_the_token_occurs(self, tmp_path: Path) -> None:
        theirs = self.reference(tmp_path)
        ours, ids = self.load(tmp_path), np.array([[7, 0, 44, 9]])
        backward = ours(ids, labels=ids)[1]
        expected = theirs(torch.tensor(ids), labels=torch.tensor(ids))
        backward()
        expected.loss.backward()
        assert_close(ours.model.embed_tokens.weight.grad, theirs.model.embed_tokens.weight.grad, GRADIENT)
        assert not theirs.model.embed_tokens.weight.grad[0].any()

    @pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3], ids=["default", "linear", "llama3"])
    def test_files_of_older_versions_load_the_same(self, tmp_path: Path, scaling: dict[str, Any] | None) -> None:
        rope = {"rope_type": "default", **(scaling or {}), "rope_theta": 37.0}
        expected = self.reference(tmp_path, rope_parameters=rope)(**tensors(BATCH))
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
        ours = self.load(tmp_path)
        assert_close(ours(**BATCH)[0].logits[0], expected.logits[0], LOGITS)
        ours.save_pretrained(tmp_path / "again")
        theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float64)
        assert theirs.config.rope_parameters == rope
        assert_close(ours(**BATCH)[0].logits[0], theirs(**tensors(BATCH)).logits[0], LOGITS)
