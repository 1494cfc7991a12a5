"""A module printed as the tree of what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from npora.machine.stored import form_of
from npora.nn.parameter import Parameter
from npora.nn.readable import brief, laid_out


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


def described(own: Sequence[tuple[str, Parameter]], attributes: dict[str, Any]) -> Iterator[str]:
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
