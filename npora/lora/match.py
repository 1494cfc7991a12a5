"""Which modules a config means: names match on whole path components, and a name that matches nothing is an error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from npora.lora.config import PeftConfig
from npora.lora.methods import adaptable, method_of
from npora.lora.names import fits_pattern, is_named, names_match
from npora.lora.pattern import matches, number_after
from npora.lora.values import PATTERNS
from npora.nn.linear import Linear
from npora.nn.module import Module

# Under which names PEFT looks for the head of a task's models; classification_head is T5's, which PEFT is told of by
# modules_to_save.
TASK_HEADS: dict[str | None, tuple[str, ...]] = {
    "SEQ_CLS": ("classifier", "score", "classification_head"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
_NUMBER = re.compile(r"\b(\d{1,9})(?:\.|$)")
PEFTS_HEADS = ("classifier", "score", "qa_outputs")


def target_paths(model: Module, config: PeftConfig, lenient: bool = False) -> list[str]:
    """Find the paths of the modules that get an adapter.

    lenient : pass over what matches nothing, for the config of an adapter that is there: its tensors say what it is on

    Raises
    ------
    ValueError: a name, pattern or layer number that matches no module (near names are listed), or matches a module
    that the method does not go on.
    """
    paths = {path: module for path, module in model.named_modules() if path}
    heads = set(saved_paths(model, config, lenient))
    outside = {path for path in paths if any(path == head or path.startswith(head + ".") for head in heads)}
    targets = config.target_modules or []
    if isinstance(targets, str):
        if targets.lower() == "all-linear":
            last = getattr(model, "output_embeddings", None)  # the projection to the vocabulary stays out, as in PEFT
            chosen = [path for path, module in paths.items() if isinstance(module, Linear) and path != last]
        else:
            chosen = [path for path in paths if matches(targets, path)]
            if not chosen and not lenient:
                raise ValueError(f"target_modules: the pattern {targets!r} matches no module{_near('', paths)}")
    else:
        for name in () if lenient else targets:
            if not any(names_match(name, path) for path in paths):
                raise ValueError(f"target_modules: '{name}' matches no module{_near(name, paths)}")
        named = frozenset(targets)
        chosen = [path for path in paths if is_named(named, path)]
    if lenient:
        chosen = [path for path in chosen if method_of(config, paths[path]) is not None]
    else:
        _refuse_others(chosen, paths, config)
    if getattr(config, "layers_to_transform", None) is not None:
        chosen = _only_layers(chosen, config, lenient)
    excluded = config.exclude_modules
    if excluded is not None:
        left_out = excluded if isinstance(excluded, str) else frozenset(excluded)
        chosen = [path for path in chosen if not is_named(left_out, path)]
    chosen = [path for path in chosen if path not in outside]
    if lenient:
        return chosen
    for field in PATTERNS:
        for pattern in getattr(config, field, None) or ():
            if not any(fits_pattern(pattern, path) for path in chosen):
                raise ValueError(f"{field}: '{pattern}' matches none of the {len(chosen)} target modules")
    if not chosen:
        raise ValueError("target_modules: no module is left to adapt after the exclusions")
    return chosen


def saved_paths(model: Module, config: PeftConfig, lenient: bool = False) -> list[str]:
    """Find the paths of the modules that are trained whole: `modules_to_save`; the head of a classification task; what
    the model's class says is `saved_along` with one of them; and what was drawn because the checkpoint has none, since
    nothing else could bring it back."""
    paths = [path for path, _ in model.named_modules() if path]
    heads = TASK_HEADS.get(config.task_type, ())
    named = [name for name in config.modules_to_save or () if name not in heads]
    for name in () if lenient else named:
        if not any(names_match(name, path) for path in paths):
            raise ValueError(f"modules_to_save: '{name}' matches no module{_near(name, paths)}")
    names = {*named, *heads}
    along = [other for name in names for other in getattr(model, "saved_along", {}).get(name, ())]
    wanted = frozenset((*names, *along))
    chosen = [path for path in paths if is_named(wanted, path)]
    if heads and not lenient and not any(names_match(head, path) for head in heads for path in chosen):
        raise ValueError(
            f"task_type {config.task_type} trains a head named {' or '.join(heads)}, and the model has "
            "none: leave task_type out, and name its head in modules_to_save"
        )
    chosen += [path for path in drawn_modules(model) if path in paths]
    return [path for path in paths if path in chosen and not any(path.startswith(other + ".") for other in chosen)]


def drawn_modules(model: Any) -> tuple[str, ...]:
    """Return the paths of the modules that a model drew because its checkpoint has none."""
    return tuple(model.newly_initialized_modules()) if hasattr(model, "newly_initialized_modules") else ()


def bias_mode(config: PeftConfig) -> str:
    """Say which of the base's biases are trained: "none", "all", or the targets' "only" (PEFT's lora_only, …)."""
    mode = str(getattr(config, "bias", "none"))
    return mode if mode in ("none", "all") else "only"


def _only_layers(chosen: list[str], config: Any, lenient: bool) -> list[str]:
    wanted = config.layers_to_transform
    numbers = {wanted} if isinstance(wanted, int) else set(wanted or ())
    patterns = config.layers_pattern
    names = [name for name in ([patterns] if isinstance(patterns, str) else patterns or ()) if name]
    layer_of = {path: number for path in chosen if (number := _layer_of(path, names)) is not None}
    for number in () if lenient else sorted(numbers):
        if number not in layer_of.values():
            known = ", ".join(str(n) for n in sorted(set(layer_of.values()))) or "none"
            raise ValueError(f"layers_to_transform: there is no layer {number} among the targets; they are in: {known}")
    whole = frozenset(config.target_modules or ())  # PEFT asks a module that is named by its whole path for no layer
    return [path for path in chosen if path in whole or layer_of.get(path) in numbers]


def _layer_of(path: str, names: list[str]) -> int | None:
    """Return the first number in a path, or after the first of these names that has one after it."""
    if not names:
        return int(found[1]) if (found := _NUMBER.search(path)) else None
    return next((number for name in names if (number := number_after(name, path)) is not None), None)


def _refuse_others(chosen: Iterable[str], paths: Mapping[str, Module], config: PeftConfig) -> None:
    for path in chosen:
        if method_of(config, paths[path]) is None:
            kinds = adaptable(config)
            raise ValueError(
                f"target_modules: '{path}' is a {type(paths[path]).__name__}; an adapter of a {type(config).__name__} "
                f"goes on {' or '.join(filter(None, (', '.join(kinds[:-1]), kinds[-1])))} modules"
            )


def _near(name: str, paths: Iterable[str]) -> str:
    leaves = sorted({path.rsplit(".", 1)[-1] for path in paths if not path.rsplit(".", 1)[-1].isdigit()})
    near = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=3, cutoff=0.5)
    return f"; near names: {', '.join(near)}" if near else f"; modules end in: {', '.join(leaves)}"
