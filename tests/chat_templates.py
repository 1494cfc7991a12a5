"""Chat templates of the kinds that models have, and tokenizers that have their marks."""

from __future__ import annotations

from typing import Any

import pytest

from npora.data import Tokenizer
from tests.made_tokenizers import made, template

_ALTERNATE = """\
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
{%- endfor %}
"""
CHATML = """\
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
LLAMA3 = """\
{%- if tools is not none and tools %}{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' + tools | tojson(indent=1) }}
{%- endif %}
{% for message in messages -%}
{% if loop.first %}{{ bos_token }}{% endif -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}\n"
    + _ALTERNATE
    + """\
{%- for message in messages %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
)
MISTRAL = (
    "{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}"
    "{%- endif %}\n"
    + _ALTERNATE
    + """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system + '\\n\\n' if system is defined and loop.last else '') + message.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
)
# What was thought is shown after the last question alone, as Qwen 3 does it.
THINKING = """\
{%- set ns = namespace(last=0) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
    {%- set content, thoughts = message.content, message.reasoning_content or '' %}
    {%- if '</think>' in content %}
        {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
        {{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- content }}
    {%- for call in message.tool_calls or [] %}
        {%- set call = call.function or call %}
        {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
        {{- call.arguments | tojson + '}</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' + ('<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '') }}
{%- endif %}
"""
# A text that is not continued has an end of its own behind it, as Phi 3's first one.
ENDED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' if add_generation_prompt else eos_token }}"
)
GENERATION = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'A: ' }}{% generation %}{{ m.content + eos_token }}"
    "{% endgeneration %}{% else %}{{ m.role + ': ' + m.content + '\\n' }}{% endif %}{% endfor %}"
    "{{ 'A: ' if add_generation_prompt }}"
)
TEMPLATES = {
    "chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "mistral": MISTRAL, "thinking": THINKING, "ended": ENDED,
    "generation": GENERATION,
}  # fmt: skip
MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
         "<end_of_turn>"]  # fmt: skip
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def chat_backend(kind: str = "byte-level") -> Any:
    backend = made(kind)
    backend.add_special_tokens([*MARKS, "<pad>"])
    backend.add_tokens(["</tool_call>"])  # a word of its own, and no mark
    return template(backend, "<s> $A </s>", "<s> $A </s> $B </s>")  # which a template does by itself


def chat_tokenizer(chat_template: str | None = None, kind: str = "byte-level") -> Tokenizer:
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    return Tokenizer(chat_backend(kind), ROLES, chat_template=chat_template)


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def dialogue(*texts: Any, system: str | None = None) -> list[dict[str, Any]]:
    """What the user and the assistant say, in turn."""
    messages = [] if system is None else [said("system", system)]
    return messages + [said(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
