"""What a tokenizer's files say about it, and what is said where they or a call make no sense."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoTokenizer
from npora.data import check_vocabulary
from tests.made_tokenizers import made

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s", "good", "<s>"]


@pytest.fixture(autouse=True)
def _needs_the_package() -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")


def write(directory: Path, **files: Any) -> Path:
    """Files by name, with __ for the dot; a dict is written as JSON."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return directory


def bert(directory: Path, **files: Any) -> Any:
    return AutoTokenizer.from_pretrained(write(directory, vocab__txt="\n".join(WORDS), **files))


def gpt2(directory: Path, **options: Any) -> Any:
    tokens = ["a", "b", "c", "Ġ", "ab", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return AutoTokenizer.from_pretrained(
        write(directory, vocab__json=vocabulary, merges__txt="#version: 0.2\na b\n"), **options
    )


def test_a_vocabulary_of_words_reads_as_a_bert(tmp_path: Path) -> None:
    tokenizer = bert(tmp_path)
    assert tokenizer("The FILMS", "good") == {
        "input_ids": [2, 5, 6, 7, 3, 8, 3], "token_type_ids": [0, 0, 0, 0, 0, 1, 1], "attention_mask": [1] * 7,
    }  # fmt: skip
    assert tokenizer.decode([2, 5, 6, 7, 3]) == "[CLS] the films [SEP]"
    assert tokenizer.decode(np.array([2, 5, 6, 7, 3]), skip_special_tokens=True) == "the films"
    assert tokenizer.decode(8) == "good" and tokenizer.batch_decode(np.array([[5], [8]])) == ["the", "good"]
    assert tokenizer.convert_tokens_to_ids(["good", "bad"]) == [8, 1] and tokenizer.convert_ids_to_tokens(8) == "good"
    assert tokenizer.encode("the [MASK]", add_special_tokens=False) == [5, 4]
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.model_max_length) == (None, None, None)


def test_pieces_of_bytes_read_as_a_gpt2(tmp_path: Path) -> None:
    tokenizer = gpt2(tmp_path)
    assert tokenizer("ab cab<|endoftext|>") == {"input_ids": [4, 3, 2, 4, 5], "attention_mask": [1] * 5}
    assert tokenizer.decode([4, 3, 2, 5]) == "ab c<|endoftext|>"
    assert tokenizer("a", "b")["input_ids"] == [0, 1] and tokenizer("")["input_ids"] == []
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.unk_token == "<|endoftext|>"
    assert tokenizer.cls_token is tokenizer.sep_token is tokenizer.mask_token is tokenizer.pad_token is None


def test_pieces_of_bytes_with_its_markers_read_as_a_roberta(tmp_path: Path) -> None:
    tokens = ["<s>", "<pad>", "</s>", "a", "b", "Ġ", "ab", "<mask>"]
    write(
        tmp_path, vocab__json={token: number for number, token in enumerate(tokens)}, merges__txt="#version: 0.2\na b"
    )
    for family in ({}, {"model_type": "roberta"}):
        tokenizer = AutoTokenizer.from_pretrained(write(tmp_path, config__json=family))
        assert tokenizer.encode("ab<mask> b") == [0, 6, 7, 5, 4, 2]
        assert tokenizer("a", "b") == {"input_ids": [0, 3, 2, 2, 4, 2], "attention_mask": [1] * 6}
        assert tokenizer.decode([0, 6, 7, 2, 1], skip_special_tokens=True) == "ab"
    assert (tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token_id) == ("<s>", "</s>", 1)


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [5, 10]),
        ({"do_lower_case": False}, [1, 1]),
        ({"strip_accents": False}, [5, 1]),
        ({"do_lower_case": False, "strip_accents": True}, [1, 10]),
    ],
)
def test_a_bert_folds_letters_as_its_files_say(tmp_path: Path, settings: dict[str, Any], ids: list[int]) -> None:
    write(tmp_path, vocab__txt="\n".join([*WORDS, "cafe"]), tokenizer_config__json=settings)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("The café", add_special_tokens=False) == ids


def test_padding_needs_a_token_and_takes_the_one_that_is_assigned(tmp_path: Path) -> None:
    tokenizer = gpt2(tmp_path)
    with pytest.raises(ValueError, match=r"no token to pad with; .* tokenizer\.pad_token = tokenizer\.eos_token"):
        tokenizer(["a", "ab c"], padding=True)
    with pytest.raises(ValueError, match=r"pad_token must be in the tokenizer's vocabulary, and '\[PAD\]' is not"):
        tokenizer.pad_token = "[PAD]"
    with pytest.raises(ValueError, match="pad_token_id must be in the tokenizer's vocabulary, and 6 is not"):
        tokenizer.pad_token_id = 6
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer(["a", "ab c"], padding=True)["input_ids"] == [[0, 5, 5], [4, 3, 2]]
    tokenizer.pad_token_id = 2
    tokenizer.padding_side = "left"
    batch = tokenizer(["a", "ab c"], padding="max_length", max_length=4, text_target=["b", "b"])
    assert batch["input_ids"] == [[2, 2, 2, 0], [2, 4, 3, 2]] and batch["attention_mask"][1] == [0, 1, 1, 1]
    assert batch["labels"] == [[2, 2, 2, 1]] * 2
    tokenizer.pad_token = None
    assert tokenizer.pad_token is None and tokenizer.pad_token_id is None


def test_files_and_options_give_the_roles(tmp_path: Path) -> None:
    config = {
        "pad_token": {"content": "the", "lstrip": False}, "cls_token": "film", "mask_token": None,
        "padding_side": "left", "model_max_length": int(1e30), "eos_token": "[EOS]",
    }  # fmt: skip
    tokenizer = bert(tmp_path, tokenizer_config__json=config, special_tokens_map__json={"cls_token": "good"})
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.cls_token_id) == ("the", 5, 8)
    assert tokenizer.mask_token is None and tokenizer.padding_side == "left" and tokenizer.model_max_length is None
    assert (tokenizer.eos_token_id, len(tokenizer), tokenizer.vocab_size) == (10, 11, 10)  # one more than vocab.txt has
    assert bert(tmp_path, tokenizer_config__json={**config, "added_tokens_decoder": {}}).cls_token == "film"
    other = AutoTokenizer.from_pretrained(tmp_path, pad_token="good", padding_side="right", model_max_length=3)
    ids = other("the film", truncation=True)["input_ids"]
    assert (other.pad_token_id, other.padding_side, ids) == (8, "right", [6, 5, 3])  # cls_token is film


def test_options_are_taken_accepted_named_or_unknown(tmp_path: Path) -> None:
    words = [*WORDS, "The"]
    write(tmp_path, vocab__txt="\n".join(words), tokenizer_config__json={"auto_map": {"AutoTokenizer": ["a.B", None]}})
    idle = {"use_fast": True, "trust_remote_code": False, "local_files_only": True, "token": None, "cache_dir": "x"}
    assert AutoTokenizer.from_pretrained(tmp_path, **idle).encode("The") == [2, 5, 3]
    assert AutoTokenizer.from_pretrained(tmp_path, do_lower_case=False).encode("The") == [2, 10, 3]
    for options, error, message in (
        ({"do_lowercase": False}, TypeError, r"has no option 'do_lowercase'; did you mean do_lower_case"),
        ({"foo": 1}, TypeError, r"has no option 'foo'; options are bos_token, "),
        ({"device_map": "auto"}, TypeError, r"device_map has no meaning for a tokenizer here: arrays are"),
        ({"padding": True}, TypeError, r"padding has no meaning .* where the tokenizer is called"),
        ({"padding_side": "top"}, ValueError, r"padding_side must be 'right' or 'left'; got 'top'"),
        ({"model_max_length": "512"}, ValueError, r"model_max_length must be a number of tokens, .* got '512'"),
        ({"trust_remote_code": True}, ValueError, r"npora runs no checkpoint's code"),
    ):
        with pytest.raises(error, match=message):
            AutoTokenizer.from_pretrained(tmp_path, **options)


@pytest.mark.parametrize(
    ("settings", "types"),
    [
        ({}, True),
        ({"tokenizer_class": "BertTokenizerFast"}, True),
        ({"tokenizer_class": "DistilBertTokenizerFast"}, False),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids"]}, False),
    ],
)
def test_only_what_the_model_takes_is_returned(tmp_path: Path, settings: dict[str, Any], types: bool) -> None:
    assert ("token_type_ids" in bert(tmp_path, tokenizer_config__json=settings)("the")) is types
    (tmp_path / "tokenizer_config.json").unlink()
    write(tmp_path, config__json={"model_type": "distilbert"})
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(tmp_path)("the")


def test_a_word_of_a_tokenizer_json_stays_one_unless_a_file_gives_it_a_role(tmp_path: Path) -> None:
    import tokenizers

    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[": 2, "]": 3}, "[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == 0 and tokenizer.encode("[PAD]") == [2, 1, 3]
    write(tmp_path, tokenizer_config__json={"pad_token": "[PAD]"})
    assert AutoTokenizer.from_pretrained(tmp_path).encode("[PAD]") == [0]
    backend.add_special_tokens([tokenizers.AddedToken("[PAD]", lstrip=True)])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert AutoTokenizer.from_pretrained(tmp_path).decode([0], skip_special_tokens=True) == ""
    for files in ({}, {"tokenizer_config__json": {}, "added_tokens__json": {"[PAD]": 0}}):
        tokens = AutoTokenizer.from_pretrained(write(tmp_path, **files)).backend.encode("] [PAD]")
        assert tokens.offsets == [(0, 1), (1, 7)]  # the space is still its own


def test_a_directory_without_a_tokenizer_says_what_was_looked_for(tmp_path: Path) -> None:
    nothing = r"there is no file .*tokenizer\.json, and no vocab\.json with merges\.txt or vocab\.txt either"
    write(tmp_path, vocab__json={"a": 0})
    with pytest.raises(FileNotFoundError, match=nothing + "$"):
        AutoTokenizer.from_pretrained(tmp_path)
    write(tmp_path, spiece__model="x")
    with pytest.raises(
        FileNotFoundError, match=nothing + r"\. spiece\.model is a SentencePiece model, .* transformers"
    ):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere"):
        AutoTokenizer.from_pretrained(tmp_path / "nowhere")


def test_files_that_contradict_each_other_or_are_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"added_tokens\.json gives '\[A\]' the id 12; the vocabulary 10"):
        bert(tmp_path, added_tokens__json={"[A]": 12})
    write(tmp_path, added_tokens__json={}, config__json={"model_type": "gpt2"})
    with pytest.raises(
        ValueError, match=r"no tokenizer\.json, and how the vocabulary of a gpt2 splits text stands only"
    ):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: pad_token must be a string or .*; got 3"):
        bert(tmp_path, config__json={}, tokenizer_config__json={"pad_token": 3})
    (tmp_path / "tokenizer_config.json").unlink()
    write(tmp_path, vocab__txt="the\nfilm")
    with pytest.raises(ValueError, match=r"the vocabulary has no cls_token, which this class puts around every text"):
        AutoTokenizer.from_pretrained(tmp_path)
    write(tmp_path, tokenizer__json='{"version": 1}')
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer: "):
        AutoTokenizer.from_pretrained(tmp_path)


def test_calls_that_make_no_sense_are_errors(tmp_path: Path) -> None:
    tokenizer = bert(tmp_path)
    for call, error, message in (
        (lambda: tokenizer(), ValueError, "pass text, text_target or both"),
        (lambda: tokenizer(["a", "\ud800"]), ValueError, "the text at 1 has half of a pair of surrogates"),
        (lambda: tokenizer(["a", 3]), TypeError, "takes a string or a list of strings; got int in the list"),
        (lambda: tokenizer("a", padding="longer"), ValueError, "padding must be True, False, 'longest' or"),
        (lambda: tokenizer("a", padding="max_length"), ValueError, "padding='max_length' needs max_length"),
        (lambda: tokenizer(["the", "the film"], return_tensors="np"), ValueError, "make no array: pass padding=True"),
        (lambda: tokenizer("the", truncation=True, max_length=1), ValueError, "max_length=1 leaves no room beside the"),
        (lambda: tokenizer.decode([[1]]), ValueError, r"batch_decode several; got int64 of shape \(1, 1\)"),
        (lambda: tokenizer.decode([1.5]), ValueError, "got float64"),
        (lambda: tokenizer.decode([1, -100]), ValueError, "ids are 0 or more; got -100"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert tokenizer.decode([]) == ""


def test_a_vocabulary_larger_than_the_models_is_an_error(tmp_path: Path) -> None:
    tokenizer = bert(tmp_path)
    check_vocabulary(tokenizer, 10)
    check_vocabulary(tokenizer, 64)
    message = (
        r"the tokenizer has 10 tokens with ids up to 9 \('<s>'\), and the model's vocabulary 9: take the tokenizer"
    )
    with pytest.raises(ValueError, match=message):
        check_vocabulary(tokenizer, 9)


def test_without_the_package_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r'needs the tokenizers package: pip install "npora\[hf\]"'):
        bert(tmp_path)


def test_a_name_on_the_hub_is_resolved_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert(tmp_path)
    asked: list[Any] = []
    hub: dict[str, Any] = {"local_files_only": True, "token": "hf_x"}

    def resolve(*arguments: Any, **keywords: Any) -> str:
        asked.append((arguments, keywords))
        return str(tmp_path)

    monkeypatch.setattr("npora.data.auto_tokenizer.resolve", resolve)
    assert AutoTokenizer.from_pretrained("org/tiny", "v2", "cache", **hub).encode("film") == [2, 6, 3]
    assert asked == [(("org/tiny", "v2", "cache"), {"weights": False, "local_files_only": True, "token": "hf_x"})]


def test_a_panic_of_the_package_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    backend = json.loads(made("word-pieces").to_str())
    backend["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    write(tmp_path, tokenizer__json=backend)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer: the tokenizers package panics: Precomp"):
        AutoTokenizer.from_pretrained(tmp_path)
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$b"}, "behavior": "Isolated", "invert": False}
    write(tmp_path, tokenizer__json={**backend, "normalizer": None, "pre_tokenizer": pattern})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=f"this tokenizer of {tmp_path} cannot encode the text: the tokenizers package"
    ):
        tokenizer("a" * 40 + "c")


def test_an_id_that_the_package_would_count_up_to_is_refused(tmp_path: Path) -> None:
    backend = json.loads(made("byte-level").to_str())
    backend["model"]["vocab"]["a"] = 10**9
    write(tmp_path, tokenizer__json=backend)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer: the id of 'a' is 1,000,000,000, and"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"vocab\.json is not a tokenizer: the id of 'b' is 1,000,000,000, and"):
        AutoTokenizer.from_pretrained(write(tmp_path, vocab__json={"a": 0, "b": 10**9}, merges__txt="#version: 0.2\n"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"added_tokens_decoder": []}, "added_tokens_decoder must be an object of values"),
        ({"added_tokens_decoder": {"x": "a"}}, "added_tokens_decoder is by whole numbers; got 'x'"),
        ({"added_tokens_decoder": {"4": {"content": 3}}}, "of token 4 of added_tokens_decoder must be a string"),
        ({"extra_special_tokens": [{"content": "a", "lstrip": 1}]}, "lstrip of a token of extra_special_tokens must"),
        ({"do_lower_case": "no"}, "do_lower_case must be True or False or None; got 'no'"),
        ({"padding_side": "up"}, "padding_side must be 'right' or 'left'; got 'up'"),
        ({"extra_ids": 10**9}, "extra_ids must lie in [0, 10000]"),
        ({"model_input_names": [3]}, "model_input_names must be a list of strings or None; got [3]"),
    ],
)  # fmt: skip
def test_a_setting_of_another_kind_is_refused_by_name(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        bert(tmp_path, tokenizer_config__json=settings)
    assert message in str(error.value) and str(tmp_path / "tokenizer_config.json") in str(error.value)
