"""Real models and vocabularies written to GGUF: llama.cpp reads their texts and computes as npora does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoTokenizer
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.files.gguf_writer import save_gguf
from npora.models import AutoModelForCausalLM, BertModel
from npora.models.gguf.writing import write_gguf
from tests.parity import llama_cpp
from tests.shared_data import data

pytest.importorskip("xllamacpp", reason="needs the extra `parity`")
TEXTS = ["The film isn't  good, naïve 12345!", " 中文 and\n\nÉmile's 😀", "unbelievably re-tokenised [SEP] text"]


def test_minilm_embeds_a_text_in_llama_cpp_as_here(tmp_path: Path) -> None:
    folder = data("checkpoints", "minilm-l6")
    model, tokenizer = BertModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    write_gguf(model, tmp_path / "x.gguf", "F32", gguf_vocabulary(tokenizer, model.config.vocab_size))
    again = AutoTokenizer.from_pretrained(tmp_path / "x.gguf")
    with llama_cpp.server(tmp_path / "x.gguf", embedding=True) as server:
        for text in TEXTS:
            ids = tokenizer(text)["input_ids"]
            assert again(text)["input_ids"] == ids
            mean = model(np.array([ids]))[0].last_hidden_state[0].mean(axis=0)
            found = llama_cpp.embedded(server, text)
            np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=0, atol=2e-3)


def test_the_vocabulary_of_gpt_2_gives_its_ids_from_gguf(tmp_path: Path) -> None:
    before = AutoTokenizer.from_pretrained(data("tokenizers", "gpt2"))
    keys = gguf_vocabulary(before, len(before))
    save_gguf(tmp_path / "x.gguf", {"general.architecture": "gpt2", **keys}, {})
    after = AutoTokenizer.from_pretrained(tmp_path / "x.gguf")
    assert keys["tokenizer.ggml.pre"] == "gpt-2" and after.eos_token_id == before.eos_token_id
    for text in TEXTS:
        assert after(text)["input_ids"] == before(text)["input_ids"]


def test_a_real_llama_goes_on_in_llama_cpp_as_here(tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(data("checkpoints", "stories260K"))
    size = model.config.vocab_size
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"[PAD{number}]" for number in range(len(tokens), size)]
    types = np.array([2, 3, 3, *[6] * 256, *[5] * (size - 259)], np.int32)
    keys = {"model": "llama", "tokens": tokens, "token_type": types, "scores": np.zeros(size, np.float32)}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    write_gguf(model, tmp_path / "x.gguf", "F32", {f"tokenizer.ggml.{key}": v for key, v in {**keys, **ids}.items()})
    prompt = model.generate(np.array([[1]]), max_new_tokens=20)[0].tolist()
    logits = model(np.array([prompt]))[0].logits[0, -1].astype(np.float64)
    expected = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    with llama_cpp.server(tmp_path / "x.gguf") as server:
        found = llama_cpp.log_probabilities(server, prompt, size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
