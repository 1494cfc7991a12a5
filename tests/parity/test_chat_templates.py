"""apply_chat_template against transformers: the same text, ids, masks and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat_templates import CHATML, GENERATION, ROLES, TEMPLATES, chat_backend, chat_tokenizer, dialogue, said
from tests.made_tokenizers import texts

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

TOOL = {"type": "function", "function": {"name": "f", "description": "dé <b>", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}
CHATS: dict[str, list[dict[str, Any]]] = {
    "one question": dialogue("the film?"),
    "two turns": dialogue(" good film ", "  good, bad  ", "more", "<think>\na b\n</think>\n\nthe fox"),
    "a system message": dialogue("quick", "brown\n", system="the lazy dog"),
    "thoughts apart": [said("user", "a"), said("assistant", "b", thinking="c d")],
    "a tool": [said("user", "a"), said("assistant", "", tool_calls=[CALL]), said("tool", "7"), said("assistant", "x")],
    "roles in disorder": [said("assistant", "a"), said("assistant", "b")],
    "nothing said": [said("user", "a"), {"role": "assistant", "content": None, "tool_calls": [CALL]}],
}
OPTIONS: list[dict[str, Any]] = [
    {"tokenize": False},
    {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False},
    {"tokenize": False, "continue_final_message": True},
    {"tokenize": False, "continue_final_message": "thinking"},
    {"tokenize": False, "tools": [TOOL], "documents": [{"title": "t", "text": "d"}], "bos_token": "<b>"},
    {"add_generation_prompt": True},
    {"return_dict": False},
    {"return_tensors": "np"},
    {"truncation": True, "max_length": 7, "padding": "max_length", "tokenizer_kwargs": {"padding_side": "left"}},
    {"tokenizer_kwargs": {"return_offsets_mapping": True}},
]


def theirs(template: str) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=chat_backend(), chat_template=template, **ROLES)


def outcome(tokenizer: Any, messages: Any, **options: Any) -> Any:
    """What comes, or that it is refused."""
    try:
        found = tokenizer.apply_chat_template(messages, **options)
    except Exception as error:
        return "refused", "roles must alternate" in str(error), "System role not" in str(error)
    if not hasattr(found, "items"):
        return found
    return {name: np.asarray(value).tolist() for name, value in found.items() if name != "token_type_ids"}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_ids_and_refusals_are_transformers(name: str, options: dict[str, Any]) -> None:
    own, their = chat_tokenizer(TEMPLATES[name]), theirs(TEMPLATES[name])
    seen = [outcome(own, chat, **options) for chat in CHATS.values()]
    assert seen == [outcome(their, chat, **options) for chat in CHATS.values()]
    assert any(not isinstance(one, tuple) for one in seen) or "continue_final_message" in options


def test_several_conversations_are_padded_and_masked_as_by_transformers() -> None:
    own, their = chat_tokenizer(GENERATION), theirs(GENERATION)
    chats = [dialogue("a"), dialogue("the fox", "the dog", "and", "good  film")]
    for side in ("left", "right"):
        for tensors in (None, "np"):
            options = {"padding": True, "return_tensors": tensors, "return_assistant_tokens_mask": True}
            options["tokenizer_kwargs"] = {"padding_side": side}
            seen = outcome(own, chats, **options)
            assert seen == outcome(their, chats, **options) and np.sum(seen["assistant_masks"]) > 4
    options = {"return_assistant_tokens_mask": True, "truncation": True, "max_length": 9}
    assert outcome(own, chats[1], **options) == outcome(their, chats[1], **options)
    assert outcome(own, [chats[1]], **options) == outcome(their, [chats[1]], **options)


@given(st.lists(texts(6), min_size=1, max_size=4), st.sampled_from(sorted(TEMPLATES)), st.booleans())
def test_any_words_are_rendered_and_encoded_as_by_transformers(said: list[str], name: str, prompt: bool) -> None:
    own, their = chat_tokenizer(TEMPLATES[name]), theirs(TEMPLATES[name])
    for tokenize in (False, True):
        options = {"tokenize": tokenize, "add_generation_prompt": prompt}
        assert outcome(own, dialogue(*said), **options) == outcome(their, dialogue(*said), **options)


def test_one_of_several_templates_is_chosen_as_by_transformers() -> None:
    several = {"default": CHATML, "tool_use": GENERATION}
    own, their = chat_tokenizer(), theirs(CHATML)
    for given_as in (several, [{"name": name, "template": text} for name, text in several.items()]):
        own.chat_template, their.chat_template = given_as, several
        for options in ({}, {"tools": [TOOL]}, {"chat_template": "tool_use"}, {"chat_template": "{{ messages }}"}):
            options |= {"tokenize": False}
            assert outcome(own, CHATS["two turns"], **options) == outcome(their, CHATS["two turns"], **options)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.append(1) }}", "{{ ''.__class__ }}", "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ namespace(_a=1) }}", "{{ undefined.x }}", "{{ 'a' + 1 }}", "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ dict.__init__ }}", "{{ lipsum.__globals__ }}",
    ],
)  # fmt: skip
def test_a_template_stays_in_its_sandbox_as_with_transformers(template: str) -> None:
    chat = dialogue("a")
    own, their = (
        outcome(chat_tokenizer(template), chat, tokenize=False),
        outcome(theirs(template), chat, tokenize=False),
    )
    assert own == their
    assert own == "" or own[0] == "refused"


@pytest.mark.parametrize(
    "template",
    [
        "{{ dict(a=1)['a'] }}{{ dict.fromkeys('ab') }}", "{% set n = namespace(a=1) %}{% set n.a = 2 %}{{ n.a }}",
        "{{ messages | tojson(indent=2) }}{{ {'b': '<é>', 'a': 1} | tojson(sort_keys=true, separators=(',', ':')) }}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
        "{{ strftime_now('%Y') }}", "{{ x }} {{ y }} {{ z }} {{ w }}",
    ],
)  # fmt: skip
def test_what_transformers_offers_a_template_is_there(template: str) -> None:
    class Word(str):
        pass

    chat = dialogue("a", "b", "c")
    values = {"x": np.bool_(False), "y": Word("é"), "z": object(), "w": (np.float32(0.5), 2)}
    own = chat_tokenizer(template).apply_chat_template(chat, tokenize=False, **values)
    assert own and own == theirs(template).apply_chat_template(chat, tokenize=False, **values)
