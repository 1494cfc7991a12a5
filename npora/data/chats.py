"""Conversations in files, in whichever of the usual forms they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from npora.data.columns import unpacked
from npora.data.dataset import Dataset, Example
from npora.data.lines import Path
from npora.data.readers import Told, table_examples, watched, where_in
from npora.data.strings import Strings
from npora.data.texts import has_surrogates
from npora.files.refusal import Refuse, raise_it, shortened

# Who speaks, as ShareGPT's files have it, under the names that chat templates know.
_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
    "function": "tool", "observation": "tool",
}  # fmt: skip
_FOR_THE_TEMPLATE = {"tools": list, "documents": list, "chat_template_kwargs": dict}
# Columns that hold what is learnt, and what stands before it, in the order in which they are looked for.
_USUAL = (("messages", None), ("conversations", None), ("completion", "prompt"), ("chosen", "prompt"), ("text", None))


def usual_columns(names: Sequence[str]) -> tuple[str | None, str | None]:
    """The columns of a text to learn and of its prompt, where a file has them under a usual name: `messages`,
    `conversations`, `prompt` and `completion`, `prompt` and `chosen`, `text`."""
    for text, prompt in _USUAL:
        if text in names:
            return text, prompt if prompt in names else None
    return None, None


def read_chats(
    path: Path,
    column: str,
    prompt_column: str | None = None,
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `messages` and `first`, the number of the first message that is learnt, from a .json or .jsonl file.

    A message has `role` and `content`, or ShareGPT's `from` and `value`. Columns of the file called tools, documents
    and chat_template_kwargs go to the template; tools may be JSON in a string.

    prompt_column : messages that come before those of `column`, and are not learnt; a string is one of the user's
    refuse : is given the error of each example that cannot be used; where it returns, the example is left out
    progress : is told how many are read, each few thousand

    Raises
    ------
    ValueError: as the readers, and for what is no conversation, with its line.
    """
    found = Strings()
    columns = [column] if prompt_column is None else [prompt_column, column]
    for where, example in watched(table_examples(path, columns, refuse), progress):
        try:
            before = [] if prompt_column is None else conversation(example[prompt_column], where, prompt_column, "user")
            messages = before + conversation(example[column], where, column, "assistant")
            chat = {"messages": messages, "first": len(before), "variables": template_variables(example, where)}
            written = json.dumps(chat, ensure_ascii=False)
            if has_surrogates(written):
                raise ValueError(f"{where}: a message has half of a pair of surrogates, which is no character")
        except ValueError as error:
            refuse(error)
            continue
        found.append(written)
    return Dataset(unpacked(found, ["messages", "first", "variables"], partial(where_in, path, "line")))


def template_variables(example: Example, where: str) -> dict[str, Any]:
    """What an example has for the template beside its messages. Raises ValueError for another kind of value."""
    found: dict[str, Any] = {}
    for name, kind in _FOR_THE_TEMPLATE.items():
        value = example.get(name)
        if isinstance(value, str) and name == "tools":
            try:
                value = json.loads(value)
            except ValueError as error:
                raise ValueError(f"{where}: tools is no JSON: {error}") from None
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"{where}: {name} must be a {kind.__name__}; got {shortened(value)}")
        found |= (value if kind is dict else {name: value}) if value else {}
    return found


def conversation(value: Any, where: str, column: str, speaker: str) -> list[dict[str, Any]]:
    """The messages of a value; a string is one, which `speaker` says. Raises ValueError for what is no conversation."""
    if isinstance(value, str):
        return [{"role": speaker, "content": value}]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: {column} must be a list of messages; got {shortened(value)}")
    return [_message(message, f"{where}: message {i} of {column}") for i, message in enumerate(value, start=1)]


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ValueError(f"{where} must be an object with role and content; got {shortened(message)}")
    if "role" not in message and "from" in message:
        speaker = message["from"]
        if not isinstance(speaker, str) or speaker.lower() not in _SPEAKERS:
            raise ValueError(f"{where} is from {shortened(speaker)}; known are {', '.join(_SPEAKERS)}")
        rest = {name: part for name, part in message.items() if name not in ("from", "value")}
        message = {"role": _SPEAKERS[speaker.lower()], "content": message.get("value"), **rest}
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise ValueError(
            f"{where} needs a role, as user or assistant; it has {', '.join(map(str, message)) or 'nothing'}"
        )
    if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
        raise ValueError(f"{where} needs a content, a string; got {shortened(content)}")
    return dict(message)
