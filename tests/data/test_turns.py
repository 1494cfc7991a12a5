"""Where the assistant's turns are in the text of a chat, and which tokens of it are learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import ByteTokenizer, encode_chat
from npora.data.turns import assistant_turns, learnt_turns
from npora.train.preferences import _encoded
from tests.chat_templates import (
    CHATML,
    ENDED,
    GEMMA,
    LLAMA3,
    MISTRAL,
    TEMPLATES,
    THINKING,
    chat_tokenizer,
    dialogue,
    said,
)

Chat = Sequence[dict[str, Any]]


def chatml(m: Chat, prompt: bool) -> str:
    return "".join(f"<{one['role']}>{one['content']}<end>\n" for one in m) + "<assistant>" * prompt


def trimming(m: Chat, prompt: bool) -> str:
    return "".join(f"<{one['role']}> {one['content'].strip()}<end>\n" for one in m) + "<assistant> " * prompt


def without_prompt(m: Chat, prompt: bool) -> str:
    return "".join(f"[{one['content']}]" if one["role"] == "user" else f" {one['content'].strip()}<end>" for one in m)


def forgetful(m: Chat, prompt: bool) -> str:
    """Thoughts are shown in the last message alone; the prompt begins them."""
    shown = [one["content"] if i == len(m) - 1 else one["content"].split("|")[-1] for i, one in enumerate(m)]
    turns = [f"<{one['role']}>{text}<end>\n" for one, text in zip(m, shown, strict=True)]
    return "".join(turns) + "<assistant>thinking " * prompt


def ended(m: Chat, prompt: bool) -> str:
    return "".join(f"<{one['role']}> {one['content']}<end>\n" for one in m) + ("<assistant>" if prompt else "<over>")


def summed_up(m: Chat, prompt: bool) -> str:
    """Begins with how many messages there are, so that no part of a chat begins the whole."""
    return f"{len(m)}\n" + "".join(f"<{one['role']}> {one['content']}<end>\n" for one in m) + "<assistant>" * prompt


def strict(m: Chat, prompt: bool) -> str:
    """Refuses what does not end with a question and its answer."""
    if prompt or len(m) % 2:
        raise ValueError("in pairs")
    return chatml(m, False)


SHOWS: dict[Callable[..., str], Callable[[str], str]] = {
    chatml: lambda c: c, trimming: str.strip, without_prompt: lambda c: " " + c.strip(), forgetful: lambda c: c,
    ended: lambda c: " " + c, summed_up: lambda c: " " + c, strict: lambda c: c,
}  # fmt: skip
TEXTS = st.sampled_from(["", " ", "a", "a a", "\na ", "<end>", "<assistant>", "<user>a", "ab" * 3, "\ue0000\ue001"])


@pytest.mark.parametrize("show", SHOWS, ids=lambda show: show.__name__)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_a_turn_is_what_the_assistant_says_however_often_others_say_it(
    show: Callable[..., str], pairs: list[tuple[str, str]]
) -> None:
    texts = [text for pair in pairs for text in pair]
    if show in (without_prompt, trimming):  # of an empty answer there is nothing but the space before it
        texts = [text.strip() or "x" for text in texts]
    whole, turns = assistant_turns(show, dialogue(*texts))
    assert whole == show(dialogue(*texts), False)
    assert [whole[turn.start : turn.stop] for turn in turns] == [SHOWS[show](text) for text in texts[1::2]]
    assert all(whole[turn.stop : turn.limit].startswith("<end>") for turn in turns)
    for turn, after in zip(turns, [*turns[1:], None], strict=True):
        assert turn.limit == len(whole) if after is None else turn.limit <= after.start


def test_what_a_template_leaves_out_is_not_learnt_and_what_it_shows_in_the_last_turn_is() -> None:
    text, turns = assistant_turns(forgetful, dialogue("q", "hm|one", "q", "so|two"))
    assert [text[turn.start : turn.stop] for turn in turns] == ["one", "so|two"]
    without_any = assistant_turns(lambda m, _: f"{len(m)} messages", dialogue("q", "a"))
    assert without_any == ("2 messages", [])


def test_what_a_template_writes_before_the_first_word_of_a_turn_is_the_assistants_too() -> None:
    def with_tools(m: Chat, prompt: bool) -> str:
        """Tools stand before the last question; a call is written around its words, and has no header."""
        last = max(i for i, one in enumerate(m) if one["role"] == "user")
        shown = [
            f"[q]{one['content']}[/q]" if one["role"] == "user" else f'{{"call": "{one["content"]}"}}<end>' for one in m
        ]
        return "".join(("[tools]" if i == last else "") + text for i, text in enumerate(shown))

    text, turns = assistant_turns(with_tools, dialogue("so", "call", "and so", "", "x", "y"))
    assert [text[turn.start : turn.limit] for turn in turns] == [
        '{"call": "call"}<end>', '{"call": ""}<end>', '{"call": "y"}<end>',
    ]  # fmt: skip


def test_an_answer_of_which_nothing_is_shown_at_the_end_is_not_learnt() -> None:
    text, turns = assistant_turns(lambda m, _: "".join(one["content"] for one in m), dialogue("q", ""))
    assert (text, turns) == ("q", [])


def test_a_turn_of_which_no_word_is_shown_is_all_that_stands_behind_the_prompt() -> None:
    def numbered(m: Chat, prompt: bool) -> str:
        return "".join(f"<{one['role']}>{one['id']}<end>\n" for one in m) + "<assistant>" * prompt

    text, turns = assistant_turns(numbered, [said("user", "q", id=1), said("assistant", "a", id=2)])
    assert [text[turn.start : turn.limit] for turn in turns] == ["2<end>\n"] and turns[0].stop == turns[0].start
    hidden = assistant_turns(lambda m, prompt: numbered([one for one in m if one["id"] == 1], prompt),
                             [said("user", "q", id=1), said("assistant", "a", id=2)])  # fmt: skip
    assert hidden == ("<user>1<end>\n", [])


def test_messages_before_the_first_one_and_those_of_no_weight_are_not_learnt() -> None:
    chat = dialogue("q", "one", "q", "two", "q", "three")
    text, turns = assistant_turns(chatml, chat, first=2)
    assert [text[turn.start : turn.stop] for turn in turns] == ["two", "three"]
    chat[3] |= {"weight": 0}
    text, turns = assistant_turns(chatml, chat)
    assert [text[turn.start : turn.stop] for turn in turns] == ["one", "three"]


def shown(template: str, messages: Chat, **options: Any) -> str:
    """The text, with ⟦ ⟧ around what is learnt."""
    tokenizer = chat_tokenizer(template)
    encoded = encode_chat(tokenizer, messages, **options)
    ids, labels = encoded["input_ids"], encoded["labels"]
    assert len(ids) == len(labels) and all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    text, was = "", False
    for token, label in [*zip(ids, labels, strict=True), (None, -100)]:
        text += {(False, True): "⟦", (True, False): "⟧"}.get((was, label != -100), "")
        text += "" if token is None else tokenizer.decode([token])
        was = label != -100
    return text


TWICE = dialogue("film", "film", "and film", "good film")


@pytest.mark.parametrize(
    "template, expected",
    [
        (CHATML, "<|im_start|>assistant\n⟦film<|im_end|>⟧\n<|im_start|>user\nand film<|im_end|>\n"
                 "<|im_start|>assistant\n⟦good film<|im_end|>⟧\n"),
        (LLAMA3, "⟦film<|eot_id|>⟧<|start_header_id|>user<|end_header_id|>\n\nand film<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n⟦good film<|eot_id|>⟧"),
        (GEMMA, "⟦film<end_of_turn>⟧\n<start_of_turn>user\nand film<end_of_turn>\n<start_of_turn>model\n"
                "⟦good film<end_of_turn>⟧\n"),
        (MISTRAL, "<s>[INST] film [/INST]⟦ film</s>⟧[INST] and film [/INST]⟦ good film</s>⟧"),
        (ENDED, "⟦film<|im_end|>⟧\n<|im_start|>user\nand film<|im_end|>\n<|im_start|>assistant\n"
                "⟦good film<|im_end|>\n</s>⟧"),
        (THINKING, "⟦film<|im_end|>⟧\n<|im_start|>user\nand film<|im_end|>\n<|im_start|>assistant\n"
                   "⟦<think>\n\n</think>\n\ngood film<|im_end|>⟧\n"),
    ],
)  # fmt: skip
def test_the_assistants_words_and_the_end_of_its_turn_are_learnt(template: str, expected: str) -> None:
    assert shown(template, TWICE).endswith(expected)


def test_the_end_of_a_turn_is_the_token_at_which_generation_stops() -> None:
    end = chat_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert shown(ENDED, TWICE, eos_token_id=[2, end]).endswith("⟦good film<|im_end|>⟧\n</s>")
    assert learnt_turns(chat_tokenizer(ENDED), TWICE, [end])[2] == {end}
    tokenizer = chat_tokenizer(CHATML)
    assert learnt_turns(tokenizer, TWICE)[2] == {end}  # and not </s>, which the template does not write


def test_of_several_marks_behind_a_turn_all_are_learnt_where_none_is_known_as_the_end() -> None:
    template = "{% for m in messages %}{{ m.content + '<|eot_id|><|im_end|>\\n' }}{% endfor %}"
    assert shown(template, TWICE[:2]) == "film<|eot_id|><|im_end|>\n⟦film<|eot_id|><|im_end|>⟧\n"


def test_a_call_of_a_tool_is_learnt_to_its_end() -> None:
    call = {"type": "function", "id": "123456789", "function": {"name": "fox", "arguments": {"a": ["dog", 1]}}}
    chat = [said("user", "q"), said("assistant", "", tool_calls=[call]), said("tool", "7"), said("assistant", "fox")]
    begin, turn = "<|im_start|>assistant\n", '{"name": "fox", "arguments": {"a": ["dog", 1]}}</tool_call><|im_end|>⟧'
    text = shown(THINKING, chat)
    assert f"{begin}⟦<think>\n\n</think>\n\n\n<tool_call>\n{turn}\n<|im_start|>tool" in text
    assert text.endswith(f"{begin}⟦<think>\n\n</think>\n\nfox<|im_end|>⟧\n")
    later = shown(THINKING, [*chat, said("user", "and"), said("assistant", "dog")])
    assert f"{begin}⟦\n<tool_call>\n{turn}" in later and f"{begin}⟦fox<|im_end|>⟧" in later


def test_the_words_of_parts_are_learnt_too() -> None:
    parts = [{"type": "text", "text": "the "}, {"type": "image"}, {"type": "text", "text": "fox"}]
    template = (
        "{% for m in messages %}{% for p in m.content %}{{ p.text or '?' }}{% endfor %}{{ eos_token }}{% endfor %}"
    )
    assert shown(template, [said("user", parts), said("assistant", parts)]) == "the ?fox</s>⟦the ?fox</s>⟧"


def test_a_chat_is_given_one_end_where_its_template_writes_none() -> None:
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    plain += "{{ 'assistant:' if add_generation_prompt }}"
    assert shown(plain, TWICE) == ("user: film\nassistant:⟦ film⟧\nuser: and film\nassistant:⟦ good film\n</s>⟧")
    assert (
        shown(plain, TWICE[:3]) == "user: film\nassistant:⟦ film⟧\nuser: and film\n"
    )  # which the assistant does not end
    assert learnt_turns(chat_tokenizer(plain), TWICE)[2] == {chat_tokenizer().eos_token_id}
    tokenizer = ByteTokenizer(eos=True)
    tokenizer.chat_template = plain
    assert encode_chat(tokenizer, dialogue("é", "b")) == {
        "input_ids": [*"user: é\nassistant: b\n".encode(), 256], "labels": [-100] * 19 + [*b" b\n", 256],
    }  # fmt: skip


def test_a_chat_is_cut_at_its_end_and_a_template_sees_what_it_is_given() -> None:
    tokenizer = chat_tokenizer(CHATML)
    whole = encode_chat(tokenizer, TWICE)
    assert encode_chat(tokenizer, TWICE, 9) == {name: values[:9] for name, values in whole.items()}
    assert encode_chat(tokenizer, TWICE, chat_template=GEMMA) == encode_chat(chat_tokenizer(GEMMA), TWICE)
    assert (
        shown("{{ word }}{% for m in messages %}{{ m.content }}{% endfor %}", TWICE[:2], word="the")
        == "thefilm⟦film</s>⟧"
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_apply_chat_template(name: str) -> None:
    tokenizer = chat_tokenizer(TEMPLATES[name])
    ids = encode_chat(tokenizer, TWICE)["input_ids"]
    assert ids == tokenizer.apply_chat_template(TWICE, return_dict=False)
    prompt = tokenizer.apply_chat_template(TWICE[:-1], add_generation_prompt=True, return_dict=False)
    labels = encode_chat(tokenizer, TWICE, first=3)["labels"]
    last = len(prompt) - prompt[-1:].count(
        tokenizer.encode(" ", add_special_tokens=False)[0]
    )  # a space at its end goes to the next word
    assert ids[:last] == prompt[:last] and labels[:last] == [-100] * last
    assert labels[last] != -100


def test_of_preferences_in_messages_the_answers_are_what_the_assistant_writes_to_the_end_of_its_turn() -> None:
    tokenizer = chat_tokenizer(CHATML)
    chosen, rejected = ([said("assistant", text)] for text in ("good film", "bad"))
    pair = _encoded({"prompt": dialogue("film"), "chosen": chosen, "rejected": rejected}, 0, tokenizer, None)
    begin, end = pair["labels"]
    ids = pair["input_ids"]
    prompt = tokenizer.apply_chat_template(dialogue("film"), add_generation_prompt=True, return_dict=False)
    assert ids[:begin] == prompt
    assert [tokenizer.decode(part) for part in (ids[begin:end], ids[end:])] == ["good film<|im_end|>", "bad<|im_end|>"]
    nothing = {"prompt": dialogue("film"), "chosen": chosen, "rejected": [said("user", "x")]}
    with pytest.raises(ValueError, match="example 3: a prompt and both answers have a token at least"):
        _encoded(nothing, 3, tokenizer, None)
