"""What is written to GGUF computes in llama.cpp what it computes here, and its files are read as it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoTokenizer, LoraConfig, get_peft_model
from npora.data.gguf_tokenizer import KEY, SPLITS
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.gguf_adapter import write_gguf_adapter
from npora.models.auto import tasks_of
from npora.models.gguf.writing import write_gguf
from tests.made_tokenizers import as_llama_cpp_has_it as made_tokenizer
from tests.parity import llama_cpp
from tests.test_cli_export import drawn
from tests.tiny_gguf import DECODERS, VOCABULARY, tiny_gguf

pytest.importorskip("xllamacpp", reason="needs the extra `parity`")
IDS = [3, 5, 7, 200, 9, 4, 33, 12, 90]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def written(path: Path, model: Any, numbers: str = "F32") -> Path:
    write_gguf(model, path / "x.gguf", numbers, gguf_vocabulary(made_tokenizer("byte-level"), VOCABULARY))
    return path / "x.gguf"


def log_probabilities(model: Any) -> Any:
    logits = model(np.array([IDS]))[0].logits[0, -1].astype(np.float64)
    return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


@pytest.mark.parametrize("family", DECODERS)
def test_llama_cpp_computes_what_the_model_computes(tmp_path: Path, family: str) -> None:
    model = tiny_gguf(family)
    with llama_cpp.server(written(tmp_path, model)) as server:
        found = llama_cpp.log_probabilities(server, IDS, VOCABULARY)
    # Of logits of about 20 in float32; llama.cpp's GELU is a table of float16 (GPT-2 and Gemma).
    atol = 0.01 if family in ("gpt2", "gemma3_text") else 1e-4
    np.testing.assert_allclose(found, log_probabilities(model), rtol=0, atol=atol)


@pytest.mark.parametrize("numbers", ["F16", "BF16", "Q8_0"])
def test_what_is_rounded_computes_in_both_alike(tmp_path: Path, numbers: str) -> None:
    path = written(tmp_path, tiny_gguf("llama", tie_word_embeddings=True), numbers)
    model = tasks_of("llama")["CausalLM"].from_pretrained(path)
    with llama_cpp.server(path) as server:
        found = llama_cpp.log_probabilities(server, IDS, VOCABULARY)
    # llama.cpp rounds the rows too, before it multiplies them by such a matrix.
    atol = {"F16": 0.03, "BF16": 0.2, "Q8_0": 0.6}[numbers]
    np.testing.assert_allclose(found, log_probabilities(model), rtol=0, atol=atol)


def test_scaled_frequencies_of_llama_3_are_llama_cpps(tmp_path: Path) -> None:
    model = tiny_gguf("llama", rope_scaling=LLAMA3, rope_theta=500_000.0, head_dim=32)
    with llama_cpp.server(path := written(tmp_path, model)) as server:
        found = llama_cpp.log_probabilities(server, IDS, VOCABULARY)
    np.testing.assert_allclose(found, log_probabilities(model), rtol=0, atol=1e-4)
    again = tasks_of("llama")["CausalLM"].from_pretrained(path)
    assert again.config.rope_scaling == LLAMA3 and np.array_equal(log_probabilities(again), log_probabilities(model))


def test_bert_embeds_in_llama_cpp_as_here(tmp_path: Path) -> None:
    model = tiny_gguf("bert").bert
    keys = gguf_vocabulary(made_tokenizer("word-pieces"), VOCABULARY)
    write_gguf(model, tmp_path / "x.gguf", "F32", keys)
    with llama_cpp.server(tmp_path / "x.gguf", embedding=True) as server:
        found = llama_cpp.embedded(server, IDS)
    mean = model(np.array([IDS]))[0].last_hidden_state[0].mean(axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=0, atol=2e-3)  # its GELU is a table


TEXTS = ["the quick brown fox", " a  b\n\nc", "isn't 12345 é 中文 😀", "<s>good</s> film"]


@pytest.mark.parametrize("kind", ["byte-level", "metaspace", *dict.fromkeys(SPLITS.values())])
def test_llama_cpp_makes_the_same_ids_of_a_text(tmp_path: Path, kind: str | None) -> None:
    name = "" if kind in ("byte-level", "metaspace") else next(name for name, way in SPLITS.items() if way == kind)
    keys = gguf_vocabulary(made_tokenizer(kind if not name else "byte-level"), 600)
    write_gguf(
        tiny_gguf("llama", vocab_size=600), tmp_path / "x.gguf", "F32", keys | ({KEY + "pre": name} if name else {})
    )
    ours = AutoTokenizer.from_pretrained(tmp_path / "x.gguf")
    with llama_cpp.server(tmp_path / "x.gguf") as server:
        for text in TEXTS:
            ids = ours(text)["input_ids"]
            assert llama_cpp.tokens_of(server, text) == len(ids), text
            found = llama_cpp.log_probabilities(server, text, 600)
            np.testing.assert_array_equal(found, llama_cpp.log_probabilities(server, ids, 600), text)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("scaled", [False, True])
def test_an_adapter_in_gguf_does_in_llama_cpp_what_it_does_here(tmp_path: Path, family: str, scaled: bool) -> None:
    base = tiny_gguf(family)
    path = written(tmp_path, base)
    before = log_probabilities(base)
    other = "c_attn" if family == "gpt2" else "v_proj"
    options: dict[str, Any] = {"rank_pattern": {other: 2}, "use_rslora": True} if scaled else {}
    targets = ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"] if family == "gpt2" else r".*\.\w+_proj"
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, target_modules=targets, **options))
    drawn(model)
    write_gguf_adapter(model, tmp_path / "adapter.gguf")
    with llama_cpp.server(path, tmp_path / "adapter.gguf") as server:
        found = llama_cpp.log_probabilities(server, IDS, VOCABULARY)
    np.testing.assert_allclose(found, log_probabilities(model), rtol=0, atol=0.02 if family == "gpt2" else 1e-3)
    assert np.abs(log_probabilities(model) - before).max() > 0.5
