"""What the assistant writes in a chat: where its turns are in the rendered text, and the tokens that are learnt.

A template is a program, and says nothing of where a message comes to stand: it may trim it, put other text around it,
leave out what the assistant thought in earlier turns. So the places are found by rendering again. For a chat m with the
text R, and its message i, which is the assistant's, let

    P = the text of the messages before i, with add_generation_prompt     (what the model sees before it answers)
    F = the text of the messages up to i
    F′, R′ = F, R with a mark in the place of what message i says

The turn begins behind P, where P begins R                                                              (1)
It ends where F and F′ begin to be equal from behind, where F begins R                                  (2)
Else R and R′ say it: they differ from the message's first character that is shown up to its last, and the turn begins
where R last ends as P does, before that                                                                (3)
What F and F′ have in common from behind is what the template puts behind a message, the turn's end in it    (4)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from npora.data.collate import IGNORED
from npora.data.completions import Ends, end_ids
from npora.data.template import Message, render
from npora.data.tokenizer import Tokenizer

ASSISTANT = "assistant"
_CHANCE = 4  # letters at the end of two texts that may be the same by chance
Show = Callable[[Sequence[Message], bool], str]


class Turn(NamedTuple):
    """Characters of a rendered chat: [start, stop) are the assistant's, and [stop, limit) what is put behind them."""

    start: int
    stop: int
    limit: int


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    max_length: int | None = None,
    eos_token_id: Ends = None,
    *,
    first: int = 0,
    chat_template: str | None = None,
    **variables: Any,
) -> dict[str, list[int]]:
    """`input_ids` of a chat, as apply_chat_template gives them, and `labels`: −100 but at what the assistant writes.

    Each turn of the assistant is learnt from the end of the generation prompt to the token that ends it, that token
    included. A token is learnt where one of its characters is. Of a template that ends no turn with a token of its own
    the chat is given one at its end. Beyond max_length the end is cut off.

    eos_token_id : tokens at which generation stops, the tokenizer's eos_token unless given. Where a template puts none
        of them behind a turn, the last special token there is taken for its end
    first : the number of the first message that is learnt. A message with "weight": 0 is not learnt either
    variables : for the template: tools, documents, enable_thinking, …

    Raises
    ------
    ValueError, TypeError, ImportError: as apply_chat_template.
    """
    ids, labels, _ = learnt_turns(tokenizer, messages, eos_token_id, first, chat_template, variables)
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def learnt_turns(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    eos_token_id: Ends = None,
    first: int = 0,
    chat_template: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> tuple[list[int], list[int], set[int]]:
    """Ids and labels of a chat, whole, and the tokens that end the turns in it that are learnt."""
    given = {**tokenizer.special_tokens_map, **(variables or {})}
    template = tokenizer.get_chat_template(chat_template, given.get("tools"))

    def show(some: Sequence[Message], prompt: bool) -> str:
        return render(template, some, add_generation_prompt=prompt, **given)[0]

    text, turns = assistant_turns(show, messages, first)
    ids, spans = tokenizer.encode_spans(text)
    labels = [IGNORED] * len(ids)
    special, ends = tokenizer.special_ids, set(end_ids(tokenizer, eos_token_id, needed=False))
    taught: set[int] = set()
    for turn in turns:
        own = [k for k, (start, stop) in enumerate(spans) if stop > turn.start and start < turn.stop]
        behind = [k for k, (start, stop) in enumerate(spans) if start >= turn.stop and start < stop <= turn.limit]
        end = next((k for k in behind if ids[k] in ends), None)
        if end is None:
            end = next((k for k in reversed(behind) if ids[k] in special), None)
        if end is not None:
            taught.add(ids[end])
            behind = [k for k in behind if k <= end]
        elif turn.limit < len(text):  # another message follows, which says by itself that this one is over
            behind = []
        for k in [*own, *behind]:
            labels[k] = ids[k]
        if end is None and turn.limit == len(text):
            last = end_ids(tokenizer, eos_token_id)[0]
            ids, labels = [*ids, last], [*labels, last]
            taught.add(last)
    return ids, labels, taught


def assistant_turns(show: Show, messages: Sequence[Message], first: int = 0) -> tuple[str, list[Turn]]:
    """The text of a chat and the turns in it of the assistant, from the message of number `first` on.

    show : the text of messages, and with True the prompt of the assistant behind them
    """
    text = show(messages, False)
    turns: list[Turn] = []
    for i, message in enumerate(messages):
        if i >= first and message.get("role") == ASSISTANT and message.get("weight") != 0:
            turn = _turn(show, messages, i, text, turns[-1].stop if turns else 0)
            turns += [] if turn is None or turn.start == turn.limit else [turn]
    return text, turns


def _turn(show: Show, messages: Sequence[Message], i: int, text: str, after: int) -> Turn | None:
    """The turn that is message i, behind `after`; None where the template does not show it."""
    before, is_last = messages[:i], i == len(messages) - 1
    mark = next(letter for k in count(0xE000) if (letter := chr(k)) not in text)  # of those that no script has
    marked = _marked(messages[i], mark)
    prompt = _tried(show, before, True)
    upto = text if is_last else _tried(show, messages[: i + 1], False)
    other = _tried(show, [*before, marked], False)
    behind = 0 if upto is None or other is None else _common_start(upto[::-1], other[::-1])
    tail = (upto or "")[len(upto or "") - behind :]  # (4)
    is_prompt = prompt is not None and text.startswith(prompt)
    if is_prompt and upto is not None and text.startswith(upto):
        start, stop = len(prompt or ""), len(upto) - len(tail)  # (1) (2)
        if other is not None and mark in other:
            return Turn(start, max(start, stop), len(upto))
        if start < len(upto):  # what is shown is nothing that the message says: the id of a call
            return Turn(start, start, len(upto))
    changed = show([*before, marked, *messages[i + 1 :]], False)
    if mark not in changed:
        return None
    start = _common_start(text, changed)  # (3)
    stop = max(start, len(text) - _common_start(text[::-1], changed[::-1]))
    if is_prompt:
        start = min(start, len(prompt or ""))  # (1)
    else:
        start = _behind_prompt(show, before, prompt, text, after, start)
    limit = len(text) if is_last else stop + _common_start(tail, text[stop:])  # (4)
    return Turn(start, stop, limit)


def _behind_prompt(show: Show, before: Sequence[Message], prompt: str | None, text: str, after: int, start: int) -> int:
    """Where between `after` and `start` what stands before ends as the prompt does, on the longest stretch; `start`
    where that is no longer than the prompt's own words to the assistant, or than chance."""
    without = _tried(show, before, False)
    if not prompt or without is None:
        return start
    header = prompt[len(without) :] if prompt.startswith(without) else ""
    longest, place = max(len(header), _CHANCE), start
    for end in range(after + 1, start + 1):
        same = _common_start(text[:end][::-1], prompt[::-1]) if text[end - 1] == prompt[-1] else 0
        if same >= longest:
            longest, place = same, end
    return place


def _tried(show: Show, messages: Sequence[Message], prompt: bool) -> str | None:
    """None where the template refuses a part of a chat, as one that ends with a system message."""
    try:
        return show(messages, prompt)
    except ValueError:
        return None


def _common_start(one: str, other: str) -> int:
    """How many letters two texts begin with that are the same."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _marked(message: Message, mark: str) -> dict[str, Any]:
    """The message with a mark in the place of each text that it says, in its calls of tools too."""
    marked = {**message, "content": mark}
    if isinstance(parts := message.get("content"), list):
        marked["content"] = [{**part, "text": mark} if "text" in part else part for part in parts]
    if calls := message.get("tool_calls"):
        marked["tool_calls"] = [_marked_call(call, mark) for call in calls]
    return marked


def _marked_call(call: Mapping[str, Any], mark: str) -> dict[str, Any]:
    if isinstance(function := call.get("function"), Mapping):
        return {**call, "function": _marked_call(function, mark)}
    return {**call, "name": mark, "arguments": _marked_leaves(call.get("arguments"), mark)}


def _marked_leaves(value: Any, mark: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _marked_leaves(part, mark) for name, part in value.items()}
    return [_marked_leaves(part, mark) for part in value] if isinstance(value, list) else mark
