"""The labels of a file: classes by number or by name, numbers to fit, or several classes of one text."""

from __future__ import annotations

import difflib
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.files.refusal import shortened

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)  # pandas writes 1.0 where a column has a gap
_PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")


class Labels:
    """Takes the labels as a file has them, each with its place, and gives their numbers when all are there. Of each
    label it keeps one, with the first of its places."""

    def __init__(self, num_labels: int | None, label2id: Mapping[str, int] | None, problem_type: str | None) -> None:
        if problem_type not in _PROBLEMS:
            raise ValueError(f"problem_type must be one of {', '.join(map(str, _PROBLEMS))}; got {problem_type!r}")
        self.problem_type = problem_type or ("regression" if num_labels == 1 else "single_label_classification")
        self.num_labels = num_labels if num_labels is not None or label2id is None else len(label2id)
        self.label2id = None if label2id is None else dict(label2id)
        self._given: list[tuple[Any, str]] = []  # the distinct ones
        self._known_places: dict[Any, int] = {}  # where they are among these
        self._places = array("q")  # of every label

    def add(self, value: Any, where: str) -> None:
        key = type(value), repr(value) if isinstance(value, list | dict) else value
        if (place := self._known_places.get(key)) is None:
            place = self._known_places[key] = len(self._given)
            self._given.append((value, where))
        self._places.append(place)

    def numbers(self) -> Sequence[Any]:
        """An int for each label; a float in regression; a list of floats where a text has several classes.

        Raises
        ------
        ValueError: what is none of these, with its place.
        """
        distinct, places = self._numbered(self._given), np.frombuffer(self._places, np.int64)
        if self.problem_type == "regression":
            return array("d", np.array(distinct, np.float64)[places].tobytes())
        if self.problem_type == "single_label_classification" and all(abs(label) < 2**62 for label in distinct):
            return array("q", np.array(distinct, np.int64)[places].tobytes())
        return [distinct[place] for place in self._places]

    def faults(self) -> Iterator[str]:
        """All that numbers() would refuse: each such label, the first of its places, and how many more there are."""
        examples, left = Counter(self._places), list(enumerate(self._given))
        while True:
            try:
                self._numbered([given for _, given in left])
                return
            except ValueError as error:
                said = str(error)
            place = next((place for place, (_, where) in left if said.startswith(f"{where}: ")), None)
            yield (
                said
                if place is None or examples[place] < 2
                else f"{said}; and so in {examples[place] - 1:,} more examples"
            )
            if place is None:
                return
            left = [item for item in left if item[0] != place]

    def _numbered(self, given: list[tuple[Any, str]]) -> list[Any]:
        if self.problem_type == "regression":
            return [_number(value, where) for value, where in given]
        if self.problem_type == "multi_label_classification":
            return self._several(given)
        return self._classes(given)

    def _classes(self, given: list[tuple[Any, str]]) -> list[int]:
        """The number of each class. Whether labels are names or numbers holds for the whole file."""
        if self.label2id is not None and any(_name(value) in self.label2id for value, _ in given):
            return [self._known(value, where) for value, where in given]
        names = [(value, where) for value, where in given if isinstance(value, str) and not _is_whole(value)]
        if not names:
            return [self._in_range(_class(value, where), where) for value, where in given]
        if self.label2id is None and (broken := next((n for n in names if _is_number(n[0])), None)) is not None:
            raise _no_class(*broken)
        if len(names) < len(given):
            whole = next((value, where) for value, where in given if (value, where) not in names)
            raise ValueError(
                f"{names[0][1]}: the label {shortened(names[0][0])} is not a whole number, and {shortened(whole[0])} "
                f"({whole[1]}) is no name: labels are all numbers from 0 on, or all names"
            )
        if self.label2id is not None:
            return [self._known(value, where) for value, where in given]
        blank = next((where for value, where in names if not value.strip()), None)
        if blank is not None:
            raise ValueError(f"{blank}: the label is empty")
        found = sorted({value for value, _ in names})
        bare: dict[str, str] = {}
        for name in found:
            if (other := bare.setdefault(name.strip(), name)) != name:
                where = next(where for value, where in names if value == name)
                raise ValueError(
                    f"{where}: the label {shortened(name)} differs from {shortened(other)} by spaces alone"
                )
        if self.num_labels is not None and len(found) > self.num_labels:
            where = next(where for value, where in names if value == found[self.num_labels])
            raise ValueError(
                f"{where}: {len(found)} labels that are not a whole number are the names of as many classes, and "
                f"num_labels is {self.num_labels}: {', '.join(map(shortened, found[:8]))}"
            )
        self.label2id = {name: number for number, name in enumerate(found)}
        return [self.label2id[value] for value, _ in names]

    def _known(self, value: Any, where: str) -> int:
        names = self.label2id or {}
        if (name := _name(value)) in names:
            return names[name]
        near = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join([*names][:20])}"
        raise ValueError(f"{where}: the label {shortened(value)} is the name of no class; {hint}")

    def _in_range(self, label: int, where: str) -> int:
        if label < 0 or (self.num_labels is not None and label >= self.num_labels):
            most = " or more" if self.num_labels is None else f" … {self.num_labels - 1}"
            raise ValueError(f"{where}: the label {label} is out of range; labels are 0{most}")
        return label

    def _several(self, given: list[tuple[Any, str]]) -> list[list[float]]:
        for value, where in given:
            if not isinstance(value, list):
                raise ValueError(f"{where}: labels are a JSON list of 0 and 1, or of names; got {shortened(value)}")
        flat = [(part, where) for value, where in given for part in value]
        named = any(isinstance(part, str) for part, _ in flat)
        if named or (self.label2id is not None and not flat):  # none of the texts has a class
            flat_numbers = iter(self._classes(flat))
            classes = [{next(flat_numbers) for _ in value} for value, _ in given]
            width = self.num_labels or len(self.label2id or {})
            return [[float(i in chosen) for i in range(width)] for chosen in classes]
        width = self.num_labels if self.num_labels is not None else max((len(v) for v, _ in given), default=0)
        for value, where in given:
            if len(value) != width or any(isinstance(part, bool) or part not in (0, 1) for part in value):
                raise ValueError(
                    f"{where}: labels are {width} times 0 or 1, one for each class; got {shortened(value)}"
                )
        return [[float(part) for part in value] for value, _ in given]


def _name(value: Any) -> str:
    return value if isinstance(value, str) else "" if isinstance(value, bool) else str(value)


def _is_whole(text: str) -> bool:
    return _WHOLE.fullmatch(text.strip()) is not None


def _is_number(text: str) -> bool:
    """Whether a text says a number, a nan or an infinity: a name of a class it is not, but by mistake."""
    return math.isfinite(_read(text)) or text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")


def _class(value: Any, where: str) -> int:
    """A whole number, also where it is written 1.0."""
    if isinstance(value, str) and _is_whole(value) and len(value) < 20:
        return int(value.strip().partition(".")[0])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _no_class(value, where)


def _no_class(value: Any, where: str) -> ValueError:
    hint = ""
    if isinstance(value, bool):
        hint = " (write 1 for true and 0 for false)"
    elif isinstance(value, list):
        hint = " (a text has several classes in a multi_label_classification: name that as problem_type)"
    elif isinstance(value, float | str):
        hint = ", and no name of a class (num_labels=1, a regression, fits numbers)"
    return ValueError(f"{where}: the label {shortened(value)} is not a whole number{hint}")


def _number(value: Any, where: str) -> float:
    if not math.isfinite(number := _read(value)):
        raise ValueError(f"{where}: the label {shortened(value)} is not a number to fit")
    return number


def _read(value: Any) -> float:
    """The number that a value is or says; nan where it says none."""
    try:
        return math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
