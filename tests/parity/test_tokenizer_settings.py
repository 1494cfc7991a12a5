"""Files that contradict tokenizer.json, and options in their place: the ids are transformers'."""

from __future__ import annotations

import base64
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import AutoTokenizer
from tests.made_tokenizers import made, template, texts

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")


def charsmap() -> str:
    """SentencePiece's map of characters in the form of its files, a double array of bytes: A to b, and é to e."""
    units = [0] * 1024
    units[0] = 256 << 10
    units[256 ^ 0x41], units[256 ^ 0x41 ^ 512] = 512 << 10 | 1 << 8 | 0x41, 0
    units[256 ^ 0xC3] = 512 << 10 | 0xC3
    units[256 ^ 0xC3 ^ 512 ^ 0xA9], units[256 ^ 0xC3 ^ 512 ^ 0xA9 ^ 256] = 256 << 10 | 1 << 8 | 0xA9, 2
    return base64.b64encode(struct.pack("<I1024I", 4096, *units) + b"b\0e\0").decode()


FLAG, MAYBE = st.booleans(), st.sampled_from([None, True, False])
COMMON: dict[str, Any] = {
    "split_special_tokens": FLAG,
    "clean_up_tokenization_spaces": FLAG,
    "model_max_length": st.sampled_from([9, 512, int(1e30)]),
    "padding_side": st.sampled_from(["left", "right"]),
    "truncation_side": st.sampled_from(["left", "right"]),
    "extra_special_tokens": st.sampled_from([[], ["the"], ["<new>", "film"]]),
    "additional_special_tokens": st.sampled_from([[], ["good"]]),
}
BERT = COMMON | {"do_lower_case": FLAG, "strip_accents": MAYBE, "tokenize_chinese_chars": FLAG}
BPE = COMMON | {"add_prefix_space": FLAG, "add_bos_token": FLAG, "add_eos_token": FLAG}
LLAMA = COMMON | {"add_prefix_space": MAYBE, "legacy": FLAG, "add_bos_token": FLAG, "add_eos_token": FLAG}
ENDS = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
FAMILIES: dict[str, tuple[str, list[tuple[str | None, str | None]], dict[str, Any]]] = {
    "word-pieces": (
        "[CLS] $A",
        [("bert", None), ("bert", "BertTokenizer"), (None, "DistilBertTokenizerFast"),
         ("distilbert", "DistilBertTokenizer"), ("bert", "PreTrainedTokenizerFast")],
        BERT,
    ),
    "byte-level": (
        "$A </s>",
        [("roberta", None), ("roberta", "RobertaTokenizerFast"), ("gpt2", None), ("gpt2", "GPT2Tokenizer"),
         ("llama", "GPT2Tokenizer"), ("llama", "LlamaTokenizer"), ("llama", "PreTrainedTokenizerFast"), ("llama", None),
         ("roberta", "PreTrainedTokenizerFast")],
        BPE,
    ),
    "metaspace": (
        "<s> $A",
        [("llama", "LlamaTokenizer"), ("llama", "LlamaTokenizerFast"), ("llama", "PreTrainedTokenizerFast"),
         ("llama", None)],
        LLAMA,
    ),
    "unigram": ("$A", [("t5", None), ("t5", "T5TokenizerFast"), ("t5", "PreTrainedTokenizerFast")], COMMON),
}  # fmt: skip


def some(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def added(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Tokens of the vocabulary with settings of their own, in tokenizer_config.json or in special_tokens_map.json."""
    backend = made(kind)
    names = [token for token in ("the", "film", "<mask>", "[MASK]", "</s>", "good") if backend.token_to_id(token)]
    flags = {name: FLAG for name in ("lstrip", "rstrip", "normalized", "single_word", "special")}
    settings = st.dictionaries(st.sampled_from(names), st.fixed_dictionaries(flags), max_size=3)
    return settings.map(lambda d: {name: {"content": name, **values} for name, values in d.items()})


def folder(
    directory: Path,
    kind: str,
    model_type: str | None,
    name: str | None,
    config: dict[str, Any],
    around: str | None,
    tokens: dict[str, Any],
    in_config: bool,
) -> None:
    backend = made(kind) if around is None else template(made(kind), around, None)
    backend.save(str(directory / "tokenizer.json"))
    if kind == "unigram" and around is None:
        written = json.loads((directory / "tokenizer.json").read_text())
        steps = [{"type": "Precompiled", "precompiled_charsmap": charsmap()}, {"type": "Lowercase"}]
        written["normalizer"] = {"type": "Sequence", "normalizers": steps}
        (directory / "tokenizer.json").write_text(json.dumps(written))
    if tokens and in_config:
        decoder = {str(backend.token_to_id(content)): values for content, values in tokens.items()}
        config = config | {"added_tokens_decoder": decoder}
    elif mask := tokens.get("<mask>", tokens.get("[MASK]")):
        (directory / "special_tokens_map.json").write_text(json.dumps({"mask_token": mask}))
    if model_type is not None:
        (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    if name is not None:
        config = config | {"tokenizer_class": name}
    if kind in ("byte-level", "metaspace") and ("Fast" in (name or "") or model_type == "llama"):
        config = ENDS | config
    if kind == "unigram":  # of more than the vocabulary has transformers makes ids that the model lacks
        config = {"extra_ids": 1} | config
    (directory / "tokenizer_config.json").write_text(json.dumps(config))


def alike(ours: Any, theirs: Any, drawn: list[str]) -> None:
    for text in drawn:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
        plain = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, add_special_tokens=False) == plain
        for skip in (False, True):
            assert ours.decode(plain, skip_special_tokens=skip) == theirs.decode(plain, skip_special_tokens=skip)
    mine, other = (t(drawn, drawn[::-1], return_attention_mask=False) for t in (ours, theirs))
    assert mine["input_ids"] == other["input_ids"]
    assert ours.num_special_tokens_to_add(True) == theirs.num_special_tokens_to_add(True)
    for strategy in ("longest_first", "only_first", "only_second"):
        try:
            expected = theirs(drawn, drawn[::-1], truncation=strategy, max_length=11)["input_ids"]
        except Exception:
            with pytest.raises(ValueError, match="max_length=11 leaves"):
                ours(drawn, drawn[::-1], truncation=strategy, max_length=11)
            continue
        if max(map(len, expected), default=0) <= 11:
            assert ours(drawn, drawn[::-1], truncation=strategy, max_length=11)["input_ids"] == expected
    assert ours.model_max_length == (None if theirs.model_max_length > 1e9 else theirs.model_max_length)
    assert (ours.padding_side, ours.truncation_side) == (theirs.padding_side, theirs.truncation_side)
    assert len(ours) == len(theirs) and ours.get_vocab() == theirs.get_vocab()


@pytest.mark.parametrize(
    ("kind", "model_type", "name"),
    [(kind, *case) for kind, (_, cases, _) in FAMILIES.items() for case in cases],
)
@given(st.data())
def test_ids_are_those_of_transformers_whatever_the_files_beside_tokenizer_json_say(
    kind: str, model_type: str | None, name: str | None, data: st.DataObject
) -> None:
    around, _, fields = FAMILIES[kind]
    config = data.draw(some(fields))
    around = around if data.draw(FLAG) else None
    options, tokens, in_config = data.draw(some(fields)), data.draw(added(kind)), data.draw(FLAG)
    with tempfile.TemporaryDirectory() as directory:
        folder(Path(directory), kind, model_type, name, config, around, tokens, in_config)
        ours = AutoTokenizer.from_pretrained(directory, **options)
        theirs = transformers.AutoTokenizer.from_pretrained(directory, **options)
    alike(ours, theirs, data.draw(st.lists(texts(), min_size=1, max_size=4)))


@pytest.mark.parametrize(
    ("kind", "model_type", "name"),
    [(kind, *case) for kind, (_, cases, _) in FAMILIES.items() for case in cases],
)
@given(st.data())
def test_a_saved_tokenizer_is_read_back_alike_by_npora_and_by_transformers(
    kind: str, model_type: str | None, name: str | None, data: st.DataObject
) -> None:
    around, _, fields = FAMILIES[kind]
    config, around = data.draw(some(fields)), around if data.draw(FLAG) else None
    options, tokens, in_config = data.draw(some(fields)), data.draw(added(kind)), data.draw(FLAG)
    with tempfile.TemporaryDirectory() as directory:
        folder(Path(directory), kind, model_type, name, config, around, tokens, in_config)
        first = AutoTokenizer.from_pretrained(directory, **options)
    with tempfile.TemporaryDirectory() as saved:
        first.save_pretrained(saved)
        if data.draw(FLAG) and model_type is not None:  # a merged model lies beside it
            (Path(saved) / "config.json").write_text(json.dumps({"model_type": model_type}))
        again, theirs = AutoTokenizer.from_pretrained(saved), transformers.AutoTokenizer.from_pretrained(saved)
    drawn = data.draw(st.lists(texts(), min_size=1, max_size=4))
    alike(again, theirs, drawn)
    assert [again(text) for text in drawn] == [first(text) for text in drawn] == [dict(theirs(t)) for t in drawn]
    assert again.special_tokens_map == first.special_tokens_map == theirs.special_tokens_map
    assert again.all_special_tokens == first.all_special_tokens and again.all_special_ids == theirs.all_special_ids
    names = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "model_input_names")
    assert [getattr(again, n) for n in names] == [getattr(first, n) for n in names]
