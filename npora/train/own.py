"""What a user's own functions and objects are, as far as it can be told: so that a resumed run is given the same."""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from npora.data.fingerprint import fingerprint, text_of
from npora.optim import Optimizer
from npora.train.plain import plain

_SETTINGS = (str, bool, int, float, np.ndarray, np.generic)


def told(thing: Any) -> Any:
    """A name, and the settings beside it, in a form that JSON can hold.

    Of a function it is its qualified name (what the function does is not looked into), and the numbers, texts and
    arrays that it was made with, as its defaults or around it, where there are any; of a partial one its arguments too;
    of an array its SHA-256; of an object its class's name, and of a dataclass its fields.
    """
    if isinstance(thing, functools.partial):
        named = {name: told(value) for name, value in thing.keywords.items()}
        return [told(thing.func), *map(told, thing.args), named]
    if isinstance(thing, list | tuple):
        return [told(value) for value in thing]
    if is_dataclass(thing) and not isinstance(thing, type):
        return [type(thing).__qualname__, {field.name: told(getattr(thing, field.name)) for field in fields(thing)}]
    if thing is None or isinstance(thing, str | bool | int | float):
        return plain(thing)
    if isinstance(thing, np.ndarray | np.generic):
        array = np.asarray(thing)
        numbers = text_of(array) if array.dtype.hasobject else array.tobytes()
        return hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode() + numbers).hexdigest()
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    made_with = [told(value) for value in _made_with(thing) if isinstance(value, _SETTINGS)]
    return [name, *made_with] if made_with else name


def _made_with(function: Any) -> Iterator[Any]:
    """The defaults of a function, and what is around it, as far as that is there yet and it does not change it."""
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()
    if cells := getattr(function, "__closure__", None):
        code = function.__code__
        changed = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF"}
        for name, cell in zip(code.co_freevars, cells, strict=True):
            with suppress(ValueError):
                if name not in changed:
                    yield cell.cell_contents


def all_told(
    collator: Any, loss: Any, optimizer: Optimizer | None, rates: Sequence[float] | None, schedule: Any
) -> dict[str, Any]:
    """What decides the numbers of a training, by the names that it is compared under.

    An optimiser is told by its class, the numbers and texts that it has, and its groups with the rates that they came
    with. What a schedule gives is compared by itself (see optimizer.py).
    """
    found: dict[str, Any] = {"data_collator": told(collator), "compute_loss_func": told(loss)}
    if optimizer is not None:
        groups = zip(optimizer.param_groups, rates or (), strict=True)
        kept = {name: value for name, value in vars(optimizer).items() if isinstance(value, str | bool | int | float)}
        of_groups = [{**group, "params": len(group["params"]), "lr": rate} for group, rate in groups]
        found["optim"] = [type(optimizer).__name__, *([kept] if kept else []), *of_groups]
    if schedule is not None:
        found |= {"lr_scheduler_type": "a function of the step", "lr_scheduler_kwargs": None, "warmup_steps": None}
    return found


def told_evaluation(data: Any, metrics: Any) -> dict[str, Any]:
    """What an evaluation is of, and what it measures."""
    several = data if isinstance(data, Mapping) else {"": data}
    found = {name: fingerprint(one) for name, one in several.items()}
    return {"eval_dataset": found if several is data else found[""], "compute_metrics": told(metrics)}
