"""Objects print what they are: one line where that fits, no dump of their numbers, and a module as a tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.machine.stored import form_of

WIDTH = 100  # columns
_FEW = 12  # numbers of an array, or items of a list, that are shown


class Readable:
    """An object prints as Class(name=value, …), of its public attributes or of what `said` yields in their place.

    A dataclass that inherits from this one prints so, too.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__repr__" not in vars(cls):
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # or @dataclass would write its own

    def said(self) -> Iterator[str]:
        """Yield what stands between the brackets, item by item."""
        fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else None
        for name in vars(self) if fields is None else [field.name for field in fields if field.repr]:
            if not name.startswith("_") and hasattr(self, name):
                yield f"{name}={brief(getattr(self, name))}"

    def __repr__(self) -> str:
        return laid_out(type(self).__name__, self.said())


def laid_out(name: str, items: Iterable[str]) -> str:
    """Write name(item, item, …), over as many lines as it takes."""
    lines, rest = [f"{name}("], list(items)
    for place, item in enumerate(rest):
        item += ", " if place + 1 < len(rest) else ")"
        if len(lines[-1]) + len(item.rstrip()) > WIDTH:
            lines.append("  ")
        lines[-1] += item
    return "\n".join(line.rstrip() for line in lines) if rest else f"{name}()"


def named_tuple(value: Any) -> str:
    """Print a NamedTuple; this is to be its __repr__."""
    return laid_out(type(value).__name__, (f"{name}={brief(item)}" for name, item in value._asdict().items()))


def brief(value: object, depth: int = 2) -> str:
    """Describe a value shortly: an array by type and shape unless it has few numbers, a long list by its length."""
    if isinstance(value, float | np.floating):
        return min(str(value), f"{value:.6g}", key=len) if value % 1 else str(value)
    if isinstance(value, np.generic):
        return str(value)
    if isinstance(value, np.ndarray):
        if value.size > _FEW or value.dtype.kind == "O":
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return " ".join(np.array2string(value, precision=4, separator=", ").split()).replace("[ ", "[")
    if isinstance(value, str | bytes):
        text = repr(value)
        return text if len(text) <= 72 else f"{text[:56]}…{text[-12:]}"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _collection(value, depth)
    if hasattr(value, "__qualname__"):  # a function or a class
        return str(value.__qualname__)
    text = "" if type(value).__repr__ is object.__repr__ else repr(value)
    short = 0 < len(text) <= 72 and "\n" not in text and " at 0x" not in text
    return text if short else f"{type(value).__name__}(…)"


def _collection(value: Any, depth: int) -> str:
    kind, few = type(value).__name__, len(value) <= _FEW and depth > 0
    if not few:
        return f"{kind} of {len(value)}"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{brief(key, 0)}: {brief(item, depth - 1)}" for key, item in value.items()) + "}"
    else:
        left, right = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        text = left + ", ".join(brief(item, depth - 1) for item in items) + comma + right
    return text if len(text) <= 72 else f"{kind} of {len(value)}"


def tree(module: Any, plain: Callable[[Any], str]) -> str:
    """Print a module: its class, what it says of itself, and its children by name, of which those that are alike stand
    once, with their number. A module with a __repr__ of its own, and not the `plain` one, says what that says.

    Under a tree stands how many numbers there are in all, each parameter counted once, and how many are trained.
    """
    text = _text(module, plain)
    if "\n" not in text:
        return text
    parameters = list(module.parameters())
    trained = sum(parameter.size for parameter in parameters if parameter.requires_grad)
    return f"{text}  # {sum(parameter.size for parameter in parameters):,} parameters, {trained:,} trainable"


def described(own: Sequence[tuple[str, Any]], attributes: dict[str, Any]) -> Iterator[str]:
    """Yield a layer's own parameters with shape, dtype unless float32, and state; then its plain settings."""
    states = ["trainable" if parameter.requires_grad else "frozen" for _, parameter in own]
    alike = len(set(states)) == 1
    for (name, parameter), state in zip(own, states, strict=True):
        dtype = "" if (form := form_of(parameter.data)) == "float32" else f" {form}"
        yield f"{name} [{','.join(map(str, parameter.shape))}]{dtype}{'' if alike else ' ' + state}"
    if alike:
        yield states[0]
    for name, value in attributes.items():
        if not name.startswith("_") and name != "training" and _is_plain(value):
            yield f"{name}={brief(value)}"


def _is_plain(value: object) -> bool:
    """Say whether a value is a number or word that says something, or a few of them by name."""
    if isinstance(value, dict):
        return bool(value) and all(_is_plain(item) for item in value.values())
    return isinstance(value, str | bool | int | float | np.number) and value is not False and value != ""


def _text(module: Any, plain: Callable[[Any], str]) -> str:
    own: Any = type(module).__repr__
    if own is not plain:
        return repr(module)
    name, said = type(module).__name__, module.extra_repr()
    lines = [
        f"({path}): {text}"
        for path, text in _folded([(path, _text(child, plain)) for path, child in module.named_children()])
    ]
    if not lines:
        return laid_out(name, [said]) if said else f"{name}()"
    return "\n".join([f"{name}(", *(_indented(line) for line in ([said] if said else []) + lines), ")"])


def _folded(texts: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Join neighbours of a list that print alike: layer.0-11, 12 x BertLayer(…)."""
    place = 0
    while place < len(texts):
        path, text = texts[place]
        owner, _, number = path.rpartition(".")
        end = place + 1
        while number.isdigit() and texts[end : end + 1] == [(f"{owner}.{int(number) + end - place}", text)]:
            end += 1
        count = end - place
        yield (f"{path}-{int(number) + count - 1}", f"{count} x {text}") if count > 1 else (path, text)
        place = end


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ").join(("  ", ""))
