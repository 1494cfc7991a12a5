"""A tokenizer is called as scripts call one of transformers."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import AutoTokenizer
from npora.data import ByteTokenizer, Dataset, Tokenizer
from tests.made_tokenizers import made, template, texts


class Column(Sequence[str]):
    """A column of a data set, which makes its texts when they are asked for."""

    def __getitem__(self, index: Any) -> Any:
        return ["the film", "good"][index]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return iter(["the film", "good"])


@pytest.fixture
def tokenizer() -> Tokenizer:
    backend = template(made("word-pieces"), "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    roles = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return Tokenizer(backend, roles, token_type_ids=True)


def test_texts_come_in_lists_columns_and_arrays(tokenizer: Tokenizer) -> None:
    expected = tokenizer(["the film", "good"])
    for given_ in (Column(), np.array(["the film", "good"]), ("the film", "good"), iter(["the film", "good"])):
        assert tokenizer(given_) == expected
    assert tokenizer(np.str_("good")) == tokenizer("good") == tokenizer(np.array("good"))
    pairs = tokenizer(["the film", "good"], ["good", "bad"])
    assert tokenizer([("the film", "good"), ["good", "bad"]]) == pairs
    assert tokenizer(Column(), np.array(["good", "bad"])) == pairs and tokenizer([]) == {
        "input_ids": [], "token_type_ids": [], "attention_mask": [],
    }  # fmt: skip
    mapped = Dataset({"s": text} for text in Column()).map(lambda batch: tokenizer(batch["s"]), batched=True)
    assert mapped["input_ids"] == expected["input_ids"] and mapped[1]["s"] == "good"


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["a", None], "got NoneType in the list, None at 1"),
        (["a", float("nan")], "got float in the list, nan at 1"),
        (b"bytes", "got bytes"),
        (3, "got int"),
        ([("a", 3)], "got int in the list, 3 at 0"),
        (np.array([1, 2]), "got int in the list, 1 at 0"),
    ],
)
def test_what_is_no_text_is_named_with_its_place(tokenizer: Tokenizer, given_: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        tokenizer(given_)


def test_an_encoding_is_a_dict_and_its_keys_are_attributes(tokenizer: Tokenizer) -> None:
    encoded = tokenizer("the film", "good", return_offsets_mapping=True, return_special_tokens_mask=True)
    assert encoded.input_ids == encoded["input_ids"] and isinstance(encoded, dict)
    assert encoded.offset_mapping[1] == (0, 3) and encoded.special_tokens_mask[0] == 1
    assert encoded.tokens()[1] == "the" and encoded.sequence_ids()[:2] == [None, 0]
    words = tokenizer(["the", "film"], is_split_into_words=True)
    assert words.input_ids == tokenizer("the film").input_ids and words.word_ids()[1] == 0
    assert tokenizer([["the"], ["film"]], is_split_into_words=True).input_ids == tokenizer(["the", "film"]).input_ids
    assert encoded.to("cpu") is encoded and copy.deepcopy(encoded) == pickle.loads(pickle.dumps(encoded)) == encoded
    with pytest.raises(AttributeError, match=r"this encoding has input_ids, .* and no 'labels'"):
        _ = encoded.labels
    with pytest.raises(ValueError, match=r"there is no device 'cuda': leave out \.to"):
        encoded.to("cuda")


def test_what_is_returned_is_what_was_asked_for(tokenizer: Tokenizer) -> None:
    assert list(tokenizer("good", return_token_type_ids=False, return_attention_mask=False)) == ["input_ids"]
    assert tokenizer(["good", ""], return_length=True)["length"] == [len(tokenizer("good").input_ids), 2]
    array = tokenizer("good", return_tensors="np", return_length=True)
    assert array.input_ids.shape == (1, array.length[0]) and array.input_ids.dtype == np.int64
    assert tokenizer.tokenize("the film") == tokenizer.convert_ids_to_tokens(tokenizer("the film").input_ids[1:-1])
    assert tokenizer.num_special_tokens_to_add() == 2 and tokenizer.num_special_tokens_to_add(pair=True) == 3
    assert tokenizer.all_special_ids == [tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens]
    assert tokenizer.is_fast and tokenizer.encode_plus("good") == tokenizer.batch_encode_plus("good")
    assert repr(tokenizer).startswith("Tokenizer('', ") and "'cls_token': '[CLS]'" in repr(tokenizer)
    assert "257 tokens" in repr(ByteTokenizer(eos=True))


def test_max_length_alone_cuts_and_beside_padding_says_what_it_does_not_do(tokenizer: Tokenizer) -> None:
    cut = tokenizer("the film", max_length=3)
    assert cut == tokenizer("the film", truncation=True, max_length=3) != tokenizer("the film")
    with pytest.warns(UserWarning, match="max_length does nothing here without truncation=True"):
        tokenizer("the film", padding=True, max_length=3)
    assert len(tokenizer("good", padding=True, pad_to_multiple_of=8).input_ids) == 8
    left = tokenizer("good", padding="max_length", max_length=9, padding_side="left")
    assert left.input_ids[0] == tokenizer.pad_token_id and tokenizer.padding_side == "right"


@given(st.lists(texts(), min_size=1, max_size=4), st.sampled_from(["left", "right"]), st.sampled_from([None, 4]))
def test_pad_makes_of_single_calls_what_one_call_gives(drawn: list[str], side: str, multiple: int | None) -> None:
    tokenizer = Tokenizer(made("byte-level"), {"pad_token": "<pad>"}, padding_side=side)
    options: dict[str, Any] = {"padding": True, "pad_to_multiple_of": multiple, "return_tensors": "np"}
    whole = tokenizer(drawn, **options)
    examples = [tokenizer(text) | {"label": i} for i, text in enumerate(drawn)]
    padded = tokenizer.pad(examples, **options)
    assert padded.pop("label").tolist() == list(range(len(drawn)))
    bare = tokenizer.pad({"input_ids": [example["input_ids"] for example in examples]}, **options)
    for key, array in whole.items():
        np.testing.assert_array_equal(padded[key], array)
        np.testing.assert_array_equal(bare[key], array)


def test_pad_leaves_labels_alone_and_takes_one_text_too(tokenizer: Tokenizer) -> None:
    examples = [{"input_ids": [5], "label": 0.5, "labels": [5]}, {"input_ids": [5, 6], "label": 1.0, "labels": [5, 6]}]
    padded = tokenizer.pad(examples)
    assert padded.input_ids == [[5, 0], [5, 6]] and padded.labels == [[5], [5, 6]] and padded.label == [0.5, 1.0]
    del examples[0]["labels"], examples[1]["labels"]
    assert tokenizer.pad(examples, return_tensors="np").label.tolist() == [0.5, 1.0]
    one = tokenizer.pad(tokenizer("good"), padding="max_length", max_length=7)
    assert one == tokenizer("good", padding="max_length", max_length=7)


def test_a_text_that_a_tokenizer_has_no_token_for_is_an_error() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordPiece({"a": 0}, unk_token="[UNK]")))
    with pytest.raises(ValueError, match="this tokenizer cannot encode the text: WordPiece error"):
        tokenizer("b")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"return_tensors": "pt"}, ValueError, "return_tensors must be 'np' or None; got 'pt': npora is NumPy only"),
        ({"truncation": "longest"}, ValueError, "truncation must be True, False, 'longest_first', .* got 'longest'"),
        ({"stride": 4}, ValueError, "stride and return_overflowing_tokens are not supported: .*npora.data.windows"),
        ({"return_overflowing_tokens": True}, ValueError, "stride and return_overflowing_tokens are not supported"),
        ({"truncatoin": True}, TypeError, "truncatoin"),
        ({"max_length": -1}, ValueError, "max_length must be a whole number of tokens, 0 or more; got -1"),
        ({"max_length": 8.0}, ValueError, "max_length must be a whole number of tokens, 0 or more; got 8.0"),
        ({"padding": True, "padding_side": "up"}, ValueError, "padding_side must be 'right' or 'left'; got 'up'"),
        ({"is_split_into_words": True}, TypeError, "is_split_into_words needs a list of words; got a string"),
        ({"text_pair": ["a"]}, TypeError, "text and text_pair must both be one text, or both be lists"),
    ],
)
def test_options_without_a_meaning_are_errors(
    tokenizer: Tokenizer, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tokenizer("the film", **options)


def test_pairs_need_as_many_texts_on_both_sides(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="each text needs its text_pair; got 2 and 1"):
        tokenizer(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="the examples to pad must have the same keys"):
        tokenizer.pad([{"input_ids": [1]}, {"input_ids": [1], "label": 1}])
    with pytest.raises(ValueError, match="pad takes what calls of the tokenizer gave; got nothing"):
        tokenizer.pad([])
    with pytest.raises(ValueError, match="pad takes what a call of the tokenizer gives, with input_ids; got label"):
        tokenizer.pad([{"label": 1}])


def test_a_role_is_given_to_a_token_of_the_vocabulary_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.add_special_tokens({"mask_token": "[MASK]"}) == 0 and tokenizer.mask_token == "[MASK]"
    with pytest.raises(ValueError, match=r"'<new>' is not in the vocabulary, and the embedding of a pretrained model"):
        tokenizer.add_special_tokens({"pad_token": "<new>"})
    with pytest.raises(ValueError, match=r"roles are bos_token, .* got 'padding'"):
        tokenizer.add_special_tokens({"padding": "[PAD]"})


@given(texts(), texts(), st.integers(0, 14), st.sampled_from(["longest_first", "only_first", "only_second"]))
def test_bytes_are_cut_as_the_package_cuts_tokens(first: str, second: str, length: int, strategy: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    ours = ByteTokenizer()
    reference = Tokenizer(tokenizers.Tokenizer.from_str(ours.backend.to_str()))
    for side in ("left", "right"):
        ours.truncation_side = reference.truncation_side = side
        options: dict[str, Any] = {"truncation": strategy, "max_length": length}
        try:
            expected = reference(first, second or None, **options)["input_ids"]
        except ValueError:
            with pytest.raises(ValueError, match="max_length"):
                ours(first, second or None, **options)
            continue
        assert ours(first, second or None, **options)["input_ids"] == expected


@given(texts(), st.booleans(), st.booleans())
def test_saved_bytes_are_read_back_by_the_package(text: str, eos: bool, pad: bool) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    first = ByteTokenizer(eos, pad)
    first.model_max_length = 9
    with tempfile.TemporaryDirectory() as directory:
        first.save_pretrained(directory)
        again = AutoTokenizer.from_pretrained(directory)
        assert json.loads((Path(directory) / "tokenizer_config.json").read_text())["model_max_length"] == 9
    ids = first.encode(text + "<eos>")
    assert again.encode(text + "<eos>") == ids and again.decode(ids) == text + "<eos>"
    assert again.get_vocab() == first.get_vocab() and again.special_tokens_map == first.special_tokens_map
    assert again.model_max_length == 9 and again.eos_token_id == first.eos_token_id
