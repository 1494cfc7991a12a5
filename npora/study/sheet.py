"""The file that an exercise begins with: what it is about, the forward, and an empty backward."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

from npora.study.exercises.declared import LETTERS, Exercise, Function

_ANNOTATION = re.compile(r": (?:Array|float|int|tuple\[int, \.\.\.\])|(?: -> [^:]+)(?=:$)", re.MULTILINE)


def sheet(exercise: Exercise) -> str:
    """The text of the file."""
    given = f"{source(exercise.forward)}\n\n\n" if exercise.forward else ""
    imports = "import numpy as np" + (f"\n\n{exercise.imports}" if exercise.imports else "")
    return f'"""{statement(exercise)}\n"""\n\n{imports}\n\nEXERCISE = "{exercise.name}"\n\n\n{given}{hole(exercise)}'


def statement(exercise: Exercise) -> str:
    """What is asked: enough to solve it."""
    parts = [f"{exercise.name}: {exercise.says}"]
    parts.append(_asked(exercise) if exercise.forward else _written(exercise))
    constants = [f"{name}{x.shape}" for name, x in exercise.arguments.items() if name not in exercise.inputs]
    if constants and exercise.forward:
        is_constant = "stands behind * and is a constant" if len(constants) == 1 else "stand behind *: constants"
        parts.append(f"{', '.join(constants)} {is_constant}, without a gradient.")
    letters = sorted(
        {letter for x in exercise.arguments.values() for letter in x.axes.split()} | {*exercise.dy.split()}
    )
    if letters:
        parts.append("Axis letters: " + ", ".join(f"{letter} {LETTERS[letter]}" for letter in letters) + ".")
    parts.append("Write to none of the arrays that you are given; NumPy is all you need.")
    lines = ["\n".join(textwrap.wrap(part, 100)) for part in parts]
    lines.append(f"    npora exercise check {exercise.name}.py\n    npora exercise hint {exercise.name}")
    return "\n\n".join(lines)


def _written(exercise: Exercise) -> str:
    """What a function that is no backward returns."""
    wanted = f"({', '.join(exercise.wanted)})" if len(exercise.wanted) > 1 else exercise.wanted[0]
    return f"Write {exercise.hole}, which returns {wanted}; its docstring says what it is called with, and the formula."


def _asked(exercise: Exercise) -> str:
    """What backward gets, and what it is to return."""
    upstream = exercise.solution.__code__.co_varnames[0]
    axes = f" [{exercise.dy.replace(' ', ',')}]" if exercise.dy else ", one number as an array without axes"
    given = ", ".join(f"{name}{exercise.arguments[name].shape}" for name in exercise.inputs)
    wanted = ", ".join(exercise.wanted)
    value = {"dloss": "ℓ", "df": "f"}.get(upstream, upstream[1:])
    returned = f"({wanted})" if len(exercise.wanted) > 1 else wanted
    return (
        f"Write backward. It gets {upstream}{axes}, the gradient of some loss with respect to {value}, and what the "
        f"forward got: {given}. It returns {returned}, the gradient of the same loss with respect to "
        f"{'each of these' if len(exercise.wanted) > 1 else 'it'}."
    )


def hole(exercise: Exercise) -> str:
    """The function that is to be written, without its body."""
    text = source(exercise.solution)
    head = text[: text.index(":\n") + 1].replace(f"def {exercise.solution.__name__}(", f"def {exercise.hole}(")
    doc = "" if exercise.forward else f'    """{exercise.solution.__doc__}"""\n'
    head = re.sub(r"\(\n\s+(.*)\n\)", r"(\1)", head)
    return f'{head}\n{doc}    raise NotImplementedError("to be written")\n'


def source(function: Function) -> str:
    """A function's text without its annotations, which here say nothing that the axis letters do not."""
    return _ANNOTATION.sub("", textwrap.dedent(inspect.getsource(function))).rstrip()


def page(exercise: Exercise) -> str:
    """Where npora says the same: a file and a name; "" where nothing does."""
    if exercise.page is None:
        return ""
    thing = inspect.unwrap(exercise.page)
    file = Path(inspect.getsourcefile(thing) or "").as_posix()
    return f"npora/{file.rpartition('/npora/')[2]}, {thing.__qualname__}"
