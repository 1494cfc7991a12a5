"""Tokenizers against those of transformers: real vocabularies, in every form in which they lie in a directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoTokenizer
from npora.data.roles import ROLES
from tests.shared_data import data

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    "The quick brown fox can't jump 1234567 times, can it?  No…",
    "\n\ttabs and\r\nlines\n\n",
    "    four spaces",
    "Ünïcödé: naïve café, Straße, İstanbul",
    "e\u0301 is not é, a\u200bb\x00c\ufffd",
    "emoji 😀👩‍👩‍👧 and 中文字, עברית, हिन्दी",
    "<|endoftext|>[SEP]</s> [MASK]",
    "supercalifragilisticexpialidocious" * 4,
    "3.14159e-10 + 0x1F = $1,000.00",
]


def write(directory: Path, files: dict[str, Any]) -> Path:
    """Each file: a path to copy, or what JSON makes of the value."""
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, Path):
            shutil.copyfile(content, directory / name)
        else:
            (directory / name).write_text(json.dumps(content))
    return directory


def compare(directory: Path, texts: list[str] = TEXTS, target: str = "one two") -> tuple[Any, Any]:
    ours, theirs = AutoTokenizer.from_pretrained(directory), transformers.AutoTokenizer.from_pretrained(directory)
    assert {role: getattr(ours, role) for role in ROLES} == {role: getattr(theirs, role) for role in ROLES}
    assert [getattr(ours, f"{r}_id") for r in ROLES] == [getattr(theirs, f"{r}_id") for r in ROLES]
    assert (len(ours), ours.vocab_size, ours.get_vocab()) == (len(theirs), theirs.vocab_size, theirs.get_vocab())
    assert (ours.model_max_length or int(1e30)) == theirs.model_max_length
    assert (ours.padding_side, ours.truncation_side) == (theirs.padding_side, theirs.truncation_side)
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ours(text) == dict(theirs(text))
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False)
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
        tokens = theirs.convert_ids_to_tokens(ids)
        assert ours.convert_ids_to_tokens(ids) == tokens
        assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    unknown = ["no such token", "the"]
    assert ours.convert_tokens_to_ids(unknown) == theirs.convert_tokens_to_ids(unknown)
    if theirs.pad_token is None:
        ours.pad_token, theirs.pad_token = ours.eos_token, theirs.eos_token
    for side in ("left", "right"):
        ours.padding_side = theirs.padding_side = ours.truncation_side = theirs.truncation_side = side
        for options in (
            {"padding": True}, {"padding": "max_length", "max_length": 40, "truncation": True},
            {"padding": True, "truncation": True, "max_length": 6}, {"padding": True, "add_special_tokens": False},
        ):  # fmt: skip
            mine = ours(texts, return_tensors="np", **options)
            other = theirs(texts, return_tensors="np", **options)
            assert mine.keys() == other.keys()
            for key, array in mine.items():
                np.testing.assert_array_equal(array, other[key])
    batch = ours(texts)["input_ids"]
    assert ours.batch_decode(batch) == theirs.batch_decode(batch)
    assert ours(texts, texts[::-1], truncation=True, max_length=9) == dict(
        theirs(texts, texts[::-1], truncation=True, max_length=9)
    )
    assert ours("one", text_target=target) == dict(theirs("one", text_target=target))
    assert ours(text_target=target) == dict(theirs(text_target=target))
    both = {"text_target": texts[::-1], "padding": True, "truncation": True, "max_length": 5}
    assert ours(texts, **both) == dict(theirs(texts, **both))
    return ours, theirs


GPT2 = {"model_type": "gpt2"}
RENAMED = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}


@pytest.mark.parametrize(
    "extra", [{}, {"tokenizer_config.json": {"model_max_length": 17, "pad_token": "<|endoftext|>"}}]
)
def test_gpt2_from_tokenizer_json_and_from_its_vocabulary_and_merges(tmp_path: Path, extra: dict[str, Any]) -> None:
    source = data("tokenizers", "gpt2")
    whole = write(tmp_path / "whole", {"tokenizer.json": source / "tokenizer.json", "config.json": GPT2, **extra})
    parts = {RENAMED[name]: source / name for name in RENAMED}
    pieces = write(tmp_path / "pieces", {**parts, "config.json": GPT2, **extra})
    old = write(tmp_path / "old", {name: source / name for name in RENAMED} | {"config.json": GPT2, **extra})
    first, _ = compare(whole)
    second, _ = compare(pieces)
    third = AutoTokenizer.from_pretrained(old)  # OpenAI's own names, which transformers does not know
    assert first(TEXTS) == second(TEXTS) == third(TEXTS)
    assert first.special_tokens_map == second.special_tokens_map
    assert first.get_vocab() == second.get_vocab() == third.get_vocab() and len(third) == 50257


def test_a_roberta_is_told_from_a_gpt2(tmp_path: Path) -> None:
    source = data("tokenizers", "gpt2")
    vocabulary = json.loads((source / "vocab.json").read_text())
    front = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = (
        front + [token for token in sorted(vocabulary, key=vocabulary.get) if token != "<|endoftext|>"] + ["<mask>"]
    )
    files = {"vocab.json": {token: i for i, token in enumerate(tokens)}, "merges.txt": source / "vocab.bpe"}
    ours, _ = compare(write(tmp_path / "roberta", {**files, "config.json": {"model_type": "roberta"}}))
    assert ours("a")["input_ids"][0] == 0 and ours("a")["input_ids"][-1] == 2
    bare = AutoTokenizer.from_pretrained(write(tmp_path / "bare", files))
    assert bare("a") == ours("a")
    again = tmp_path / "again"
    transformers.AutoTokenizer.from_pretrained(tmp_path / "roberta").save_pretrained(again)
    compare(again)


# transformers takes a DistilBERT for a BERT unless its tokenizer_config.json says it.
CLASS: dict[str, dict[str, str]] = {"bert": {}, "distilbert": {"tokenizer_class": "DistilBertTokenizer"}}


@pytest.mark.parametrize(
    "settings",
    [{}, {"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False}, {"model_max_length": 512}],
)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_bert_from_its_vocabulary(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    files = {"vocab.txt": data("tokenizers", "bert-base-uncased-vocab.txt"), "config.json": {"model_type": family}}
    ours, theirs = compare(write(tmp_path, {**files, "tokenizer_config.json": {**settings, **CLASS[family]}}))
    theirs.save_pretrained(tmp_path / "again")
    again, _ = compare(tmp_path / "again")
    assert again(TEXTS) == ours(TEXTS)


def test_minilm_as_it_lies_there() -> None:
    compare(data("checkpoints", "minilm-l6"))


def test_tokens_that_were_added_to_a_vocabulary(tmp_path: Path) -> None:
    vocabulary = data("tokenizers", "bert-base-uncased-vocab.txt")
    files = {
        "vocab.txt": vocabulary,
        "config.json": {"model_type": "bert"},
        "added_tokens.json": {"[B]": 30523, "[A]": 30522},
        "special_tokens_map.json": {"bos_token": "[A]", "eos_token": {"content": "[E]", "lstrip": False}},
    }
    ours, theirs = compare(write(tmp_path, files), [*TEXTS, "x [A] y[B]z [E]"])
    assert (ours.bos_token_id, ours.eos_token_id, len(ours), ours.vocab_size) == (30522, 30524, 30525, 30522)
    theirs.save_pretrained(tmp_path / "again")
    compare(tmp_path / "again", [*TEXTS, "x [A] y[B]z [E]"])


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_tokenizers_of_t5_and_llama_that_transformers_wrote(tmp_path: Path, family: str) -> None:
    pieces = ["▁", "▁a", "b", "▁one", "▁two", "c", "é", "x"]
    if family == "t5":
        vocabulary: Any = [
            ("<pad>", 0.0),
            ("</s>", 0.0),
            ("<unk>", 0.0),
            *((p, -1.0 - i) for i, p in enumerate(pieces)),
        ]
        vocabulary += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
        theirs = transformers.T5Tokenizer(vocab=vocabulary)
    else:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcxé", "▁a"]
        theirs = transformers.LlamaTokenizer(
            vocab={t: i for i, t in enumerate(tokens)}, merges=[("▁", "a")], add_bos_token=True
        )
    theirs.save_pretrained(tmp_path)
    ours, _ = compare(tmp_path, ["", "a b", "one two é", "xyz </s> a", "😀"])
    assert ours("a b")["input_ids"][-1 if family == "t5" else 0] == 1
