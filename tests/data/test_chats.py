"""Conversations in files."""

from __future__ import annotations

import json
from pathlib import Path

from npora.data.chats import read_chats


def test_what_a_conversation_has_for_its_template_goes_to_it(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "b"}
    rows = [
        {"prompt": "a", "messages": [said], "tools": '[{"name": "f"}]', "chat_template_kwargs": {"thinking": False}},
        {"prompt": "a", "messages": [said], "tools": None, "documents": [], "chat_template_kwargs": {}},
    ]
    (tmp_path / "chats.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first, second = read_chats(tmp_path / "chats.jsonl", "messages", "prompt")
    assert first["messages"] == second["messages"] == [{"role": "user", "content": "a"}, said] and first["first"] == 1
    assert first["variables"] == {"tools": [{"name": "f"}], "thinking": False} and second["variables"] == {}
