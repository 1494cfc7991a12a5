"""Ollama's Modelfile: where a model is, how a conversation is written out for it, and what ends an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from npora.data import Tokenizer

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]
_SYSTEM, _USER, _ANSWER, _MORE = "§system§", "§user§", "§answer§", "§more§"
_QUOTES = '"""'


class Pieces(NamedTuple):
    """What stands around the texts of a conversation: [before_system S after_system | before_user] U after_user A end.

    system : the text that stands there where a conversation has none of its own, or None
    """

    before_system: str
    after_system: str
    before_user: str
    after_user: str
    end: str
    system: str | None

    @property
    def template(self) -> str:
        """The same in the language of Go's templates, as Ollama fills it in for each turn."""
        system, after, user, answer, end = (part.replace("{{", '{{ "{{" }}') for part in self[:5])
        return (
            f"{{{{ if .System }}}}{system}{{{{ .System }}}}{after}{{{{ else }}}}{user}{{{{ end }}}}"
            f"{{{{ .Prompt }}}}{answer}{{{{ .Response }}}}{end}"
        )


def modelfile(name: str, tokenizer: Tokenizer, ends: Sequence[int]) -> tuple[str, str | None]:
    """The file's text, and what it cannot say, or None.

    name : of the file of the model, beside it; ends : the ids at which the model stops

    Raises
    ------
    ImportError: the model has a chat template, and jinja2 is missing.
    """
    lines, missing = [f"FROM ./{name}"], None
    template = tokenizer.chat_template
    if isinstance(template, str):
        puts_bos = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        found = pieces_of(renderer(template, tokenizer), str(tokenizer.bos_token) if puts_bos else "")
        if found is None or _QUOTES in "".join(filter(None, found)):
            missing = (
                "the Modelfile has no TEMPLATE: what the model's chat template writes is not the same text around each "
                "turn, as Ollama's has it; Ollama looks at the one in the .gguf file"
            )
        else:
            lines.append(f"TEMPLATE {_QUOTES}{found.template}{_QUOTES}")
            lines += [f"SYSTEM {_QUOTES}{found.system}{_QUOTES}"] if found.system else []
    texts = dict.fromkeys(str(tokenizer.convert_ids_to_tokens(number)) for number in ends)
    lines += ['PARAMETER stop "' + text.replace('"', '\\"') + '"' for text in texts]
    return "\n".join(lines) + "\n", missing


def renderer(template: str, tokenizer: Tokenizer) -> Render:
    """What writes out messages as transformers does, by a template of Jinja that runs in its sandbox."""
    try:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ImportError('a chat template needs the jinja2 package: pip install "npora[hf]"') from None

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda format: ""}
    try:
        compiled = environment.from_string(template)
    except TemplateError as error:
        raise ValueError(f"the chat template is not one of Jinja: {error}") from None
    roles = {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token or ""}

    def render(messages: Messages, prompt: bool) -> str:
        try:
            return str(compiled.render(messages=messages, add_generation_prompt=prompt, tools=None, **roles))
        except (TemplateError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
            raise ValueError(f"the chat template: {error}") from None

    return render


def pieces_of(render: Render, bos: str) -> Pieces | None:
    """What a template puts around texts, from what it makes of a few; None where that is not the same every time.

    bos : what the program that runs the model puts before a text by itself
    """
    system, user, answer, more = (
        {"role": role, "content": text}
        for role, text in (("system", _SYSTEM), ("user", _USER), ("assistant", _ANSWER), ("user", _MORE))
    )
    try:
        before, after_user, between, again = _between(render([user, answer, more], True), _USER, _ANSWER, _MORE)
        end = _between(render([user, answer], False), _USER, _ANSWER)[2]
    except ValueError:
        return None
    before_user = between.removeprefix(end)
    before = before.removeprefix(bos)
    if again != after_user or not between.startswith(end) or not before.endswith(before_user):
        return None
    try:
        start, after_system, after = _between(render([system, user], True), _SYSTEM, _USER)
    except ValueError:  # of a model that knows no system
        start, after_system, after = before_user, "\n\n", after_user
    start = start.removeprefix(bos)
    if after != after_user:
        return None
    standing = None
    if before != before_user:
        if not (before.startswith(start) and before.endswith(after_system) and len(before) > len(start + after_system)):
            return None
        standing = before[len(start) : len(before) - len(after_system)]
    return Pieces(start, after_system, before_user, after_user, end, standing)


def _between(text: str, *marks: str) -> list[str]:
    """What stands before, between and behind marks that stand in a text once each, in this order. Raises ValueError
    where they do not."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise ValueError(f"{mark} does not stand there once")
        parts.append(before)
    return [*parts, text]


def stop_ids(model: Any) -> list[int]:
    """The ids at which a model's answers end."""
    said: Any = None
    for place in (getattr(model, "generation_config", None), model.config):
        said = getattr(place, "eos_token_id", None) if said is None else said
    return [] if said is None else [said] if isinstance(said, int) else list(said)
