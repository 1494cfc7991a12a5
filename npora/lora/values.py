"""What the fields of a config may hold. PEFT's fields mean the same in every method that has them, so this goes by
their names, and a method's config is little more than a list of fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from npora.files.kinds import called, is_of_kind
from npora.files.refusal import shortened
from npora.lora.pattern import check_expression, is_plain

_NAMED_APART = ("r", "alpha", "dropout", "rank_pattern", "alpha_pattern")  # their errors say for which layer
_MOST_EXPRESSIONS = 500
_EXPRESSIONS = ("target_modules", "exclude_modules", "feedforward_modules")
# The type of a field of PEFT's that npora knows by name and refuses where it asks for something: where its value is
# neither empty nor the default, which PEFT writes into every file.
Unsupported = Any


def refuse_unsupported(config: Any) -> None:
    """Raise ValueError, by name, where a field that npora does not support asks for something."""
    for f in fields(config):
        value = getattr(config, f.name)
        if f.type == "Unsupported" and value and value != f.default:
            raise ValueError(
                f"{type(config).__name__}: {f.name}={shortened(value)} is not supported by npora; leave it out"
            )


def check_values(config: Any) -> None:
    """Raise ValueError where a value makes no sense: the rank, a scale (`…alpha`), a probability (`…dropout`), patterns
    of these, `layers_to_transform` with `layers_pattern`, and whatever is True or False or one of a Literal's."""
    hints = get_type_hints(type(config))
    for f in fields(config):
        if f.name in ("rank_pattern", "alpha_pattern") and f.type != "Unsupported":
            if not isinstance(getattr(config, f.name), Mapping):
                raise ValueError(f"{f.name} must be a dict by patterns; got {shortened(getattr(config, f.name))}")
    for f in fields(config):
        if f.type == "Unsupported":
            continue
        value = getattr(config, f.name)
        if not f.name.endswith(_NAMED_APART) and not is_of_kind(value, str(f.type)):
            raise ValueError(f"{f.name} must be {called(str(f.type))}; got {shortened(value)}")
        _check_expressions(f.name, value)
        for where, value in _with_patterns(config, f):
            least = 0 if f.default == 0 else 1  # 0 where another field says how large
            if f.name == "r" and (not is_of_kind(value, "int") or value < least):
                told = f"the rank must be a whole number of at least {least}"
                raise ValueError(f"{told}; got {shortened(value)} for {where}")
            if f.name.endswith("alpha") and not is_of_kind(value, "float"):
                raise ValueError(f"{f.name} must be a finite number; got {shortened(value)} for {where}")
            if f.name.endswith("dropout") and not (isinstance(value, int | float) and 0 <= value < 1):
                raise ValueError(f"{f.name} must lie in [0, 1); got {shortened(value)}")
            if (choices := get_args(hints[f.name])) and get_origin(hints[f.name]) is Literal and value not in choices:
                named = ", ".join(map(repr, choices[:-1]))
                raise ValueError(f"{f.name} must be {named} or {choices[-1]!r}; got {shortened(value)}")
    if getattr(config, "layers_to_transform", None) == []:  # as PEFT has it
        config.layers_to_transform = None
    layers = getattr(config, "layers_to_transform", None)
    if layers is None and getattr(config, "layers_pattern", None):
        raise ValueError("layers_pattern needs layers_to_transform")
    if layers is not None and isinstance(config.target_modules, str):
        raise ValueError("layers_to_transform needs target_modules as a list of names, not a regular expression")


def _check_expressions(name: str, value: Any) -> None:
    """Raise ValueError where a regular expression is none."""
    if name in ("rank_pattern", "alpha_pattern"):
        expressions = list(value)
    elif name == "layers_pattern":
        expressions = [value] if isinstance(value, str) else list(value or ())
    else:
        expressions = [value] if name in _EXPRESSIONS and isinstance(value, str) else []
    if sum(1 for expression in expressions if not is_plain(expression)) > _MOST_EXPRESSIONS:
        raise ValueError(f"{name} holds more than {_MOST_EXPRESSIONS:,} regular expressions that are no plain names")
    for expression in expressions:
        try:
            check_expression(expression)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _with_patterns(config: Any, f: Field[Any]) -> Iterator[tuple[str, Any]]:
    """Yield a field's value under its name, and those that patterns give it for some layers under the patterns."""
    yield f.name, getattr(config, f.name)
    pattern = "rank_pattern" if f.name == "r" else "alpha_pattern" if f.name.endswith("alpha") else ""
    patterns = getattr(config, pattern, {})
    yield from patterns.items() if isinstance(patterns, Mapping) else ()
