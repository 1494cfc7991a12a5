"""Which of the things that a backward returned is the gradient of which input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.check.trees import Path, Step, at, leaves, parts, written

Places = dict[Path, Path | None]


class Mismatch(ValueError):
    """What was returned is not built as the inputs are."""


@dataclass(frozen=True)
class Arguments:
    """A subject's positional inputs and those arrays among them that have a gradient.

    labels : what the code calls each input; paths : the ways to the arrays, by name; order : the arguments in the
    signature's order, by their place among the inputs, None for a keyword
    """

    inputs: Sequence[Any]
    labels: Sequence[str]
    paths: Mapping[str, Path]
    order: Sequence[int | None] = ()

    def located(self, returned: Any) -> dict[str, Path | None]:
        """Where in `returned` each array's gradient is, by name; None where None stands for it.

        A backward returns the gradient of the one input that has one; or a tuple, with one for each input, or for each
        of those that have one. The gradient of a structure is a structure like it, by the same rules.

        Raises
        ------
        Mismatch: says what was expected and what came.
        """
        roots = {path[0] for path in self.paths.values()}
        if isinstance(returned, tuple | list):
            try:
                found = self._paired(self.inputs, (), returned, (), self.order)
            except Mismatch:
                if len(roots) != 1 or parts(self.inputs[next(iter(roots)).key]) is None:
                    raise
                found = self._below(roots, returned)
        elif len(roots) == 1 or returned is None:
            found = self._below(roots, returned)
        else:
            raise self._wrong_number(returned, self.paths)
        return {name: found[path] for name, path in self.paths.items()}

    def _below(self, roots: set[Step], returned: Any) -> Places:
        """What was returned is the gradient of one input, or None of all."""
        found: Places = {}
        for root in roots:
            found |= self._matched(self.inputs[root.key], (root,), returned, ())
        return found

    def _matched(self, tree: Any, path: Path, given: Any, place: Path) -> Places:
        wanted = {each for each in self.paths.values() if each[: len(path)] == path}
        if not wanted and any(_is_something(leaf) for _, leaf in leaves(given)):
            raise Mismatch(f"backward returned a gradient for {self.label(path)}, which has none: return None there")
        if not wanted or given is None:
            return dict.fromkeys(wanted)
        if path in wanted:
            return {path: place}
        if isinstance(tree, list | tuple) and isinstance(given, list | tuple):
            return self._paired(tree, path, given, place)
        came = {step.key: step for step in parts(given) or {}}
        if isinstance(tree, list | tuple) or isinstance(given, list | tuple) or not came:
            raise Mismatch(
                f"backward returned a {type(given).__name__} as the gradient of {self.label(path)}, expected a "
                f"{type(tree).__name__} like it, with the gradients of its arrays"
            )
        found: Places = {}
        for step, part in (parts(tree) or {}).items():
            there = came.get(step.key)
            value, inner = (None, place) if there is None else (at(given, (there,)), (*place, there))
            found |= self._matched(part, (*path, step), value, inner)
        return found

    def _paired(
        self, tree: Sequence[Any], path: Path, given: Sequence[Any], place: Path, order: Sequence[int | None] = ()
    ) -> Places:
        """Item by item: one for each, for each that has a gradient, for these among Nones, or by the signature."""
        held, came = list(parts(tree) or {}), list(parts(given) or {})
        inside = [step for step in held if any(each[: len(path) + 1] == (*path, step) for each in self.paths.values())]
        kept = [step for step in came if given[step.key] is not None]
        if len(came) == len(held):
            pairs = list(zip(held, came, strict=True))
        elif len(came) == len(inside):
            pairs = list(zip(inside, came, strict=True))
        elif len(kept) == len(inside):
            pairs = list(zip(inside, kept, strict=True))
        elif len(came) == len(order) and all(step.key in order for step in inside):
            pairs = [(held[k], step) for k, step in zip(order, came, strict=True) if k is not None]
        else:
            raise self._wrong_number(given, [self.label((*path, step)) for step in inside])
        found: Places = {}
        for step, there in pairs:
            found |= self._matched(tree[step.key], (*path, step), given[there.key], (*place, there))
        return found

    def label(self, path: Path) -> str:
        """What code would write for an array in an input: x[0]['a']"""
        place: int = path[0].key
        return self.labels[place] + written(path[1:])

    def _wrong_number(self, returned: Any, names: Sequence[str] | Mapping[str, Any]) -> Mismatch:
        found = [g for g in (returned if isinstance(returned, tuple | list) else (returned,)) if g is not None]
        whole = any(isinstance(x, np.ndarray) and x.dtype.kind in "iub" for x in self.inputs)
        return Mismatch(
            f"backward returned {len(found)} gradients, expected {len(names)}: one for each floating-point input "
            f"({', '.join(names) or 'there is none'}){'; for integers return None' if whole else ''}"
        )


def _is_something(value: Any) -> bool:
    try:
        return value is not None and bool(np.any(value))
    except (TypeError, ValueError):
        return True
