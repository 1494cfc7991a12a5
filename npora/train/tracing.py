"""Where numbers stop being finite: the first module of a step whose output or gradient holds nan or inf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from npora.nn import Module
from npora.nn.evaluating import Seen, watching
from npora.nn.module import Array, Parameter
from npora.train.batches import Batch
from npora.train.micro_batches import losses_and_gradient, pieces
from npora.train.objective import inner
from npora.train.state import trainable


def first_not_finite(
    model: Module,
    batches: Iterable[tuple[list[int], Batch]],
    rng: np.random.Generator,
    tokens_at_once: int,
) -> str:
    """Say where in a step numbers stop being finite.

    The step is computed once more, a micro-batch at a time, with the same generator and so with the same dropout, while
    each module's forward and backward is looked at. Of a module within another the inner one is the first, and so the
    name is as narrow as modules are. The gradients that the parameters have are left as they are.
    """
    named = trainable(inner(model))
    parameters = list(named.values())
    before = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        for numbers, batch in batches:
            at = 0
            for piece, own in pieces(batch, rng, tokens_at_once):
                examples, at = numbers[at : at + len(_first(piece))], at + len(_first(piece))
                if found := _of_a_piece(model, piece, own):
                    shown = ", ".join(map(str, examples[:16])) + (", …" if len(examples) > 16 else "")
                    return f"{found} (with the dataset's examples {shown})"
        if any(not is_finite(parameter.grad) for parameter in parameters):
            return "the sum of the gradients of its micro-batches, each of which is finite"
        bad = [name for name, gradient in zip(named, before, strict=True) if not is_finite(gradient)]
        what = f"the gradient of {bad[0]}" if bad else "the norm of all gradients"
        return f"{what}, and in each module nothing where the step is computed again"
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def is_finite(value: Any) -> bool:
    """Whether all numbers in it are finite: in an array, a number, what a model returns, or a collection of these."""
    with np.errstate(over="ignore", invalid="ignore"):  # of finite numbers a sum may overflow
        return all(np.isfinite(array.sum()) or np.isfinite(array).all() for array in _floats(value))


def _of_a_piece(model: Module, piece: Mapping[str, Any], rng: np.random.Generator | None) -> str:
    """The first that is not finite in a micro-batch; "" where there is none."""
    found: list[str] = []

    def see(seen: Seen) -> None:
        if not found and not is_finite(seen.made):
            found.append(_said(seen))

    with np.errstate(over="ignore", invalid="ignore"):
        with watching(inner(model), see):
            loss, _ = losses_and_gradient(model, piece, rng)
        return found[0] if found else "" if np.isfinite(loss) else f"the loss of finite outputs, {loss}"


def _said(seen: Seen) -> str:
    name = f"{seen.path} ({type(seen.module).__name__})" if seen.path else f"the model's ({type(seen.module).__name__})"
    what = f"the {seen.what} of {name}" if seen.path else f"{name} own {seen.what}"
    arrays = list(_floats(seen.given))
    given = "what it is given" if seen.what == "output" else "the gradient that it is given"
    if not is_finite(arrays):
        given = f", and {given} is not finite either, by what stands between it and other modules"
    elif arrays:
        largest = max(float(np.abs(array).max(initial=0)) for array in arrays)
        given = f", while {given} is finite, {largest:.3g} at the most"
    else:
        given = ""
    own = [(name, member) for name, member in seen.module.named_members() if isinstance(member, Parameter)]
    bad = [name for name, member in own if not is_finite(np.asarray(member.data))]
    return f"{what}{given}" + (f"; its {', '.join(bad)} holds nan or inf" if bad else "")


def _floats(value: Any, depth: int = 3) -> Iterator[Array]:
    """The arrays of floats in a value, among what it holds too; a float as an array without axes."""
    if isinstance(value, np.ndarray | np.generic | float):
        array = np.asarray(value)
        if array.dtype.kind in "fc":
            yield array
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _floats(item, depth - 1)
    elif depth and isinstance(value, dict):
        yield from _floats(list(value.values()), depth - 1)
    elif depth and hasattr(value, "logits"):  # what a model returns; what is computed when asked for is not asked for
        yield from _floats(list(vars(value).values()), depth - 1)


def _first(piece: Mapping[str, Any]) -> Any:
    return next(array for array in piece.values() if array is not None)
