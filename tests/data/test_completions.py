"""Rows of a prompt and its completion, of which the completion alone is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from npora.data import ByteTokenizer, Tokenizer, collate, completion_labels, encode_completion, encode_text
from npora.models import GPT2Config, GPT2LMHeadModel
from npora.nn.functional import log_softmax

EOS = 256


def test_a_prompt_has_no_labels_and_a_completion_its_own_ids() -> None:
    assert completion_labels([3, 1, 4], [1, 5]) == [-100, -100, -100, 1, 5]
    row = encode_completion(ByteTokenizer(eos=True), "ab", " cd")
    assert row["input_ids"] == [*b"ab cd", EOS]
    assert row["labels"] == [-100, -100, *b" cd", EOS]


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
    row = encode_completion(ByteTokenizer(eos=True), "abcd", "XYZ", max_length)
    assert row == {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


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
    assert encode_completion(tokenizer, "a", "b") == {"input_ids": [0, 2, 3, 1], "labels": [-100, -100, 3, 1]}


def test_the_loss_is_the_mean_over_the_completions_tokens_of_all_rows() -> None:
    config = GPT2Config(vocab_size=257, n_positions=16, n_embd=6, n_layer=1, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(config, rng=1, dtype=np.float64)
    model.eval()
    pairs = [("question", " yes"), ("q", " certainly"), ("what", "")]
    rows = [encode_completion(ByteTokenizer(eos=True), prompt, completion) for prompt, completion in pairs]
    batch = collate(rows, {"input_ids", "labels", "attention_mask"})
    output, _ = model(**batch)
    losses = []
    for (prompt, completion), row in zip(pairs, rows, strict=True):
        logits = model(np.array([row["input_ids"]]))[0].logits[0]
        start = len(prompt)
        predicted = logits[start - 1 : start + len(completion)]  # a token is predicted by the one before it
        scores = log_softmax(predicted)[0]
        losses += [-scores[i, token] for i, token in enumerate([*completion.encode(), EOS])]
    assert output.num_items == len(losses) == 4 + 1 + 10 + 1 + 1
    np.testing.assert_allclose(output.loss, np.mean(losses), rtol=1e-12)
