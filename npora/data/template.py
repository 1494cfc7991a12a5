"""A chat as one text, by the template of its model: a program in Jinja, which runs in a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np

from npora.files.refusal import shortened

Message = Mapping[str, Any]
Span = tuple[int, int]

REASONING = ("reasoning_content", "thinking", "reasoning")  # what a message's thoughts are called, the usual name first
_OLDEST = (3, 1, 6)  # older versions of jinja2 let a template out of the sandbox
_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
_BARE: dict[type, Any] = {str: str.__str__, int: int.__int__, float: float.__float__}  # of a subclass's value
_TRACKED: ContextVar[tuple[list[str], list[Span]] | None] = ContextVar("assistant_tracker", default=None)


def render(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool | str = False,
    **variables: Any,
) -> tuple[str, list[Span]]:
    """The text of a chat, and which characters of it stand between {% generation %} and {% endgeneration %}.

    Text and spans are those of transformers. A template sees plain data alone, whatever it is given.

    add_generation_prompt : the text ends where the assistant is to begin
    continue_final_message : the text ends where the last message does, without what ends a turn; a str names the part
        of the message that is to be continued, `content` unless given
    variables : what the template reads besides: tools, documents, the tokens that begin and end a text, switches of
        its own such as enable_thinking

    Raises
    ------
    ValueError: the template refuses the chat, as with raise_exception, or fails on it; it has no place for the message
    that is to be continued.  TypeError: a message that is no dict.  ImportError: jinja2 is missing.
    """
    program = _compiled(template)
    chat = [_message(message) for message in messages]
    if continue_final_message:
        part = continue_final_message if isinstance(continue_final_message, str) else "content"
        last = _tag(chat, part, template)
    blocks: list[str] = []
    spans: list[Span] = []
    given = {"tools": None, "documents": None, **plain(variables)}
    try:
        with _tracking(blocks, spans):
            for block in program.generate(messages=chat, add_generation_prompt=add_generation_prompt, **given):
                blocks.append(block)
    except Exception as error:  # the template is a program of a stranger's: it may fail in any way
        raise ValueError(_refused(error, chat)) from None
    text = "".join(blocks)
    return (_continued(text, last) if continue_final_message else text), spans


def _refused(error: Exception, chat: Sequence[Message]) -> str:
    roles = ", ".join(str(message.get("role")) for message in chat[:8]) + ", …" * (len(chat) > 8)
    how = "refuses" if type(error).__name__ == "TemplateError" else f"fails ({type(error).__name__}) on"
    return f"the chat template {how} these messages ({roles or 'none'}): {shortened(str(error), 300)}"


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TypeError(f"a message is a dict with role and content; got {type(message).__name__} {shortened(message)}")
    known = {name: value for name, value in plain(message).items() if value is not None}
    thoughts = next((known[name] for name in REASONING if name in known), None)
    return known if thoughts is None else {"thinking": thoughts, **known, REASONING[0]: thoughts}


def plain(value: Any) -> Any:
    """The value as JSON has it: an object of another kind could have methods that the sandbox does not know."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind, bare in _BARE.items():
        if isinstance(value, kind):
            return bare(value)
    if isinstance(value, Mapping):
        return {plain(name): plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    return plain(value.item()) if isinstance(value, np.generic) else f"<{type(value).__name__}>"


def _tag(chat: list[dict[str, Any]], part: str, template: str) -> str:
    """Mark the end of the last message, and return its text."""
    if not chat or (text := chat[-1].get(part)) is None:
        raise ValueError(f"continue_final_message: there is no last message with {part!r} to continue")
    names = [name for name in REASONING if chat[-1].get(name) == text] if part in REASONING else [part]
    if not any(name in template for name in names):
        raise ValueError(f"continue_final_message: the chat template does not read {part!r} of a message")
    if isinstance(text, list | tuple):
        block = next((block for block in reversed(text) if isinstance(block, dict) and "text" in block), None)
        if block is None:
            raise ValueError("continue_final_message: the last message has no text to continue")
        text = block["text"]
        block["text"] = text + _TAG
    else:
        for name in names:
            chat[-1][name] = text + _TAG
    return str(text)


def _continued(text: str, last: str) -> str:
    """The text up to the mark. Where a template takes away the space at its end, so do we before it."""
    place = text.rfind(_TAG.strip())
    if place < 0 or last.strip() not in text:
        raise ValueError("continue_final_message: the chat template does not show the end of the last message")
    return text[:place] if text.startswith(_TAG, place) else text[:place].rstrip()


@contextmanager
def _tracking(blocks: list[str], spans: list[Span]) -> Iterator[None]:
    token = _TRACKED.set((blocks, spans))
    try:
        yield
    finally:
        _TRACKED.reset(token)


def has_generation(template: str) -> bool:
    """Whether the template itself says what the assistant writes."""
    return re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None


@lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    """The template as a program, in the environment that transformers gives it."""
    try:
        import jinja2
        import jinja2.ext
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ImportError('a chat template needs the jinja2 package: pip install "npora[hf]"') from None
    if tuple(int(part) for part in re.findall(r"\d+", jinja2.__version__)[:3]) < _OLDEST:
        raise ImportError(
            f'jinja2 {jinja2.__version__} is too old to run a template safely: pip install "jinja2>=3.1.6"'
        )

    class Generation(jinja2.ext.Extension):
        """{% generation %} … {% endgeneration %}: notes which characters are between them."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_noted"), [], [], body).set_lineno(line)

        @jinja2.pass_eval_context
        def _noted(self, context: Any, caller: Any) -> str:
            inner = str(caller())
            if (tracked := _TRACKED.get()) is not None:
                start = sum(map(len, tracked[0]))
                tracked[1].append((start, start + len(inner)))
            return inner

    class Namespace(jinja2.utils.Namespace):
        """Has no attribute that begins with an underscore, which would lead out of the sandbox."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, values = args[0], dict(*args[1:], **kwargs)
            for name in values:
                _refuse_hidden(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_hidden(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

    def _refuse_hidden(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace has no {name!r}")

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _Dict(), "namespace": Namespace,
    }  # fmt: skip
    try:
        return environment.from_string(template)
    except jinja2.exceptions.TemplateError as error:
        raise ValueError(f"the chat template is no Jinja: {error}") from None


class _Dict:
    """`dict` in a template, without the attributes of a class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
