"""A tokenizer written to GGUF and read from it gives the ids that it gave, and what cannot be is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from npora import AutoTokenizer
from npora.data import Tokenizer
from npora.data.gguf_tokenizer import KEY, SPLITS
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.files.gguf_writer import save_gguf
from tests.made_tokenizers import TEMPLATE, texts
from tests.made_tokenizers import as_llama_cpp_has_it as tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
ROWS = 600
PROBE = "The film's  naïve 1234 ok\n\n中文 😀!"


def read(folder: Path, keys: dict[str, Any]) -> Tokenizer:
    save_gguf(folder / "x.gguf", {"general.architecture": "llama", "llama.context_length": 77, **keys}, {})
    return AutoTokenizer.from_pretrained(folder / "x.gguf")


KINDS = ("byte-level", "metaspace", "word-pieces")


@pytest.fixture(params=KINDS, scope="module")
def both(request: Any, tmp_path_factory: Any) -> tuple[Tokenizer, Tokenizer]:
    before = tokenizer(request.param)
    return before, read(tmp_path_factory.mktemp("gguf"), gguf_vocabulary(before, ROWS))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts())
def test_ids_and_texts_are_the_same(both: tuple[Tokenizer, Tokenizer], text: str) -> None:
    before, after = both
    ids = before(text)["input_ids"]
    assert after(text)["input_ids"] == ids
    assert after.decode(ids) == before.decode(ids)


def test_roles_template_and_length_are_in_the_file(both: tuple[Tokenizer, Tokenizer]) -> None:
    before, after = both
    for role, token in before.special_tokens_map.items():
        assert getattr(after, role) == token and getattr(after, f"{role}_id") == getattr(before, f"{role}_id")
    assert after.chat_template == TEMPLATE and after.model_max_length == 77
    assert len(after) == ROWS and after.convert_ids_to_tokens(ROWS - 1) == f"[PAD{ROWS - 1}]"


@pytest.mark.parametrize("pre", [*dict.fromkeys(SPLITS.values())])
def test_each_way_to_split_has_its_name_and_is_found_by_it(tmp_path: Path, pre: str | None) -> None:
    name = next(name for name, way in SPLITS.items() if way == pre)
    before = tokenizer("byte-level", pre=name)
    keys = gguf_vocabulary(before, ROWS)
    assert keys["tokenizer.ggml.pre"] == name
    assert (
        read(tmp_path, {**keys, "tokenizer.ggml.add_bos_token": False})(PROBE)["input_ids"]
        == before(PROBE)["input_ids"]
    )


def test_what_is_a_token_as_it_stands_is_one_where_the_way_to_split_says_so(tmp_path: Path) -> None:
    keys = gguf_vocabulary(tokenizer("byte-level"), ROWS)
    keys[KEY + "tokens"][ROWS - 1], keys[KEY + "token_type"][ROWS - 1] = "qzq", 1  # which no merge makes
    for pre, is_one in (("llama-bpe", True), ("qwen2", False)):
        ids = read(tmp_path, {**keys, KEY + "pre": pre, KEY + "add_bos_token": False})("qzq")["input_ids"]
        assert (ids == [ROWS - 1]) == is_one


def test_what_stands_around_a_text_is_said(tmp_path: Path) -> None:
    before = tokenizer("byte-level")
    first, last = before.bos_token_id, before.eos_token_id
    before.backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", first), ("</s>", last)]
    )
    keys = gguf_vocabulary(before, ROWS)
    assert keys["tokenizer.ggml.add_bos_token"] and keys["tokenizer.ggml.add_eos_token"]
    assert read(tmp_path, keys)("a")["input_ids"] == before("a")["input_ids"]


def test_without_a_space_before_a_text_none_is_put_there(tmp_path: Path) -> None:
    before = tokenizer("metaspace", space=False)
    keys = gguf_vocabulary(before, ROWS)
    after = read(tmp_path, keys)
    assert keys["tokenizer.ggml.add_space_prefix"] is False
    ids = before("the film")["input_ids"]
    assert after("the film", add_special_tokens=False)["input_ids"] == ids and after.decode(ids) == "the film"


def test_an_added_word_that_is_not_special_is_one_of_the_users(tmp_path: Path) -> None:
    before = tokenizer("byte-level")
    before.backend.add_tokens([tokenizers.AddedToken("qqq", normalized=False)])
    after = read(tmp_path, gguf_vocabulary(before, ROWS))
    ids = before("a qqq b")["input_ids"]
    assert after("a qqq b")["input_ids"] == ids and after.decode(ids, skip_special_tokens=True) == "a qqq b"


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("unigram", {}, "byte pairs and of word pieces to GGUF, and none of Unigram"),
        ("byte-level", {"pre_tokenizer": tokenizers.pre_tokenizers.Whitespace()}, "treats spaces as this one does"),
        ("byte-level", {"pre_tokenizer": tokenizers.pre_tokenizers.ByteLevel(use_regex=False)}, "no name of llama.cpp"),
        ("word-pieces", {"normalizer": tokenizers.normalizers.BertNormalizer(lowercase=False)}, "lower case alone"),
    ],
)
def test_a_tokenizer_that_llama_cpp_has_none_like_is_refused(kind: str, changes: dict[str, Any], said: str) -> None:
    wrong = tokenizer(kind)
    for name, value in changes.items():
        setattr(wrong.backend, name, value)
    with pytest.raises(ValueError, match=said):
        gguf_vocabulary(wrong, ROWS)


def test_a_model_with_fewer_rows_than_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ids go up to \d+, and the model has 300 of them"):
        gguf_vocabulary(tokenizer("byte-level"), 300)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tokens": []}, "holds no tokenizer"),
    ({"tokens": np.zeros(3)}, "tokens must be a list of texts"),
    ({"tokens": ["a", "a"], "token_type": np.ones(2)}, "1 tokens of tokenizer.ggml.tokens stand there twice"),
    ({"token_type": np.ones(3)}, "token_type must be 600 numbers, one a token"),
    ({"token_type": np.full(600, np.nan)}, "token_type must be 600 numbers"),
    ({"model": "rwkv"}, "model 'rwkv' is not supported; npora reads gpt2, llama, bert"),
    ({"model": np.ones(2)}, "is not supported"),
    ({"pre": "deepseek-llm"}, "pre 'deepseek-llm' is not supported; npora reads gpt-2"),
    ({"pre": ["gpt-2"]}, "is not supported"),
    ({"merges": ["ab"]}, "merges must be of pairs; got 'ab'"),
    ({"merges": 3}, "merges must be a list of texts"),
    ({"bos_token_id": 600}, "bos_token_id must be one of 600 tokens; got 600"),
    ({"eos_token_id": True}, "eos_token_id must be one of 600 tokens; got True"),
    ({"add_bos_token": 1}, "add_bos_token must be True or False; got 1"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[said for _, said in WRONG])
def test_keys_that_say_what_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    keys = gguf_vocabulary(tokenizer("byte-level"), ROWS) | {KEY + name: value for name, value in changes.items()}
    with pytest.raises(ValueError, match=said) as error:
        read(tmp_path, keys)
    assert "x.gguf" in str(error.value)


def test_a_token_too_long_to_be_cut_everywhere_is_refused(tmp_path: Path) -> None:
    tokens = [f"[PAD{number}]" for number in range(3)]
    keys = {f"{KEY}model": "llama", f"{KEY}tokens": [*tokens, "x" * 300], f"{KEY}token_type": np.ones(4, np.int32)}
    with pytest.raises(ValueError, match="a token has 300 characters; at most 256"):
        read(tmp_path, keys)


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = gguf_vocabulary(tokenizer("byte-level"), ROWS)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"needs the tokenizers package: pip install .npora\[hf\]"):
        read(tmp_path, keys)


def test_a_file_that_does_not_say_how_text_is_split_is_read_as_gpt_2s(tmp_path: Path, caplog: Any) -> None:
    before = tokenizer("byte-level")
    keys = gguf_vocabulary(before, ROWS)
    del keys[f"{KEY}pre"]
    assert read(tmp_path, keys)(PROBE)["input_ids"] == before(PROBE)["input_ids"]
    assert "does not say how text is split" in caplog.text
