"""What apply_chat_template refuses, and says."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from npora.data import ByteTokenizer, template
from tests.chat_templates import CHATML, GEMMA, GENERATION, MISTRAL, chat_tokenizer, dialogue, said


def test_a_tokenizer_of_bytes_has_chats_too() -> None:
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    tokenizer = ByteTokenizer()
    tokenizer.chat_template = CHATML
    text = "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\n"
    found = tokenizer.apply_chat_template(dialogue("é"), add_generation_prompt=True)
    assert found["input_ids"] == list(text.encode()) and found["attention_mask"] == [1] * len(text.encode())


@pytest.mark.parametrize(
    "chat, options, message",
    [
        (dialogue("a", system="s"), {"chat_template": GEMMA},
         "the chat template refuses these messages (system, user): 'System role not supported'"),
        ([said("user", "a")] * 9, {"chat_template": MISTRAL},
         "refuses these messages (user, user, user, user, user, user, user, user, …): 'Conversation roles must"),
        ([{"role": "user"}], {}, "fails (UndefinedError) on these messages (user): \"'dict object' has no attribute"),
        (dialogue("a"), {"chat_template": "{% if %}"}, "the chat template is no Jinja: Expected an expression"),
        ([], {}, "there is no message to apply a chat template to"),
        (dialogue("a"), {"sanitize_control_tokens": True}, "sanitize_control_tokens is not supported"),
        (dialogue("a"), {"continue_final_message": True, "add_generation_prompt": True}, "begins one: choose"),
        (dialogue("a"), {"return_assistant_tokens_mask": True}, "npora.data.encode_chat finds it for any template"),
        (dialogue("a"), {"return_assistant_tokens_mask": True, "tokenize": False}, "needs tokenize=True and"),
        (dialogue("a"), {"return_assistant_tokens_mask": True, "return_dict": False}, "return_dict=True, and no"),
        (dialogue("a"), {"continue_final_message": "reasoning"}, "there is no last message with 'reasoning' to"),
        ([said("user", "a", x="b")], {"continue_final_message": "x"}, "the chat template does not read 'x' of a"),
        ([said("user", [{"type": "image"}])], {"continue_final_message": True}, "the last message has no text to"),
        (dialogue("a"), {"continue_final_message": True, "chat_template": "{{ 'content' }}"}, "does not show the end"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(chat: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        chat_tokenizer(CHATML).apply_chat_template(chat, **options)
    assert message in str(error.value)


def test_what_is_no_message_and_no_tool_is_named() -> None:
    tokenizer = chat_tokenizer(CHATML)
    with pytest.raises(TypeError, match="a message is a dict with role and content; got str 'a'"):
        tokenizer.apply_chat_template([["a"]])
    with pytest.raises(TypeError, match="a tool is a JSON schema, a dict with type and function; got builtin"):
        tokenizer.apply_chat_template(dialogue("a"), tools=[print])


def test_a_template_that_is_missing_or_one_of_several_is_asked_for() -> None:
    tokenizer = chat_tokenizer()
    with pytest.raises(ValueError, match="this tokenizer has no chat template: give it one"):
        tokenizer.apply_chat_template(dialogue("a"))
    tokenizer.chat_template = {"rag": CHATML, "tool_use": GENERATION}
    with pytest.raises(ValueError, match="several chat templates and no default: pass chat_template, rag or tool_use"):
        tokenizer.apply_chat_template(dialogue("a"))
    for tools in ([{}], []):  # without one it is of tools all the same, as in transformers
        assert tokenizer.apply_chat_template(dialogue("a"), tools, tokenize=False) == "user: a\n"
    assert tokenizer.apply_chat_template(dialogue("a"), chat_template="tool_use", tokenize=False) == "user: a\n"


def test_without_jinja2_or_with_an_old_one_its_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    jinja2 = pytest.importorskip("jinja2", reason="needs the extra `hf`")
    monkeypatch.setattr(jinja2, "__version__", "3.1.5")
    with pytest.raises(ImportError, match=r'jinja2 3\.1\.5 is too old .*: pip install "jinja2>=3\.1\.6"'):
        template.render("{{ 'old' }}", [])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'a chat template needs the jinja2 package: pip install "npora\[hf\]"'):
        template.render("{{ 'without' }}", [])
