"""Arrays in tuples, lists, dicts and dataclasses: where they are, what they are called, how one is replaced."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One step into a structure, and how code writes it."""

    key: Any
    text: str


Path = tuple[Step, ...]


def parts(value: Any) -> dict[Step, Any] | None:
    """What a structure holds, in order; None of what is none."""
    if isinstance(value, Mapping):
        return {Step(key, f"[{key!r}]"): part for key, part in value.items()}
    if isinstance(value, list | tuple):
        fields = getattr(value, "_fields", ())
        texts = (f".{fields[k]}" if fields else f"[{k}]" for k in range(len(value)))
        return {Step(k, text): part for k, (text, part) in enumerate(zip(texts, value, strict=True))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {Step(field.name, f".{field.name}"): getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Whatever is no structure, with the way to it."""
    held = parts(tree)
    if held is None:
        yield path, tree
    else:
        for step, part in held.items():
            yield from leaves(part, (*path, step))


def written(path: Path) -> str:
    """As code would write it: [0]['a'].weight"""
    return "".join(step.text for step in path)


def at(tree: Any, path: Path) -> Any:
    """What a path leads to."""
    for step in path:
        tree = getattr(tree, step.key) if step.text.startswith(".") and isinstance(step.key, str) else tree[step.key]
    return tree


def replaced(tree: Any, path: Path, leaf: Any) -> Any:
    """A structure with another leaf; nothing that was given is changed."""
    if not path:
        return leaf
    key, part = path[0].key, replaced(at(tree, path[:1]), path[1:], leaf)
    if isinstance(tree, tuple):
        items = [part if k == key else item for k, item in enumerate(tree)]
        return type(tree)._make(items) if hasattr(tree, "_make") else tuple(items)
    if isinstance(tree, MutableMapping | list):
        changed: Any = copy.copy(tree)
        changed[key] = part
        return changed
    if isinstance(tree, Mapping):
        return {**tree, key: part}
    changed = copy.copy(tree)
    object.__setattr__(changed, key, part)  # a frozen dataclass too
    return changed


def with_leaves(tree: Any, change: Callable[[Path, Any], Any]) -> Any:
    """A structure whose leaves are changed, itself where none is."""
    for path, leaf in list(leaves(tree)):
        changed = change(path, leaf)
        if changed is not leaf:
            tree = replaced(tree, path, changed)
    return tree
