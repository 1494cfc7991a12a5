"""Preferences from files, texts and messages, and as tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npora.data import ByteTokenizer, encode_preference, read_preferences
from npora.data.preferences import preference_parts
from tests.chat_templates import chat_tokenizer, dialogue

ASKED, GOOD, BAD = dialogue("film"), [{"role": "assistant", "content": "good"}], [{"role": "assistant", "content": "x"}]


def file(path: Path, *examples: Any) -> str:
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return str(path)


def test_texts_are_read_from_the_columns_that_are_named(tmp_path: Path) -> None:
    path = file(tmp_path / "x.jsonl", {"q": "a", "prompt": "no", "best": " b", "worst": " c", "score": 3})
    found = read_preferences(path, "q", "best", "worst")
    assert found.to_list() == [{"prompt": "a", "chosen": " b", "rejected": " c"}]
    assert found.where(0) == f"{path}, line 1"


@pytest.mark.parametrize(
    "prompt, example",
    [
        ("prompt", {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}),
        ("prompt", {"prompt": "film", "chosen": "good", "rejected": BAD}),
        ("prompt", {"prompt": "film", "chosen": ASKED + GOOD, "rejected": ASKED + BAD}),
        (None, {"chosen": ASKED + GOOD, "rejected": ASKED + BAD}),
    ],
)
def test_messages_are_one_whichever_way_the_prompt_is_told(prompt: str | None, example: Any, tmp_path: Path) -> None:
    found = read_preferences(file(tmp_path / "x.jsonl", {**example, "tools": "[1]"}), prompt, conversational=True)
    assert found.to_list() == [{"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "variables": {"tools": [1]}}]


def test_what_answers_share_behind_the_prompt_is_of_the_prompt(tmp_path: Path) -> None:
    longer = [*GOOD, {"role": "user", "content": "why"}]
    example = {"prompt": ASKED, "chosen": longer + GOOD, "rejected": longer + BAD}
    (found,) = read_preferences(file(tmp_path / "x.jsonl", example), conversational=True)
    assert found == {"prompt": ASKED + longer, "chosen": GOOD, "rejected": BAD, "variables": {}}


@pytest.mark.parametrize(
    "example, prompt, is_chat, message",
    [
        ({"prompt": "a", "chosen": "b"}, "prompt", False, "line 2: there is no column 'rejected'"),
        ({"prompt": "a", "chosen": 1, "rejected": "c"}, "prompt", False, "line 2: chosen must be a string; got 1"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, None, False, "line 2: a text needs the prompt that it is an"),
        ({"prompt": [{"role": "user", "content": "\ud800"}], "chosen": "b", "rejected": "c"}, "prompt", True,
         "line 2: a text has half of a pair of surrogates"),
        ({"prompt": ASKED, "chosen": GOOD, "rejected": GOOD}, "prompt", True, "line 2: two answers .* 2 messages that"),
        ({"prompt": 0, "chosen": GOOD, "rejected": BAD}, "prompt", True, "line 2: prompt must be a list of messages"),
        ({"chosen": GOOD, "rejected": BAD}, None, True, "0 messages that are the same, 1 chosen and 1 rejected"),
    ],
)  # fmt: skip
def test_what_is_no_preference_is_told_with_its_line(
    example: Any, prompt: str | None, is_chat: bool, message: str, tmp_path: Path
) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    if is_chat and prompt is None:
        good = {"chosen": ASKED + GOOD, "rejected": ASKED + BAD}  # type: ignore[dict-item]
    path = file(tmp_path / "x.jsonl", *([] if prompt is None and not is_chat else [good]), example)
    message = message.replace("line 2", "line 1") if prompt is None and not is_chat else message
    with pytest.raises(ValueError, match=message):
        read_preferences(path, prompt, conversational=is_chat)
    told: list[str] = []
    found = read_preferences(path, prompt, conversational=is_chat, refuse=lambda error: told.append(str(error)))
    assert len(told) == 1 and len(found) == (not (prompt is None and not is_chat))


def test_the_parts_are_the_prompt_with_either_answer() -> None:
    encoded = encode_preference(ByteTokenizer(eos=True), {"prompt": "ab", "chosen": "xy", "rejected": "z"})
    assert encoded == {"input_ids": [97, 98, 120, 121, 256, 122, 256], "labels": [2, 5]}
    assert preference_parts(encoded) == [
        {"input_ids": [97, 98, 120, 121, 256], "labels": [-100, -100, 120, 121, 256]},
        {"input_ids": [97, 98, 122, 256], "labels": [-100, -100, 122, 256]},
    ]


def test_what_is_no_preference_has_no_tokens() -> None:
    example: dict[str, Any] = {"prompt": "ab", "chosen": "xy", "rejected": "z"}
    with pytest.raises(ValueError, match="these have 1, 0 and 0, where what both begin with"):
        encode_preference(ByteTokenizer(eos=True), example, max_length=0)
    for other in (3, [{"role": "user", "content": "z"}]):
        with pytest.raises(
            ValueError, match="three strings, or three lists of messages; got prompt 'ab', chosen 'xy',"
        ):
            encode_preference(ByteTokenizer(), {**example, "rejected": other})


def test_variables_reach_the_template() -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + mark }}{% endfor %}"
    example = {"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "variables": {"mark": " plot "}}
    text = tokenizer.decode(encode_preference(tokenizer, example)["input_ids"])
    assert text.count("plot") == 3
