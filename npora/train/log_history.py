"""What a run has logged, in little memory however long it is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, MutableSequence
from typing import Any, overload

from npora.nn.readable import Readable

Entry = dict[str, Any]

_WHOLE = 2**53  # whole numbers up to this are floats to the last digit


class LogHistory(Readable, MutableSequence[Entry]):
    """A list of dicts, as transformers' log_history, but that each is made anew when it is asked for: to change one,
    put another in its place.

    Entries of numbers alone, as nearly all are, are kept as examples of floats, 40 bytes for a step, under their names
    and kinds; any other is kept as it is.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._kinds: dict[tuple[tuple[str, type], ...], int] = {}
        self._numbers: list[array[float]] = []  # of each kind, one entry's behind the other's
        self._others: list[Entry] = []
        self._kind, self._place = array("h"), array("q")  # of each entry; the kind −1 is that of the others
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        if all(type(v) is float or (type(v) is int and abs(v) <= _WHOLE) for v in entry.values()) and entry:
            key = tuple((name, type(value)) for name, value in entry.items())
            kind = self._kinds.setdefault(key, len(self._kinds))
            if kind == len(self._numbers):
                self._numbers.append(array("d"))
            self._kind.append(kind)
            self._place.append(len(self._numbers[kind]))
            self._numbers[kind].extend(map(float, entry.values()))
        else:
            self._kind.append(-1)
            self._place.append(len(self._others))
            self._others.append(entry)

    def __len__(self) -> int:
        return len(self._kind)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        kind, place = self._kind[index], self._place[index]
        if kind < 0:
            return self._others[place]
        names = list(self._kinds)[kind]
        numbers = self._numbers[kind][place : place + len(names)]
        return {name: kind_of(number) for (name, kind_of), number in zip(names, numbers, strict=True)}

    def __setitem__(self, index: Any, value: Any) -> None:
        entries = list(self)
        entries[index] = value
        self.__init__(entries)  # type: ignore[misc]

    def __delitem__(self, index: Any) -> None:
        entries = list(self)
        del entries[index]
        self.__init__(entries)  # type: ignore[misc]

    def insert(self, index: int, value: Entry) -> None:
        entries = list(self)
        entries.insert(index, value)
        self.__init__(entries)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | LogHistory) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self))
