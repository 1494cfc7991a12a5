"""Text as bytes: what goes in comes out, and the calls are those of any tokenizer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import AutoTokenizer, ByteTokenizer, check_vocabulary

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, st.booleans(), st.booleans())
def test_any_text_is_its_bytes_and_comes_back(text: str, eos: bool, pad: bool) -> None:
    tokenizer = ByteTokenizer(eos, pad)
    ids = tokenizer(text)["input_ids"]
    assert ids == tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids


def test_special_tokens_count_on_from_the_bytes_and_no_text_has_them() -> None:
    tokenizer = ByteTokenizer(eos=True, pad=True)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (256, 257)
    assert len(tokenizer) == tokenizer.vocab_size == 258
    assert [len(ByteTokenizer()), len(ByteTokenizer(True)), len(ByteTokenizer(pad=True))] == [256, 257, 257]
    assert ByteTokenizer(pad=True).pad_token_id == 256 and ByteTokenizer().eos_token is None
    assert 256 not in tokenizer.encode("<eos>")
    assert tokenizer.decode([104, 256, 257]) == "h<eos><pad>"
    assert tokenizer.decode([104, 256, 257], skip_special_tokens=True) == "h"
    assert tokenizer.decode([0xC3, 0x28]) == "\ufffd("  # half a letter is marked, not an error
    assert tokenizer.convert_ids_to_tokens([0, 255, 256, 258, -1]) == ["<0x00>", "<0xFF>", "<eos>", None, None]
    assert tokenizer.decode([104, 300]) == "h"  # of an embedding padded to a round number; no token, as elsewhere


def test_a_batch_is_cut_and_padded_on_either_side() -> None:
    tokenizer = ByteTokenizer(eos=True)
    assert "token_type_ids" not in tokenizer("ab")
    tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(["abc", "é", ""], truncation=True, max_length=2, padding=True, return_tensors="np")
    assert batch["input_ids"].tolist() == [[97, 98], [195, 169], [256, 256]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 1], [0, 0]]
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    batch = tokenizer(["abc", "d"], truncation=True, max_length=2, padding=True)
    assert batch == {"input_ids": [[98, 99], [256, 100]], "attention_mask": [[1, 1], [0, 1]]}
    assert tokenizer("abc", truncation=True, max_length=0)["input_ids"] == []
    assert tokenizer("ab", "c", text_target="d") == {
        "input_ids": [97, 98, 99],
        "attention_mask": [1] * 3,
        "labels": [100],
    }


@pytest.mark.parametrize(
    ("strategy", "most", "right", "left"),
    [
        ("longest_first", 9, "abcdexyz", "abcdexyz"), ("longest_first", 7, "abcdxyz", "bcdexyz"),
        ("longest_first", 6, "abcxyz", "cdexyz"), ("longest_first", 5, "abcxy", "cdeyz"),
        ("longest_first", 4, "abxy", "deyz"), ("longest_first", 1, "a", "e"), ("only_first", 6, "abcxyz", "cdexyz"),
        ("only_second", 6, "abcdex", "abcdez"), (True, 7, "abcdxyz", "bcdexyz"), (False, 2, "abcdexyz", "abcdexyz"),
    ],
)  # fmt: skip
def test_of_a_pair_the_text_is_cut_that_the_strategy_names(strategy: Any, most: int, right: str, left: str) -> None:
    for side, expected in (("right", right), ("left", left)):
        tokenizer = ByteTokenizer()
        tokenizer.truncation_side = side
        for _ in range(2):
            found = tokenizer("abcde", "xyz", truncation=strategy, max_length=most)
            assert tokenizer.decode(found["input_ids"]) == expected
            assert found.sequence_ids() == [int(letter in "xyz") for letter in expected]
            assert tokenizer.encode("abcdexyz") == list(b"abcdexyz")  # the next call is cut by what it says itself


def test_a_text_that_would_be_cut_to_nothing_is_none_to_cut() -> None:
    with pytest.raises(ValueError, match="max_length=5 leaves nothing of the text that only_second cuts"):
        ByteTokenizer()("abcde", "xyz", truncation="only_second", max_length=5)


def test_a_call_cuts_its_target_pads_on_its_side_and_says_where_letters_stand() -> None:
    tokenizer = ByteTokenizer(eos=True, pad=True)
    found = tokenizer(["abcd", "x"], text_target=["efg", "y"], max_length=2)
    assert (found["input_ids"], found["labels"]) == ([[97, 98], [120]], [[101, 102], [121]])
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True}
    found = tokenizer("aé", "z", padding="max_length", max_length=6, padding_side="left", **options)
    assert found == {
        "input_ids": [257, 257, 97, 195, 169, 122], "attention_mask": [0, 0, 1, 1, 1, 1], "length": 6,
        "special_tokens_mask": [1, 1, 0, 0, 0, 0],
        "offset_mapping": [(0, 0), (0, 0), (0, 1), (1, 2), (1, 2), (0, 1)],
    }  # fmt: skip
    assert tokenizer.padding_side == "right"
    batch = tokenizer(["abcde", "x"], padding=True, pad_to_multiple_of=4)
    assert batch["input_ids"] == [[*b"abcde", 257, 257, 257], [*b"x", *[257] * 7]]
    tokenizer.model_max_length = 3
    assert [len(tokenizer("abcde", truncation=True, max_length=most)["input_ids"]) for most in (None, 2, 4)] == [
        3,
        2,
        4,
    ]


def test_its_vocabulary_fits_a_model_of_256_or_more() -> None:
    check_vocabulary(ByteTokenizer(), 256)
    with pytest.raises(
        ValueError, match=r"has 257 tokens with ids up to 256 \('<eos>'\), and the model's vocabulary 256"
    ):
        check_vocabulary(ByteTokenizer(eos=True), 256)


@given(TEXT, st.booleans(), st.booleans(), st.sampled_from(["right", "left"]), st.none() | st.integers(1, 9))
def test_a_folder_brings_it_back_without_a_package(
    text: str, eos: bool, pad: bool, side: str, most: int | None
) -> None:
    tokenizer = ByteTokenizer(eos, pad)
    if eos and not pad:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side, tokenizer.model_max_length = side, most
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, tokenizers=None):
        tokenizer.save_pretrained(folder)
        again = AutoTokenizer.from_pretrained(folder)
        assert isinstance(again, ByteTokenizer) and again.special_tokens_map == tokenizer.special_tokens_map
        assert again(text, truncation=True) == tokenizer(text, truncation=True) and len(again) == len(tokenizer)
        if pad or eos:
            assert again([text, ""], padding=True) == tokenizer([text, ""], padding=True)
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        again.save_pretrained(folder)
        assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == written


def test_it_needs_no_package() -> None:
    program = (
        "import sys; sys.modules['tokenizers'] = sys.modules['huggingface_hub'] = None; "
        "from npora.data import ByteTokenizer; print(ByteTokenizer()('hi')['input_ids'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[104, 105]\n"
