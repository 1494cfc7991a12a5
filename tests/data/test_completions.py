"""Examples of a prompt and its completion, of which the completion alone is learnt."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import AutoTokenizer
from npora.data import (
    ByteTokenizer,
    Dataset,
    Tokenizer,
    collate,
    completion_labels,
    encode_completion,
    encode_completions,
    encode_text,
    windows,
)
from npora.models import GPT2Config, GPT2LMHeadModel
from npora.nn.functional import log_softmax
from tests.made_tokenizers import made, template, texts
from tests.shared_data import data

EOS = 256


def test_a_prompt_has_no_labels_and_a_completion_its_own_ids() -> None:
    assert completion_labels([3, 1, 4], [1, 5]) == [-100, -100, -100, 1, 5]
    example = encode_completion(ByteTokenizer(eos=True), "ab", " cd")
    assert example["input_ids"] == [*b"ab cd", EOS]
    assert example["labels"] == [-100, -100, *b" cd", EOS]


def test_an_empty_completion_is_its_end_and_an_empty_prompt_has_no_part() -> None:
    assert encode_completion(ByteTokenizer(eos=True), "ab", "")["labels"] == [-100, -100, EOS]
    assert encode_completion(ByteTokenizer(eos=True), "", "c") == {"input_ids": [*b"c", EOS], "labels": [*b"c", EOS]}


@pytest.mark.parametrize(
    ("max_length", "ids", "prompt"),
    [
        (8, [*b"abcdXYZ", EOS], 4),
        (7, [*b"bcdXYZ", EOS], 3),
        (5, [*b"dXYZ", EOS], 1),
        (4, [*b"dXYZ"], 1),
        (2, [*b"dX"], 1),
    ],
)
def test_what_is_too_long_loses_the_prompts_beginning_first(max_length: int, ids: list[int], prompt: int) -> None:
    example = encode_completion(ByteTokenizer(eos=True), "abcd", "XYZ", max_length)
    assert example == {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


def test_a_text_alone_is_learnt_whole() -> None:
    assert encode_text(ByteTokenizer(eos=True), "ab") == {"input_ids": [*b"ab", EOS], "labels": [*b"ab", EOS]}
    assert encode_text(ByteTokenizer(eos=True), "abcd", 3)["labels"] == [*b"abc"]


def test_nothing_to_end_with_and_no_room_are_errors() -> None:
    with pytest.raises(ValueError, match=r"no token to end a text.*tokenizer\.eos_token"):
        encode_completion(ByteTokenizer(), "a", "b")
    with pytest.raises(ValueError, match=r"max_length must be at least 2.*got 1"):
        encode_completion(ByteTokenizer(eos=True), "a", "b", max_length=1)


def test_a_special_token_goes_before_the_prompt_and_not_between() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="<s>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})
    assert encode_completion(tokenizer, "a", " b") == {"input_ids": [0, 2, 3, 1], "labels": [-100, -100, 3, 1]}


def test_the_loss_is_the_mean_over_the_completions_tokens_of_all_rows() -> None:
    config = GPT2Config(vocab_size=257, n_positions=16, n_embd=6, n_layer=1, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(config, rng=1, dtype=np.float64)
    model.eval()
    pairs = [("question", " yes"), ("q", " certainly"), ("what", "")]
    examples = [encode_completion(ByteTokenizer(eos=True), prompt, completion) for prompt, completion in pairs]
    batch = collate(examples, {"input_ids", "labels", "attention_mask"})
    output, _ = model(**batch)
    losses = []
    for (prompt, completion), example in zip(pairs, examples, strict=True):
        logits = model(np.array([example["input_ids"]]))[0].logits[0]
        start = len(prompt)
        predicted = logits[start - 1 : start + len(completion)]  # a token is predicted by the one before it
        scores = log_softmax(predicted)[0]
        losses += [-scores[i, token] for i, token in enumerate([*completion.encode(), EOS])]
    assert output.num_items == len(losses) == 4 + 1 + 10 + 1 + 1
    np.testing.assert_allclose(output.loss, np.mean(losses), rtol=1e-12)


KINDS = {
    "byte-level": (None, "$A", "$A </s>", "<s> $A </s>", "<s> $A"),
    "metaspace": (None, "<s> $A", "<s> $A </s>"),
    "unigram": (None, "$A </s>"),
    "word-pieces": ("[CLS] $A [SEP]",),
}


def tokenizers_of_all_kinds() -> list[Any]:
    return [pytest.param(kind, around, id=f"{kind} {around}") for kind, ways in KINDS.items() for around in ways]


def small(kind: str, around: str | None) -> Tokenizer:
    backend = made(kind) if around is None else template(made(kind), around)
    end = "[SEP]" if kind == "word-pieces" else "</s>"
    return Tokenizer(backend, {"eos_token": end})


@pytest.mark.parametrize(("kind", "around"), tokenizers_of_all_kinds())
@given(texts(), texts(), st.booleans())
def test_prompt_and_completion_have_the_ids_of_the_joined_text_and_one_end(
    kind: str, around: str | None, prompt: str, completion: str, space: bool
) -> None:
    before, after = (0, 0) if around is None else [len(side.split()) for side in around.split("$A")]
    check(small(kind, around), prompt, " " * space + completion, before, after)


@given(texts(), texts())
def test_so_have_they_as_bytes_and_with_the_vocabularies_of_gpt2_and_bert(prompt: str, completion: str) -> None:
    check(ByteTokenizer(eos=True), prompt, completion, 0, 0)
    check(real("tokenizers", "gpt2"), prompt, completion, 0, 0)
    bert = real("checkpoints", "minilm-l6")
    bert.eos_token = bert.sep_token
    check(bert, prompt, completion, 1, 1)


@cache
def real(*parts: str) -> Tokenizer:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    return AutoTokenizer.from_pretrained(data(*parts))


def check(tokenizer: Tokenizer, prompt: str, completion: str, before: int, after: int) -> None:
    """before, after : how many tokens the tokenizer puts around a text."""
    end, joined = tokenizer.eos_token_id, prompt + completion
    example = encode_completion(tokenizer, prompt, completion)
    ids = tokenizer(joined)["input_ids"]
    ids = ids[: len(ids) - after]
    spans = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    learnt = [token for token, (_, stop) in zip(ids[before:], spans, strict=True) if stop > len(prompt)]
    ended = learnt[-1:] == [end]  # the completion spells its end out
    assert example["input_ids"] == (ids if ended else [*ids, end])
    assert example["labels"] == [-100] * (len(ids) - len(learnt)) + learnt + [end] * (not ended)
    if not any(start < len(prompt) < stop for start, stop in spans) and type(tokenizer.backend).__name__ == "_Bytes":
        assert tokenizer.decode(learnt) == completion


@given(texts(), texts())
def test_what_is_learnt_is_the_completion(prompt: str, completion: str) -> None:
    tokenizer = small("byte-level", "<s> $A </s>")
    tokenizer.backend.encode_special_tokens = True
    example = encode_completion(tokenizer, prompt, completion)
    learnt = tokenizer.decode([label for label in example["labels"] if label != -100][:-1])
    assert learnt.endswith(completion)
    apart = example["input_ids"][: example["labels"].count(-100)]
    if apart == tokenizer(prompt)["input_ids"][:-1]:
        assert learnt == completion


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(2, 12), st.integers(0, 40))
def test_windows_lose_nothing_and_learn_each_label_once(ids: list[int], length: int, prompt: int) -> None:
    labels = [-100] * min(prompt, len(ids)) + ids[prompt:]
    cut = windows({"input_ids": ids, "labels": labels}, length)
    joined = cut[0]["input_ids"] + [i for example in cut[1:] for i in example["input_ids"][1:]]
    assert joined == ids and cut[0]["labels"] + [i for example in cut[1:] for i in example["labels"][1:]] == labels
    for example, later in itertools.pairwise(cut):
        assert len(example["input_ids"]) == length == len(example["labels"])
        assert later["input_ids"][0] == example["input_ids"][-1] and later["labels"][0] == -100
        assert len(later["input_ids"]) > 1  # each window predicts something


def test_a_document_is_learnt_as_the_model_would_read_it_whole() -> None:
    config = GPT2Config(vocab_size=257, n_positions=64, n_embd=6, n_layer=1, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(config, rng=1, dtype=np.float64)
    example = encode_text(ByteTokenizer(eos=True), "a document that is longer than the window")
    outputs = [model(**collate([part], {"input_ids", "labels", "attention_mask"}))[0] for part in windows(example, 9)]
    assert sum(output.num_items for output in outputs) == len(example["input_ids"]) - 1


@given(texts(), st.integers(2, 12))
def test_cutting_keeps_what_begins_a_text_and_counts_the_rows(text: str, length: int) -> None:
    tokenizer = small("byte-level", "<s> $A")
    examples = Dataset([{"prompt": text, "text": " good"}, {"prompt": "", "text": ""}])
    encoded, cut = encode_completions(tokenizer, examples, length)
    whole = encode_completion(tokenizer, text, " good")
    over = len(whole["input_ids"]) - length
    assert cut == (over > 0) and encoded[1]["input_ids"] == [0, 2]
    example = encoded[0]
    assert len(example["input_ids"]) == len(example["labels"]) == min(length, len(whole["input_ids"]))
    learnt = [label for label in whole["labels"] if label != -100]
    if len(learnt) + 2 <= length:
        assert example["input_ids"][0] == 0 and example["input_ids"][-len(learnt) :] == learnt
        assert example["input_ids"][1 : -len(learnt)] == whole["input_ids"][1 + max(over, 0) : -len(learnt)]


def test_the_end_that_is_learnt_is_the_one_generation_stops_at() -> None:
    tokenizer = ByteTokenizer(eos=True)
    for end in (7, [7, 256], (7,), np.array([7, 256])):
        assert encode_text(tokenizer, "ab", eos_token_id=end)["labels"] == [*b"ab", 7]
        assert encode_completion(tokenizer, "a", "b", eos_token_id=end)["labels"] == [-100, *b"b", 7]
        assert encode_completion(ByteTokenizer(), "a", "b", eos_token_id=end)["labels"] == [-100, *b"b", 7]
    assert encode_text(small("byte-level", None), "a</s>", eos_token_id=[0, 2])["input_ids"][-1] == 2  # ended already
    t5 = small("unigram", "$A </s>")
    assert encode_text(t5, "good")["input_ids"] == t5("good")["input_ids"]
    assert encode_text(t5, "good", eos_token_id=0)["input_ids"] == [*t5("good")["input_ids"][:-1], 0]
    for end in (True, 1.5, "x", [], [None]):
        with pytest.raises(ValueError, match=r"no token to end|eos_token_id must be"):
            encode_text(ByteTokenizer(), "ab", eos_token_id=end)


@given(texts(), st.sampled_from([" ", "\n\n ", "  good", ""]))
def test_spaces_that_a_tokenizer_leaves_out_of_a_tokens_place_are_still_the_completions(text: str, more: str) -> None:
    trimming, plain = small("byte-level", None), small("byte-level", None)
    trimming.backend.post_processor = pytest.importorskip("tokenizers").processors.ByteLevel(trim_offsets=True)
    assert encode_completion(trimming, text, more) == encode_completion(plain, text, more)
    assert trimming.backend.post_processor is not None
