"""Write the backward yourself: exercises that npora.check judges. In a notebook:

    from npora.study import exercise

    exercise.names()                              # what there is
    print(exercise.statement("softmax"))          # what is asked
    exercise.check("softmax", my_backward)        # right; or what is wrong, and where
    exercise.hint("softmax", 1)                   # the first of three

`npora exercise` does the same with files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from npora.study import sheet
from npora.study.attempt import NotRun, load, told_of
from npora.study.exercises import EXERCISES, Exercise
from npora.study.judge import Outcome, judge

HINTS = 3


def names() -> list[str]:
    """The names of the exercises, in the order in which they build on each other."""
    return list(EXERCISES)


def statement(name: str) -> str:
    """The file that an exercise begins with: the statement, the forward, and what is to be written."""
    return sheet.sheet(_of(name))


def hint(name: str, step: int) -> str:
    """The hint number `step`, 1 to 3, each of which says more.

    Raises
    ------
    ValueError: there is no such exercise, or no such hint.
    """
    exercise = _of(name)
    if step not in range(1, HINTS + 1):
        raise ValueError(f"an exercise has the hints 1 to {HINTS}; got {step}")
    return exercise.hints[step - 1]


def check(name: str, function: Callable[..., Any]) -> Outcome:
    """Judge a function as the answer to an exercise: right, wrong, or not to be run.

    function : called as the statement says, `backward(dy, x, …)`; it runs in this process, as any function does

    Raises
    ------
    ValueError: there is no such exercise.
    """
    return judge(_of(name), function)


def check_file(path: str) -> Outcome:
    """Judge the answer in a file, which says as EXERCISE which one it is of.

    Raises
    ------
    OSError: there is no such file.
    """
    try:
        defined = load(path)
        name = defined.get("EXERCISE", Path(path).stem)
        if not isinstance(name, str) or name not in EXERCISES:
            raise NotRun(f"{path} says by EXERCISE of no exercise that it answers it: EXERCISE = {name!r}")
        exercise = EXERCISES[name]
        if exercise.hole not in defined:
            raise NotRun(f"{path} defines no function {exercise.hole}")
        changed = _changed(exercise, defined.get(name), path)
    except NotRun as error:
        return Outcome(Path(path).stem, 2, (str(error),))
    outcome = judge(exercise, defined[exercise.hole])
    return Outcome(outcome.exercise, outcome.code, (*outcome.says, *changed))


def _changed(exercise: Exercise, function: Any, path: str) -> list[str]:
    """Whether the file's forward is no longer the exercise's."""
    if not exercise.forward or not callable(function):
        return []
    inputs, constants = exercise.draw(0)
    with told_of(path), np.errstate(all="ignore"):
        same = np.array_equal(function(*inputs, **constants), exercise.forward(*inputs, **constants))
    return [] if same else [f"{exercise.name} in {path} was changed; judged by is the one that it began with"]


def _of(name: str) -> Exercise:
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[name]
