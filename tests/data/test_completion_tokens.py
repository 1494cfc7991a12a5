"""What of a prompt and its completion is learnt and what is cut, where tokens are of two letters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from npora.data import Tokenizer, encode_completion, encode_completions, encode_text, windows

START, END, OTHER = 0, 1, 2
A, B, C, D, X, Y = (10 + i for i in range(6))
WORDS = {"aa": A, "bb": B, "cc": C, "dd": D, "xx": X, "yy": Y}
NO = -100


class Pairs:
    """What Tokenizer asks of a `tokenizers.Tokenizer`: two letters are a token, and § is the end of a text."""

    post_processor: Any = "puts a start before a text and an end behind it"

    def no_truncation(self) -> None: ...

    def no_padding(self) -> None: ...

    def token_to_id(self, token: str) -> int | None:
        return {"<s>": START, "§": END, "<other>": OTHER}.get(token)

    def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[Any]:
        return [self.encode(text, add_special_tokens) for text in texts]

    def encode(self, text: str, add_special_tokens: bool = True) -> Any:
        ids, offsets, at = [], [], 0
        while at < len(text):
            size = 1 if text[at] == "§" else 2
            part = text[at : at + size]
            ids.append(END if part == "§" else WORDS.get(part, 100 + ord(part[0])))
            offsets.append((at, at + len(part)))
            at += size
        mask = [0] * len(ids)
        if self.post_processor is not None and add_special_tokens:
            ids, offsets, mask = [START, *ids, END], [(0, 0), *offsets, (0, 0)], [1, *mask, 1]
        return SimpleNamespace(ids=ids, offsets=offsets, special_tokens_mask=mask, attention_mask=[1] * len(ids))


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(Pairs(), {"bos_token": "<s>", "eos_token": "§"})


@pytest.mark.parametrize(
    ("prompt", "completion", "ids", "learnt"),
    [
        ("aabb", "xxyy", [START, A, B, X, Y, END], 3),
        ("aabbc", "cxxyy", [START, A, B, C, X, Y, END], 4),  # the token that holds letters of both is learnt
        ("aabb", "xxyy§", [START, A, B, X, Y, END], 3),  # ended already
        ("aa§", "xx", [START, A, END, X, END], 2),  # an end in the prompt is none of the completion's
        ("aa§", "", [START, A, END, END], 1),
        ("", "xx", [START, X, END], 2),
    ],
)
def test_a_token_with_a_letter_of_the_completion_is_learnt_and_one_end(
    tokenizer: Tokenizer, prompt: str, completion: str, ids: list[int], learnt: int
) -> None:
    example = encode_completion(tokenizer, prompt, completion)
    assert example == {"input_ids": ids, "labels": [NO] * (len(ids) - learnt) + ids[-learnt:]}


CUT = {
    9: ([START, A, B, C, D, X, Y, END], 5), 8: ([START, A, B, C, D, X, Y, END], 5),
    7: ([START, B, C, D, X, Y, END], 4), 6: ([START, C, D, X, Y, END], 3), 5: ([START, D, X, Y, END], 2),
    4: ([D, X, Y, END], 1), 3: ([D, X, Y], 1), 2: ([D, X], 1),
}  # fmt: skip


@pytest.mark.parametrize("most", CUT)
def test_a_prompt_loses_its_beginning_and_last_what_stands_before_it(tokenizer: Tokenizer, most: int) -> None:
    ids, prompt = CUT[most]
    expected = {"input_ids": ids, "labels": [NO] * prompt + ids[prompt:]}
    assert encode_completion(tokenizer, "aabbccdd", "xxyy", most) == expected
    examples = [{"prompt": "aabbccdd", "text": "xxyy", "n": 1}, {"prompt": "a", "text": "", "n": 2}] * 3
    found, cut = encode_completions(tokenizer, examples, most)
    assert cut == (3 if most < 8 else 0) + (3 if most < 3 else 0)
    assert found[4] == {**examples[4], **expected}


def test_the_end_that_is_asked_for_ends_rows_that_are_cut_and_those_that_are_not(tokenizer: Tokenizer) -> None:
    examples = [{"prompt": "aabbcc", "text": "xx"}, {"prompt": "aa", "text": "yy§"}]
    found, _ = encode_completions(tokenizer, examples, 4, eos_token_id=[OTHER, 5])
    assert found["input_ids"] == [[START, C, X, OTHER], [A, Y, END, OTHER]]
    assert encode_completion(tokenizer, "aa", "yy§", eos_token_id=[OTHER, END])["labels"][-2:] == [Y, END]
    assert encode_completion(tokenizer, "aa", "yy", eos_token_id=[OTHER, END])["labels"][-2:] == [Y, OTHER]


def test_a_text_that_is_learnt_whole_has_its_start_and_one_end_where_there_is_room(tokenizer: Tokenizer) -> None:
    for text, most, ids in (("aabb", None, [START, A, B, END]), ("aabb§", None, [START, A, B, END]),
                            ("aabb", 4, [START, A, B, END]), ("aabb", 3, [START, A, B]), ("aabb", 1, [START]),
                            ("", None, [START, END])):  # fmt: skip
        assert encode_text(tokenizer, text, most) == {"input_ids": ids, "labels": ids}
    assert encode_text(tokenizer, "aa", eos_token_id=OTHER)["labels"] == [START, A, OTHER]


def test_windows_share_one_token_which_the_first_of_them_learns() -> None:
    example = {"input_ids": [3, 4, 5, 6, 7, 8, 9, 10], "labels": [NO, 14, 15, 16, 17, 18, 19, 20]}
    assert windows(example, 4) == [
        {"input_ids": [3, 4, 5, 6], "labels": [NO, 14, 15, 16]},
        {"input_ids": [6, 7, 8, 9], "labels": [NO, 17, 18, 19]},
        {"input_ids": [9, 10], "labels": [NO, 20]},
    ]
    assert [part["input_ids"] for part in windows(example, 8)] == [example["input_ids"]]
    assert [part["input_ids"] for part in windows(example, 7)] == [[3, 4, 5, 6, 7, 8, 9], [9, 10]]
    assert [part["input_ids"] for part in windows({**example, "input_ids": example["input_ids"][:7]}, 4)] == [
        [3, 4, 5, 6], [6, 7, 8, 9],
    ]  # fmt: skip


def test_a_call_puts_what_surrounds_a_text_there_unless_told_not_to(tokenizer: Tokenizer) -> None:
    assert tokenizer(["aabb", "c"])["input_ids"] == [[START, A, B, END], [START, 199, END]]
    assert tokenizer(["aabb", "c"], add_special_tokens=False)["input_ids"] == [[A, B], [199]]
    assert tokenizer.encode("xx", add_special_tokens=False) == [X]
